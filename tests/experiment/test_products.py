"""Every model goes with every debug preset, constraint and augmentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnist_exp.callbacks.display import Terminal
from mnist_exp.experiment.checks import check_parts
from mnist_exp.experiment.fold import Fold, open_directory
from mnist_exp.experiment.parts import build_parts
from mnist_exp.files.shipped_config import config_directory
from mnist_exp.interruption import StopSignals
from mnist_exp.schema import check
from tests.conftest import composed_once


def options(group: str) -> list[str]:
    files = sorted((config_directory() / group).glob("*.yaml"))
    return [file.stem for file in files if not file.stem.startswith("_")]


def begin(directory: Path, *overrides: str) -> None:
    """Compose, check, build and try the first step, as a run does before it begins."""
    config = composed_once(*overrides, "threads=1")
    check(config)
    parts = build_parts(config)
    run = open_directory(parts, directory)
    check_parts(Fold(parts, parts.splits[0], run, StopSignals(), Terminal()), begun=False, said=())


MODELS, DEBUGS = options("model"), (None, *options("debug"))
CONSTRAINTS, AUGMENTATIONS = options("constraint"), (None, *options("augmentation"))
# These numbers have no common divisor, so that each model meets each debug preset within the first
# 15 rows, and each constraint is there twice.
ROWS = [
    {
        "model": MODELS[i % len(MODELS)],
        "debug": DEBUGS[i % len(DEBUGS)],
        "constraint": CONSTRAINTS[i % len(CONSTRAINTS)],
        "augmentation": AUGMENTATIONS[i % len(AUGMENTATIONS)],
    }
    for i in range(2 * len(CONSTRAINTS))
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(map(str, row.values())))
def test_the_first_step_is_taken(tmp_path: Path, row: dict[str, str | None]) -> None:
    begin(tmp_path, *(f"{group}={option}" for group, option in row.items() if option is not None))


def test_each_model_meets_each_debug_preset_and_all_options_occur() -> None:
    met = {(row["model"], row["debug"]) for row in ROWS}
    assert len(met) == len(MODELS) * len(DEBUGS)
    assert {row["constraint"] for row in ROWS} == set(CONSTRAINTS)
    assert {row["augmentation"] for row in ROWS} == set(AUGMENTATIONS)
