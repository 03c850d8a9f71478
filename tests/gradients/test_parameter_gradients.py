"""Exported gradients: disk space checked first, all files or none, optionally some rows."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mnist_exp import gradients
from mnist_exp.data import Dataset
from mnist_exp.errors import UserError
from mnist_exp.gradients import StoredGradients, collect
from mnist_exp.gradients.parameter_gradients import ParameterGradients
from tests.helpers.gradient_samples import collection_settings, samples_of, small_network

WEIGHT = "network.0.weight"


@pytest.fixture
def stored(mnist: Dataset, tmp_path: Path) -> StoredGradients:
    samples = samples_of(mnist, torch.arange(30))
    collect(small_network(), samples, tmp_path / "run", collection_settings(), epoch=1)
    return gradients.open(tmp_path / "run" / "epoch_1")


def test_a_full_disk_is_refused_before_the_first_byte(
    stored: StoredGradients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {name: 30 * 4 * g[0].numel() for name, g in stored.items()}
    free = sum(sizes.values()) - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(UserError, match=r"gradients of 30 samples take 1\.5 MB .*Take some rows"):
        stored.to_dense(tmp_path / "dense")
    free = sizes[WEIGHT] - 1
    with pytest.raises(UserError, match="Take some rows"):
        stored[WEIGHT].to_dense(tmp_path / "dense" / "weight.pt")
    assert not (tmp_path / "dense").exists()
    stored[WEIGHT].to_dense(tmp_path / "weight.pt", rows=range(29))


def test_a_failure_leaves_no_file(
    stored: StoredGradients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "network.0.weight_epoch_1.pt").write_text("from before")
    write_rows = ParameterGradients.write_rows

    def fail_late(self: ParameterGradients, path: Path, samples: Any) -> None:
        write_rows(self, path, samples)
        if self.name == "network.2.bias":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(ParameterGradients, "write_rows", fail_late)
    with pytest.raises(OSError, match="No space left"):
        stored.to_dense(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"run", "network.0.weight_epoch_1.pt"}
    assert (tmp_path / "network.0.weight_epoch_1.pt").read_text() == "from before"


@pytest.mark.parametrize(
    "rows", [range(5), slice(3, 9), [7, 2], torch.tensor([4]), np.arange(30) > 27, slice(None)]
)
def test_some_rows_are_written(stored: StoredGradients, tmp_path: Path, rows: Any) -> None:
    written = torch.load(stored[WEIGHT].to_dense(tmp_path / "x.pt", rows), weights_only=True)
    expected = stored[WEIGHT][:][torch.arange(30)[rows]]
    assert torch.equal(written["gradients"], expected)
    assert written["num_samples"] == len(expected)
