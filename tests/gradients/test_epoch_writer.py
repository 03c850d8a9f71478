"""An epoch's files: published layout, whole or absent, and never replacing foreign files."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_exp.data import Dataset
from mnist_exp.errors import UserError
from mnist_exp.gradients import Samples, collect, epoch_writer
from tests.gradients.test_stored import WEIGHT, assert_close
from tests.helpers.gradient_samples import (
    collection_settings,
    gradients_one_at_a_time,
    samples_of,
    small_network,
)


@pytest.fixture
def samples(mnist: Dataset) -> Samples:
    return samples_of(mnist, torch.randperm(1000, generator=torch.Generator().manual_seed(1))[:30])


@pytest.fixture
def epoch(samples: Samples, tmp_path: Path) -> Path:
    collect(small_network(), samples, tmp_path, collection_settings(), epoch=3)
    return tmp_path / "epoch_3"


def test_dense_files_are_those_of_the_seed(samples: Samples, tmp_path: Path) -> None:
    """Names and content follow the published layout; plain torch can read them."""
    model = small_network()
    collect(model, samples, tmp_path, collection_settings(format="dense"), epoch=2)
    for name, slow in gradients_one_at_a_time(model, samples).items():
        file = tmp_path / "epoch_2" / f"{name}_epoch_2.pt"
        for mmap in (False, True):
            content = torch.load(file, weights_only=True, mmap=mmap)
            assert set(content) == {"gradients", "param_shape", "num_samples"}
            assert tuple(content["param_shape"]) == tuple(slow.shape[1:])
            assert content["num_samples"] == 30
            assert_close(content["gradients"], slow)
    for name in ("metadata.pkl", "gradient_stats.pkl"):
        assert (tmp_path / "epoch_2" / name).is_file()


def test_pickles_hold_plain_values_and_the_same_as_json(epoch: Path) -> None:
    class OnlyPlain(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            raise AssertionError(f"{module}.{name} is not a plain value")

    for pkl, readable in (("gradient_stats", "gradient_stats"), ("metadata", "manifest")):
        with (epoch / f"{pkl}.pkl").open("rb") as file:
            content = OnlyPlain(file).load()
        assert json.loads(json.dumps(content)) == json.loads(
            (epoch / f"{readable}.json").read_bytes()
        )


def test_a_failed_collection_leaves_the_earlier_epoch(
    epoch: Path, samples: Samples, tmp_path: Path
) -> None:
    """Values beyond float16 stop the second collection; its files are removed."""
    before = sorted((f.name, f.read_bytes()) for f in epoch.iterdir())
    model = small_network()
    with torch.no_grad():
        model.get_parameter(WEIGHT).mul_(1e7)
    with pytest.raises(UserError, match="beyond the 65504 of float16"):
        collect(model, samples, tmp_path, collection_settings(dtype="float16"), epoch=3)
    assert sorted((f.name, f.read_bytes()) for f in epoch.iterdir()) == before
    assert os.listdir(tmp_path) == ["epoch_3"]


KILLED = """
import os, signal, sys
import torch
from mnist_exp.data import load_mnist
from mnist_exp.gradients import collect, epoch_writer
from tests.helpers.gradient_samples import collection_settings, samples_of, small_network

def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)

epoch_writer.write_atomic = killed  # all arrays are written, the manifest is not
collect(small_network(), samples_of(load_mnist(), torch.arange(50)), sys.argv[1],
        collection_settings(), epoch=1)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_killed_run_leaves_no_epoch_and_the_next_one_clears_up(
    samples: Samples, tmp_path: Path
) -> None:
    root = Path(__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=root, timeout=600, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "epoch_1").exists()
    assert any(tmp_path.iterdir())
    collect(small_network(), samples, tmp_path, collection_settings(), epoch=1)
    assert os.listdir(tmp_path) == ["epoch_1"]


def test_the_writer_recognises_what_to_replace_by_its_files(tmp_path: Path) -> None:
    (tmp_path / "epoch_1").mkdir()
    assert not epoch_writer.is_epoch(tmp_path / "epoch_1")
    for name in ("manifest.json", "gradient_stats.json"):
        (tmp_path / "epoch_1" / name).touch()
    assert epoch_writer.is_epoch(tmp_path / "epoch_1")
    (tmp_path / "link").symlink_to(tmp_path / "epoch_1")
    assert not epoch_writer.is_epoch(tmp_path / "link")
