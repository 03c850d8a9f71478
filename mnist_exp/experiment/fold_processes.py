"""Train folds in parallel processes, each of which builds the shared parts once."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from omegaconf import DictConfig

from mnist_exp.callbacks.display import Display, OfProcess, receive
from mnist_exp.cpu import fork_server
from mnist_exp.cv import Split
from mnist_exp.errors import UserError
from mnist_exp.experiment.fold import Fold, open_directory
from mnist_exp.experiment.parts import Parts, build_parts
from mnist_exp.interruption import STOPPING, Interrupted, StopSignals
from mnist_exp.run.command_line import resume_command
from mnist_exp.run.directory import checkpoint_directories
from mnist_exp.run.lock import LOCK_FILE, DirectoryLock
from mnist_exp.run.outcome import explain
from mnist_exp.terminal import outlive_readers

ORPHAN_SECONDS = 30.0  # for a fold's process to notice that its parent run died
STOP_SECONDS = 30.0  # for a fold to finish its batch and write a checkpoint before it is killed
KILL_SECONDS = 5.0  # for a killed fold's process to exit
POLL_SECONDS = 0.1


def complete_in_processes(
    parts: Parts,
    directory: Path,
    splits: Sequence[Split],
    jobs: int,
    signals: StopSignals,
    display: Display,
) -> None:
    """Train folds to their last epoch in ``jobs`` processes, which leave checkpoints.

    ``display`` shows the progress of all of them.

    Raises
    ------
    Interrupted
        If a signal came. Each active fold has written a checkpoint, or was killed after
        `STOP_SECONDS`.
    UserError
        If a fold failed; the others are stopped and write a checkpoint.
    RuntimeError
        If a bug made a fold fail; its process has printed the traceback.
    """
    running: dict[BaseProcess, Connection] = {}
    failure: Exception | None = None
    deadline = math.inf
    try:
        for first in range(min(jobs, len(splits))):
            with contextlib.suppress(Interrupted):
                _start(running, parts, directory, splits[first::jobs], signals)
        while running:
            stopping = failure is not None or signals.received is not None
            if stopping:
                deadline = min(deadline, time.monotonic() + STOP_SECONDS)
                if time.monotonic() > deadline:
                    print(f"folds that did not stop in {STOP_SECONDS:g} s: killed", file=sys.stderr)
                    break
                for process in running:
                    process.terminate()  # it finishes its batch and writes a checkpoint
            wait([process.sentinel for process in running], POLL_SECONDS)
            ended = [process for process in running if not process.is_alive()]
            for process, receiver in list(running.items()):
                sent = receive(receiver, display)  # also of a fold that stops: it waits for us
                failure = failure or sent
                if process in ended:
                    del running[process]
                    failure = failure or _failure(process, stopping, directory)
    finally:
        display.close()
        _kill(running)
    signals.check()
    if failure is not None:
        raise failure


def _start(
    running: dict[BaseProcess, Connection],
    parts: Parts,
    directory: Path,
    splits: Sequence[Split],
    signals: StopSignals,
) -> None:
    context = fork_server.process_context()
    receiver, sender = context.Pipe(duplex=False)
    # bytes, because multiprocessing shares tensor memory, which disappears when the run ends
    given = (parts.config, parts.in_sweep, directory, pickle.dumps(splits))
    arguments = (*given, torch.get_num_threads(), sender)
    process = context.Process(target=_complete_folds, args=arguments)
    try:
        with signals.at_once():
            process.start()  # blocks if the fork server is suspended
    finally:
        sender.close()
        if process.pid is not None:
            running[process] = receiver  # type: ignore[assignment, unused-ignore]  # of Windows


def wait_for_orphans(run_directory: Path) -> None:
    """Wait until no process of a killed run still trains in the directory; create no files.

    Raises
    ------
    UserError
        If one is still running after `ORPHAN_SECONDS`.
    """
    for directory in checkpoint_directories(run_directory):
        if (directory / LOCK_FILE).exists():
            DirectoryLock(directory, wait=ORPHAN_SECONDS).release()


def _kill(processes: Iterable[BaseProcess]) -> None:
    for process in processes:
        process.kill()
    for process in processes:
        process.join(KILL_SECONDS)
    if any(process.is_alive() for process in processes):
        # They hang in disk I/O, or a suspended fork server does not report their exit. Without
        # this, the run would wait for the server when it exits.
        fork_server.kill()


def _failure(process: BaseProcess, stopping: bool, directory: Path) -> Exception | None:
    """Return why a process failed without a word, or None if it finished or stopped on request."""
    code = process.exitcode
    if code == 0 or (stopping and code in (-signal.SIGTERM, 128 + signal.SIGTERM)):
        return None
    return UserError(
        f"the process of a fold ended with exit code {code}"
        + (" (killed, perhaps for lack of memory: lower cv.n_jobs)" if code == -9 else "")
        + f". Continue with: {resume_command(directory)}"
    )


def _complete_folds(
    config: DictConfig,
    in_sweep: bool,
    directory: Path,
    pickled_splits: bytes,
    threads: int,
    sender: Connection,
) -> None:
    outlive_readers()
    for other in set(STOPPING) - {signal.SIGTERM}:  # the run receives them and sends SIGTERM
        signal.signal(other, signal.SIG_IGN)
    torch.set_num_threads(threads)
    try:
        with StopSignals(numbers=(signal.SIGTERM,)) as signals:
            fork_server.take_signals()
            threading.Thread(target=_stop_with_the_run, daemon=True).start()
            parts = build_parts(config, pickle.loads(pickled_splits), in_sweep)
            run = open_directory(parts, directory)
            for split in parts.splits:
                signals.check()
                with DirectoryLock(run.checkpoints(split.fold), wait=ORPHAN_SECONDS):
                    fold = Fold(parts, split, run, signals, OfProcess(sender))
                    fold.restore(run.newest(split.fold))
                    fold.complete()
    except Interrupted as interruption:
        sys.exit(interruption.exit_code)
    except Exception as error:
        reason = explain(error, directory)
        if reason is not None:
            sender.send(UserError(reason))
            return
        sender.send(RuntimeError(f"a fold failed: {type(error).__name__}: {error}"))
        raise


def _stop_with_the_run() -> None:
    run = multiprocessing.parent_process()
    assert run is not None
    run.join()
    signal.raise_signal(signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os._exit(137)  # the run would have killed it; Windows has no SIGKILL
