"""What all trackers share: the thread they log in, and that they never end or slow a run."""

from __future__ import annotations

import atexit
import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from mnist_exp.errors import UserError
from mnist_exp.interruption import StopSignals
from mnist_exp.run.command_line import shell_word
from mnist_exp.run.config_differences import flat
from mnist_exp.run.saved_config import load_config, training_config
from mnist_exp.terminal import printable
from mnist_exp.trackers.tracked_run import TrackedRun
from mnist_exp.trackers.worker import MOST, Worker
from mnist_exp.train.callback import Callback
from mnist_exp.train.state import Row, TrainState
from mnist_exp.train.training import Training
from mnist_exp.wording import counted

EXIT_SECONDS = 5.0  # to end what an error left open

# Trackers that failed in a run, known by its stop signals: its other folds need not try again.
_given_up: WeakKeyDictionary[StopSignals, set[str]] = WeakKeyDictionary()


class Tracker(Callback):
    """Send what a run measures elsewhere; override the methods from `start` to `where`.

    They are called in a thread of their own, in order, and may be slow. If one raises an
    exception, it is printed as a warning, and nothing more is sent; the run goes on.

    A fold is tracked from its first step to its last. The run over folds, or the only training, is
    tracked until figures, results and best checkpoint are sent.

    Attributes
    ----------
    package : str or None
        The package it needs, as `import` names it.
    extra : str or None
        What to install: the package's name for pip, and an extra of this one.
    patience : float
        Seconds that the end of a training waits for what is not sent yet.
    """

    package: ClassVar[str | None] = None
    extra: ClassVar[str | None] = None
    patience: float = 15.0

    __worker: Worker | None = None
    __run: TrackedRun | None = None
    __training: Training | None = None
    __complete = False
    __settings: str | None = None

    def prepare(self) -> None:
        """Import what is slow to import, in the main thread: it would hold up training."""
        if self.package is not None:
            importlib.import_module(self.package)

    def start(self, run: TrackedRun) -> None:
        """Begin to log a run, or go on with one that was begun before."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log numbers of a step, named ``step/loss``, or of an epoch, ``epoch`` among them.

        ``step`` counts optimizer steps for the former and epochs for the latter.
        """

    def log_rows(self, rows: Sequence[tuple[Mapping[str, float], int]]) -> None:
        """Log several rows at once; calls `log` with each."""
        for metrics, step in rows:
            self.log(metrics, step)

    def image(self, path: Path) -> None:
        """Log a picture, a PNG file."""

    def artefact(self, path: Path) -> None:
        """Log a file, such as the best checkpoint."""

    def finish(self, results: Mapping[str, float], status: str) -> None:
        """Log the final results, if any, and end.

        ``status`` is "completed", "interrupted" (to be resumed) or "failed".
        """

    def where(self) -> str | None:
        """Tell where to look at what was logged; printed at the end of a run."""
        return None

    # What follows are the hooks of a callback, called in the main thread. Two underscores leave
    # all other names to subclasses.

    def check(self, state: TrainState, training: Training, folds: int) -> Iterable[str]:
        """Raise UserError if the tracker's package is not installed."""
        self.__training = training
        try:
            self.prepare()
        except ImportError as error:
            raise UserError(
                f"tracker={self.extra}: needs the package {self.extra}, which this Python does not "
                f"find ({error}). Install it: {shell_word(sys.executable)} -m pip install "
                f"{self.extra}"
            ) from error
        except Exception as error:
            self.__fail(error)
        return ()

    def on_train_start(self, state: TrainState, training: Training) -> None:
        """Start the thread, and tell it the configuration."""
        self.__training = training
        step = state.epoch * training.batches + state.batch * (state.order is not None)
        config = flat(training.config)
        self.__begin(TrackedRun(training.run, training.fold, config, step))

    def on_step_logged(self, state: TrainState, row: Row) -> None:
        """Queue the step's numbers."""
        if self.__worker is not None:
            numbers = {f"step/{key}": row[key] for key in row if key not in ("epoch", "step")}
            self.__worker.add("log", _numbers(numbers), row["step"])

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """Queue the epoch's numbers."""
        assert self.__training is not None, "on_train_start comes first"
        self.__complete = state.finished(self.__training.recipe.epochs)
        if self.__worker is not None:
            self.__worker.add("log", _numbers(row), row["epoch"])

    def close(self) -> None:
        """End a fold's run, or one that stopped early; the only training's ends with the run."""
        run, training, worker = self.__run, self.__training, self.__worker
        if worker is None or run is None or training is None:
            return
        if self.__complete:
            worker.add("artefact", training.run / training.checkpoints / "best.pt")
        status = "interrupted" if training.signals.received is not None else "failed"
        if self.__complete and run.fold is None and training.split is not None:
            atexit.register(self.__end, {}, status, EXIT_SECONDS)  # if `on_run_end` never comes
        else:
            self.__end({}, "completed" if self.__complete else status, self.patience)

    def on_run_end(self, results: Mapping[str, Any], directory: Path) -> None:
        """Send figures and results, and tell where everything is."""
        atexit.unregister(self.__end)
        rows = results["folds"]
        if self.__worker is None:
            config = flat(training_config(load_config(directory, "tracker")))
            self.__begin(TrackedRun(directory, None, config, over_folds=len(rows) > 1))
            if len(rows) == 1:  # resumed after its training, whose end was perhaps not sent
                self.__add("artefact", directory / "checkpoints" / "best.pt")
        for path in sorted((directory / "plots").glob("*.png")):
            self.__add("image", path)
        if self.__end(final_numbers(results), "completed", self.patience):
            where = self.where()
            if where is not None:
                print(f"{self.__name}: {printable(where)}", flush=True)

    @property
    def __name(self) -> str:
        return f"tracker {type(self).__name__}"

    @property
    def __others_given_up(self) -> set[str]:
        if self.__training is None:
            return set()
        return _given_up.setdefault(self.__training.signals, set())

    @property
    def __identity(self) -> str:
        """The class and its settings, which are the same for each fold."""
        if self.__settings is None:
            plain = {k: v for k, v in vars(self).items() if isinstance(v, str | int | float)}
            self.__settings = f"{type(self).__name__} {plain}"
        return self.__settings

    def __add(self, kind: str, *arguments: Any) -> None:
        if self.__worker is not None:
            self.__worker.add(kind, *arguments)

    def __begin(self, run: TrackedRun) -> None:
        self.__run = run
        if self.__has_given_up():
            return
        try:
            self.prepare()
        except Exception as error:  # not checked when a run resumes
            self.__fail(error)
            return
        self.__worker = Worker(self.__work, self.__fail, self.__name)
        self.__worker.add("start", run)

    def __work(self, kind: str, several: list[tuple[Any, ...]]) -> None:
        if kind == "log":
            self.log_rows(several)
        else:
            getattr(self, kind)(*several[0])

    def __end(self, results: Mapping[str, float], status: str, seconds: float) -> bool:
        """End the tracker's run; return whether everything was sent."""
        worker, self.__worker = self.__worker, None
        if worker is None:
            return False
        worker.add("finish", results, status)
        if worker.dropped:
            self.__warn(
                f"{counted(worker.dropped, 'row')} dropped: more than {MOST} waited to be sent"
            )
        if worker.failed:
            return False
        if not worker.stop(seconds):
            if not self.__has_given_up():
                self.__fail(TimeoutError(f"not everything was sent within {seconds:g} s"))
            return False
        return True

    def __has_given_up(self) -> bool:
        return self.__identity in self.__others_given_up

    def __fail(self, error: Exception) -> None:
        self.__others_given_up.add(self.__identity)
        self.__warn(
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]}. Nothing more is sent "
            "to it; the run goes on"
        )

    def __warn(self, sentence: str) -> None:
        fold = "" if self.__run is None or self.__run.fold is None else f"fold {self.__run.fold} | "
        print(f"warning: {fold}{self.__name}: {printable(sentence)}.", file=sys.stderr, flush=True)


def final_numbers(results: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of results.json to compare runs by, such as ``test_accuracy``.

    Over folds they are means, with ``test_accuracy_std`` and each fold's
    ``fold_1.test_accuracy`` beside them.
    """
    numbers: dict[str, float] = {}
    measured = {"accuracy": results["accuracy"], "loss": results["loss"]}
    for name, over_folds in (measured | dict(results.get("metrics", {}))).items():
        numbers[f"test_{name}"] = over_folds["mean"]
        if len(results["folds"]) > 1:
            numbers[f"test_{name}_std"] = over_folds["std"]
    if len(results["folds"]) > 1:
        for row in results["folds"]:
            own = {"accuracy": row["accuracy"], "loss": row["loss"], **row.get("metrics", {})}
            numbers |= {f"fold_{row['fold']}.test_{name}": own[name] for name in own}
    for name in ("parameters", "samples_per_second"):
        numbers[name] = results[name]
    return _numbers(numbers)


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {key: value for key, value in row.items() if isinstance(value, int | float)}
