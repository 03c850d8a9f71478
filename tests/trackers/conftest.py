"""Small runs with trackers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnist_exp.experiment.run import run_experiment
from tests.conftest import Compose

SMALL = [
    "model=mlp",
    "model.hidden_sizes=[16]",
    "data.subset=600",
    "training.epochs=2",
    "training.log_every=3",
    "plots.num_samples=4",
    "plots.dpi=20",
]
ONE = ["cv.validation=100", "cv.test=200"]
FOLDS = ["cv=kfold", "cv.n_splits=2", "cv.n_jobs=1"]

Train = Callable[..., dict[str, Any]]


@pytest.fixture
def train(tmp_path: Path, compose_config: Compose, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Train in ``tmp_path/run`` with the given overrides; the rest is small."""
    monkeypatch.chdir(tmp_path)

    def trained(*overrides: str, directory: str = "run") -> dict[str, Any]:
        scheme = [] if any(word.startswith("cv=") for word in overrides) else ONE
        config = compose_config(*SMALL, *scheme, *overrides)
        return run_experiment(config, tmp_path / directory)

    return trained
