"""Sweeps in one process, whose tables and weights those of every engine must equal."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.helpers.engines import GRID, KFOLD, SEEDS, Sweep


def serial_sweep(name: str, code: int, *settings: str) -> Callable[..., Sweep]:
    """Return a fixture that runs a sweep on the basic launcher, once for all tests."""

    @pytest.fixture(scope="session", name=name)
    def run(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
        sweep = Sweep(tmp_path_factory.mktemp("serial") / "sweep", "basic", *settings)
        sweep.end(code)
        return sweep

    return run


serial_grid = serial_sweep("serial_grid", 1, *GRID)
serial_seeds = serial_sweep("serial_seeds", 0, *SEEDS)
serial_folds = serial_sweep("serial_folds", 0, *KFOLD)
