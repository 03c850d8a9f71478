"""The predicted size on disk equals the bytes written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mnist_exp.data import Dataset
from mnist_exp.gradients import collect, disk_bytes
from tests.helpers.gradient_samples import collection_settings, samples_of, small_network


@pytest.mark.parametrize("form", ["factored", "dense", "statistics"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_disk_bytes_foretells_the_size(
    form: str, dtype: str, mnist: Dataset, tmp_path: Path
) -> None:
    samples = samples_of(mnist, torch.arange(1000))
    settings = collection_settings(format=form, dtype=dtype)
    collect(small_network(), samples, tmp_path, settings, epoch=1)
    size = sum(file.stat().st_size for file in (tmp_path / "epoch_1").iterdir())
    foretold = disk_bytes(small_network(), samples, settings)
    assert size <= foretold <= 1.02 * size + 65536
