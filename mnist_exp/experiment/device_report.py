"""What is written of a test on devices: JSON, CSV, a picture, and a table for the terminal."""

from __future__ import annotations

import csv
import io
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mnist_exp.device.programmed import DeviceEvaluation
from mnist_exp.errors import UserError
from mnist_exp.experiment.instantiate import plain_values
from mnist_exp.files.atomic import write_atomic, write_json
from mnist_exp.run.over_folds import mean_and_std
from mnist_exp.run.text_table import shown_accuracy, table_lines
from mnist_exp.terminal import printable
from mnist_exp.wording import counted

NAME = "device_evaluation"  # of the files, without ending
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Tested:
    """Accuracies of one network, in [0, 1].

    Attributes
    ----------
    fold : int or None
        From 1; None for a single split.
    epoch : int
        Of the weights.
    images : int
        Number of test images.
    held : str
        How devices hold the weights, in words.
    before : float
        Of the network as it was trained.
    accuracies : list of list of float
        By repetition and time.
    """

    fold: int | None
    epoch: int
    images: int
    held: str
    before: float
    accuracies: list[list[float]]


def record(
    config: DictConfig, settings: DeviceEvaluation, run: Path, tests: Sequence[Tested]
) -> dict[str, Any]:
    """Return the content of device_evaluation.json.

    Parameters
    ----------
    config : DictConfig
        With ``model`` and ``evaluation``.
    settings : DeviceEvaluation
        Those that ``config.evaluation`` makes.
    run : Path
        The run directory.
    tests : sequence of Tested
        One a fold.
    """
    times = []
    for index, (time, seconds) in enumerate(zip(settings.times, settings.seconds, strict=True)):
        folds = [[row[index] for row in test.accuracies] for test in tests]
        means = [statistics.mean(fold) for fold in folds]
        times.append(
            {
                "time": time,
                "seconds": seconds,
                "accuracy": mean_and_std([value for fold in folds for value in fold]),
                "std_over_folds": statistics.stdev(means) if len(means) > 1 else None,
                "folds": [
                    {"fold": test.fold, **mean_and_std(fold), "accuracies": fold}
                    for test, fold in zip(tests, folds, strict=True)
                ],
            }
        )
    return {
        "schema_version": SCHEMA_VERSION,
        "run": str(run),
        "model": config.model.name,
        "devices": tests[0].held,
        "compensation": settings.compensation,
        "reestimate_batch_norm": settings.reestimate_batch_norm,
        "repetitions": settings.repetitions,
        "networks": len(tests),
        "test_images": [test.images for test in tests],
        "epochs": [test.epoch for test in tests],
        "evaluation": plain_values(config.evaluation),
        "as_trained": mean_and_std([test.before for test in tests]),
        "times": times,
    }


def lines(found: dict[str, Any]) -> list[str]:
    """Format a record for the terminal."""
    many = found["networks"] > 1
    images = " or ".join(sorted({f"{count:,}" for count in found["test_images"]}))
    before = found["as_trained"]
    shown = [("time", "accuracy", *(["std over folds"] * many))]
    for row in found["times"]:
        accuracy, std = row["accuracy"], row["std_over_folds"]
        spread = (f"{std:.2%}",) if many else ()
        shown.append((row["time"], shown_accuracy(accuracy["mean"], accuracy["std"]), *spread))
    tests = counted(found["repetitions"], "repetition")
    over = f"{tests} of each of {found['networks']} folds" if many else tests
    text = [
        f"{found['model']}, {found['run']}",
        f"devices: {found['devices']}",
        f"drift compensation: {found['compensation']}; BatchNorm "
        + ("re-estimated" if found["reestimate_batch_norm"] else "as trained"),
        f"{images} test images, mean +- sample std over {over}; as trained "
        + shown_accuracy(before["mean"], before["std"]),
        *table_lines(shown, str.rjust),
    ]
    return [printable(line) for line in text]


def check_writable(directory: Path) -> None:
    """Raise a UserError if files cannot be written to a directory, which need not exist yet."""
    whole = directory.absolute()
    try:
        with tempfile.TemporaryFile(dir=next(p for p in (whole, *whole.parents) if p.exists())):
            pass
    except OSError as error:
        raise UserError(f"{directory}: cannot be written to ({error.strerror}).") from error


def write(directory: Path, found: dict[str, Any], dpi: int) -> list[Path]:
    """Write a record as JSON, CSV (a row a fold, repetition and time) and PNG; return the files.

    Raises
    ------
    UserError
        If the directory cannot be written to.
    """
    from mnist_exp.plots.device_evaluation import over_time_figure  # loads matplotlib
    from mnist_exp.plots.figures import picture_of

    png = picture_of(over_time_figure(found), dpi)
    paths = [directory / f"{NAME}{ending}" for ending in (".json", ".csv", ".png")]
    try:
        write_json(paths[0], found)
        write_atomic(paths[1], _csv(found).encode())
        write_atomic(paths[2], png)
    except OSError as error:
        raise UserError(f"{directory}: cannot be written to ({error.strerror}).") from error
    return paths


def rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each fold, repetition and time of a record."""
    return [
        {
            "fold": fold["fold"],
            "repetition": number,
            "time": at["time"],
            "seconds": at["seconds"],
            "accuracy": accuracy,
        }
        for at in found["times"]
        for fold in at["folds"]
        for number, accuracy in enumerate(fold["accuracies"], start=1)
    ]


def _csv(found: dict[str, Any]) -> str:
    text = io.StringIO()
    table = rows(found)
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()
