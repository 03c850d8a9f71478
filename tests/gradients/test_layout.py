"""Hidden layers' derivable factors are not stored, but read as if they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mnist_exp import gradients
from mnist_exp.data import Dataset
from mnist_exp.gradients import Samples, collect
from mnist_exp.models import MLP
from tests.helpers.gradient_samples import collection_settings, gradients_one_at_a_time, samples_of

HIDDEN = {"network.0.output_gradient", "network.2.output_gradient"}


@pytest.fixture
def samples(mnist: Dataset) -> Samples:
    return samples_of(mnist, torch.arange(40))


def network(activation: str = "relu", dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return MLP(hidden_sizes=[16, 12], num_classes=10, activation=activation, dropout=dropout)


def collected(model: nn.Module, samples: Samples, directory: Path, **changes: Any) -> Any:
    collect(model, samples, directory, collection_settings(**changes), epoch=1)
    stored = gradients.open(directory / "epoch_1")
    stored.verify()
    return stored


@pytest.mark.parametrize("cosine", [True, False])
def test_derived_factors_are_not_stored_and_give_autograds_gradients(
    cosine: bool, samples: Samples, tmp_path: Path
) -> None:
    model = network()
    stored = collected(model, samples, tmp_path, cosine=cosine)
    assert not HIDDEN & stored.manifest["arrays"].keys()
    assert not list(stored.directory.glob("network.[02].output_gradient*"))
    truth = gradients_one_at_a_time(model, samples)
    for name, slow in truth.items():
        assert (stored[name][:] - slow).norm() <= 1e-5 * slow.norm()
        assert (stored[name][7] - slow[7]).norm() <= 1e-5 * slow[7].norm()
    mean = torch.cat([slow.mean(0).flatten() for slow in truth.values()])
    rows = torch.cat([slow.flatten(1) for slow in truth.values()], dim=1)
    torch.testing.assert_close(stored.cosines(), torch.cosine_similarity(rows, mean, dim=1))


def test_dropout_that_is_off_is_nothing_between_layers(samples: Samples, tmp_path: Path) -> None:
    stored = collected(network(dropout=0.5), samples, tmp_path, dropout=False)
    assert len(stored.manifest["derived"]) == 2


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (network("gelu"), {}),
        (network(dropout=0.5), {"dropout": True}),
        (network(), {"dtype": "float16"}),
        (network(), {"one_moment": False}),
        (network(), {"parameters": ["network.0.*"]}),
    ],
    ids=["another activation", "dropout", "16 bits", "weights that change", "no next layer"],
)
def test_what_does_not_follow_is_stored(
    model: nn.Module, changes: dict[str, Any], samples: Samples, tmp_path: Path
) -> None:
    stored = collected(model, samples, tmp_path, **changes)
    assert "network.0.output_gradient" in stored.manifest["arrays"]
    assert stored.manifest["derived"] == []
