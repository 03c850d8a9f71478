"""Runs in forked processes that a test can stop, starve of disk or kill at a chosen moment."""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import json
import os
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import forkserver, util
from pathlib import Path
from typing import Any, TextIO

# imported once here, and not in every process again: by cross-validation and torch's optimizers
import sklearn.model_selection  # noqa: F401
import torch
import torch._dynamo
from omegaconf import DictConfig

from mnist_exp.app import hydra_app  # noqa: F401  # imported once, for all processes
from mnist_exp.app.main import main
from mnist_exp.data import load_mnist
from mnist_exp.errors import UserError
from mnist_exp.experiment import pictures, run_report  # noqa: F401  # matplotlib, Jinja2
from mnist_exp.experiment.loaded_data import load_dataset
from mnist_exp.experiment.run import run_experiment
from mnist_exp.interruption import STOPPING, Interrupted, StopSignals
from mnist_exp.plots import sweep  # noqa: F401
from mnist_exp.run.results import read_results
from tests.conftest import composed_once

torch.set_num_threads(1)  # a forked process would wait forever for its parent's threads
# The first backward pass of a process starts autograd's threads for the devices registered by then,
# after which a fork cannot use autograd. torch.export registers some; without it there are none.
torch.ones(1, requires_grad=True).sum().backward()
# Overrides for a run of a few batches.
SMALL = (
    "training.epochs=2",
    "training.batch_size=25",
    "plots.enabled=false",
    "report.enabled=false",
    "threads=1",
)
KFOLD = ("model=mlp100", "cv.n_splits=2", "cv.n_jobs=1", "data.subset=100", *SMALL)
CNN = ("model=cnn21k", "data.subset=100", *SMALL)
LONG = ("model=mlp100", "cv=none", "training.epochs=100000", *SMALL[1:])  # runs until stopped
# Keys that may differ between equal runs: measured times and the commit.
TIMES = ("seconds", "samples_per_second", "wall_seconds", "gradient_seconds", "git_commit")


@functools.cache
def few_images() -> tuple[str, ...]:
    """Write the first 600 training and 200 test images of MNIST; return the overrides to use."""
    directory = Path(tempfile.mkdtemp(prefix="mnist-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    mnist = load_mnist()
    for split, images, labels in (
        ("train", mnist.train_images[:600], mnist.train_labels[:600]),
        ("t10k", mnist.test_images[:200], mnist.test_labels[:200]),
    ):
        for kind, values in (("images-idx3", images), ("labels-idx1", labels.to(images.dtype))):
            header = struct.pack(f">{1 + values.ndim}I", 0x800 + values.ndim, *values.shape)
            (directory / f"{split}-{kind}-ubyte").write_bytes(header + values.numpy().tobytes())
    return "data=idx", f"data.root={directory}"


def composed(*overrides: str, data: tuple[str, ...] | None = None) -> DictConfig:
    """Compose the configuration of a command line; ``data`` defaults to `few_images`."""
    return composed_once(*(data or few_images()), *overrides)


def start(work: Callable[[], object], log: Path | None = None) -> int:
    """Do ``work`` in a forked process and return its id; an unexpected error exits with 70."""
    sys.stdout.flush()
    load_dataset(composed_once())  # the child finds MNIST loaded
    gc.freeze()  # the child's garbage collections pass over, and do not copy, what is here
    process = os.fork()
    if process:
        gc.unfreeze()
        return process
    try:
        os._exit(_do(work, os.devnull if log is None else log))
    finally:  # the child must never go on with the test
        os._exit(70)


def _do(work: Callable[[], object], log: str | Path) -> int:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    open_streams()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    forkserver._forkserver.__init__()  # type: ignore[misc]  # forget the parent's server
    util.spawnv_passfds = spawn_from_here  # type: ignore[assignment]
    try:
        work()
    except Interrupted as interruption:
        return interruption.exit_code
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    except UserError as error:
        print(f"error: {error}")
        return 2
    except BaseException:
        traceback.print_exc()
        return 70
    return 0


def open_streams() -> tuple[TextIO, TextIO]:
    """Write to descriptors 1 and 2 from now on; return what was written to before."""
    before = sys.stdout, sys.stderr
    sys.stdout = open(1, "w", closefd=False, buffering=1)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, buffering=1)  # noqa: SIM115
    return before


spawn = util.spawnv_passfds


def spawn_from_here(path: bytes, arguments: Sequence[Any], descriptors: Sequence[int]) -> int:
    """Stand in for `util.spawnv_passfds`: fork the server of the folds, without new imports."""
    if "forkserver" not in arguments[-1]:
        return spawn(path, arguments, descriptors)
    process = os.fork()
    if process:
        return process
    try:  # as after an exec
        atexit._clear()
        for number in STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        for descriptor in map(int, os.listdir("/proc/self/fd")):
            with contextlib.suppress(OSError):  # the listing's own
                inherited = descriptor < 3 and os.get_inheritable(descriptor)
                if not inherited and descriptor not in descriptors:
                    os.close(descriptor)
        replaced = open_streams()  # noqa: F841  # or their descriptors would be closed again
        forkserver._forkserver.__init__()  # type: ignore[misc]
        exec(arguments[-1], {})
    finally:
        os._exit(0)


def exit_code(process: int) -> int:
    """Wait for a process; return its exit code, or minus the signal number if it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def run_in_process(
    config: DictConfig, directory: Path, prepare: Callable[[], object] = lambda: None
) -> tuple[int, str]:
    """Call ``prepare`` and run an experiment in its own process; return exit code and output."""
    log = directory.with_name(f"{directory.name}.log")

    def work() -> None:
        prepare()
        with StopSignals() as signals:
            run_experiment(config, directory, signals)

    return exit_code(start(work, log)), log.read_text()


def command(
    *arguments: str, cwd: Path, prepare: Callable[[], object] = lambda: None
) -> tuple[int, str]:
    """Run ``python -m mnist_exp`` with arguments; return exit code and output."""
    log = cwd / "command.log"
    return exit_code(start_command(*arguments, cwd=cwd, log=log, prepare=prepare)), log.read_text()


def start_command(
    *arguments: str,
    cwd: Path,
    log: Path | None = None,
    prepare: Callable[[], object] = lambda: None,
) -> int:
    """Start ``python -m mnist_exp`` with arguments and return the process id."""

    def work() -> None:
        os.chdir(cwd)
        sys.argv = ["mnist_exp", *arguments]
        prepare()
        main()

    return start(work, log)


def outcome(directory: Path) -> dict[str, Any]:
    """Return a finished run's results, metrics and leftover files, without the keys `TIMES`."""
    results = read_results(directory)
    assert results is not None
    assert results["status"] == "completed", results.get("error")
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    rows.sort(key=lambda row: (row.get("fold", 0), row["epoch"]))
    left = [path.name for path in directory.rglob("*.tmp")]
    return without_times({"results": results, "metrics": rows, "unfinished files": left})


def without_times(value: Any) -> Any:
    """Drop the keys `TIMES` from results or metrics, at any depth."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in TIMES}
    if isinstance(value, list):
        return [without_times(item) for item in value]
    return value


def kill_at_file_event(number: int, directory: Path) -> Callable[[], None]:
    """Make the process kill itself just before file event ``number``, counted from 0.

    Events are Python's opens, renames, removals and truncations below ``directory``.
    """

    def prepare() -> None:
        left = [number]

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event in FILE_EVENTS and str(arguments[0]).startswith(str(directory)):
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1

        sys.addaudithook(hook)

    return prepare


FILE_EVENTS = ("open", "os.rename", "os.remove", "os.truncate")


def largest_file(size: int, kill: bool) -> Callable[[], None]:
    """Limit files to ``size`` bytes: a write beyond that fails, or kills the process."""

    def prepare() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if kill else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    return prepare


def flip_bit(path: Path, position: int, bit: int = 0) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def status(directory: Path) -> tuple[str | None, str]:
    """Return status and error of a run's results."""
    results = read_results(directory) or {}
    return results.get("status"), results.get("error", "")


def wait_until(condition: Callable[[], object], process: int) -> None:
    """Wait up to a minute for ``condition``; fail if the process ends first."""
    for _ in range(6000):
        if condition():
            return
        assert os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None, "ended"
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    raise AssertionError("condition not met within a minute")
