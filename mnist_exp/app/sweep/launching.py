"""The process that starts a sweep, and its jobs in other processes: they end together."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnist_exp.app.run_directories import Claim
from mnist_exp.app.sweep.pace import has_page, write_page
from mnist_exp.errors import UserError
from mnist_exp.interruption import StopSignals
from mnist_exp.run.lock import is_locked, last_holder
from mnist_exp.run.sweep_jobs import Row
from mnist_exp.run.sweep_record import begun_jobs, read_job
from mnist_exp.run.sweep_table import print_table, write_table

POLL_SECONDS = 0.5
STOP_SECONDS = 40.0  # for jobs to notice, and finish their batch, also in processes of their folds
LONGEST_REASON = 300  # characters printed of an engine's error
ERROR_FILE = "engine_error.txt"


@contextlib.contextmanager
def tied_to_launcher(sweep_dir: Path, signals: StopSignals) -> Iterator[None]:
    """Ask the job in the block to stop as soon as no process of this machine holds the sweep.

    Jobs of Slurm live on: the queue keeps them. So do those of other machines, where locks may not
    reach; Ray ends these itself.

    Raises
    ------
    Interrupted
        On entry, if the sweep has been stopped already.
    """
    holder = last_holder(sweep_dir)
    alone = holder is None or holder.host != socket.gethostname() or holder.process == os.getpid()
    if alone or os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(POLL_SECONDS):
            with contextlib.suppress(UserError, OSError):
                if not is_locked(sweep_dir):
                    signals.received = signal.SIGTERM
                    return

    if not is_locked(sweep_dir):
        signals.received = signal.SIGTERM
    signals.check()
    watcher = threading.Thread(target=watch, name="launcher watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def stop_jobs(claim: Claim) -> None:
    """Release a sweep, which stops its jobs, and wait until they have written their checkpoints."""
    claim.release()
    if in_queue(claim):
        return
    deadline = time.monotonic() + STOP_SECONDS
    while running_jobs(claim.directory) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS / 5)


def in_queue(claim: Claim) -> bool:
    """Whether the sweep's jobs are in a queue, which keeps them when the launching process ends."""
    return _launcher(claim) == "SlurmLauncher"


def in_this_process(claim: Claim) -> bool:
    """Whether the launching process trains the sweep's jobs itself."""
    return _launcher(claim) == "BasicLauncher"


def _launcher(claim: Claim) -> str:
    assert claim.config is not None
    return str(claim.config.hydra.launcher._target_).rpartition(".")[2]


def running_jobs(sweep_dir: Path) -> list[str]:
    """Return the directories of the jobs that a process holds, relative to the sweep's."""
    running = []
    for number in begun_jobs(sweep_dir):
        with contextlib.suppress(UserError, OSError):
            job = read_job(sweep_dir, number)
            if job is not None and is_locked(sweep_dir / job.directory):
                running.append(job.directory)
    return running


def end_early(claim: Claim, reason: str) -> None:
    """Stop the sweep's jobs; print the table, why the sweep ended, and how to go on with it."""
    stop_jobs(claim)
    try:
        print_table(report(claim.directory, claim.config))
    except (Exception, KeyboardInterrupt) as error:  # the reason is what the user needs to see
        print(f"warning: no table of {claim.directory}: {error}", file=sys.stderr)
    if in_queue(claim):
        reason += "; jobs queued in Slurm go on: squeue lists them, scancel ends them"
    sys.stdout.flush()
    print(f"{reason}\ncontinue with: {claim.command_to_go_on()}", file=sys.stderr)


def engine_reason(error: BaseException, sweep_dir: Path, traceback: str) -> str:
    """Return an engine's error in one line; the whole is written to `ERROR_FILE`."""
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    text = f"stopped: {type(error).__name__}: {first}"[:LONGEST_REASON]
    with contextlib.suppress(OSError):
        (sweep_dir / ERROR_FILE).write_text(traceback, encoding="utf-8")
        text += f" (more in {sweep_dir / ERROR_FILE})"
    return text


def report(sweep_dir: Path, config: Any) -> list[Row]:
    """Write tables, sweep.png and report.html of the jobs now in a directory; return their rows.

    ``config`` is the sweep's configuration.
    """
    from mnist_exp.plots.sweep import draw

    rows = write_table(sweep_dir)
    draw(rows, sweep_dir / "sweep.png")
    if has_page(config):
        write_page(sweep_dir, rows, ended=True)
    return rows
