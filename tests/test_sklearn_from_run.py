"""`PyTorchNNWrapper.from_run`: the classifier predicts what the run's network predicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mnist_exp import PyTorchNNWrapper, load_run
from mnist_exp.errors import UserError
from mnist_exp.experiment.run import run_experiment
from tests.helpers.fault_injection import SMALL, composed

TINY = ("cv=none", "data.subset=100", "constraint=memristor", *SMALL)


def test_a_runs_network_becomes_a_classifier(tmp_path: Path) -> None:
    run_experiment(composed("model=mlp100", *TINY), tmp_path / "run")
    run = load_run(tmp_path / "run")
    classifier = PyTorchNNWrapper.from_run(run.directory)
    images = run.dataset().test_images.numpy()
    X = images.reshape(len(images), -1) / 255
    assert np.allclose(classifier.predict_proba(X), run.predict_proba(images), atol=1e-4)
    assert classifier.hidden_dim == 100
    with pytest.raises(ValueError, match="call fit"):
        classifier.partial_fit(X, run.dataset().test_labels.numpy())


def test_another_network_is_refused(tmp_path: Path) -> None:
    run_experiment(composed("model=mlp", "model.hidden_sizes=[8,8]", *TINY), tmp_path / "run")
    with pytest.raises(UserError, match="no MLP with one hidden layer"):
        PyTorchNNWrapper.from_run(tmp_path / "run")
