"""Stored gradients can be read back and equal autograd's."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mnist_exp import gradients
from mnist_exp.data import Dataset
from mnist_exp.errors import UserError
from mnist_exp.gradients import Samples, collect
from mnist_exp.gradients.manifest import checksum_of
from mnist_exp.models import MLP, CNN20k, CNN21k
from tests.helpers.gradient_samples import (
    collection_settings,
    flat,
    gradients_one_at_a_time,
    samples_of,
    small_network,
)

WEIGHT = "network.0.weight"


@pytest.fixture
def samples(mnist: Dataset) -> Samples:
    return samples_of(mnist, torch.randperm(1000, generator=torch.Generator().manual_seed(1))[:30])


@pytest.fixture
def epoch(samples: Samples, tmp_path: Path) -> Path:
    collect(small_network(), samples, tmp_path, collection_settings(), epoch=3)
    return tmp_path / "epoch_3"


def assert_close(ours: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert (ours.double() - expected.double()).norm() <= tolerance * expected.double().norm()


@pytest.mark.parametrize("form", ["factored", "dense"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-5), ("float16", 1e-3), ("bfloat16", 1e-2)]
)
def test_stored_gradients_are_those_of_autograd(
    form: str, dtype: str, tolerance: float, samples: Samples, tmp_path: Path
) -> None:
    model = small_network()
    collect(model, samples, tmp_path, collection_settings(format=form, dtype=dtype), epoch=1)
    stored = gradients.open(tmp_path / "epoch_1")
    stored.verify()
    assert torch.equal(stored.sample_ids, samples.ids)
    for name, slow in gradients_one_at_a_time(model, samples).items():
        assert stored[name].shape == tuple(slow.shape)
        assert_close(stored[name][:], slow, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("model", [CNN21k(num_classes=10), CNN20k(num_classes=10, dropout=(0, 0))])
def test_convolutional_networks_round_trip(
    model: nn.Module, samples: Samples, tmp_path: Path
) -> None:
    """Includes the geometry of factored convolutions, which is stored as JSON."""
    collect(model, samples, tmp_path, collection_settings(), epoch=1)
    stored = gradients.open(tmp_path / "epoch_1")
    assert "convolution" in {p["form"] for p in stored.manifest["parameters"]}
    for name, slow in gradients_one_at_a_time(model.eval(), samples).items():
        assert_close(stored[name][:], slow)


def test_an_epoch_that_version_0_1_wrote_is_read(mnist: Dataset) -> None:
    """Written by commit e7378e2, for the first three training images and this network."""
    torch.manual_seed(0)
    model = MLP(hidden_sizes=[2], num_classes=10, activation="relu", dropout=0.0)
    stored = gradients.open(Path(__file__).parent / "epoch_of_version_0_1")
    stored.verify()
    assert [array["name"] for array in stored.manifest["derived"]] == ["network.0.output_gradient"]
    slow = gradients_one_at_a_time(model, samples_of(mnist, torch.arange(3)))
    for name, expected in slow.items():
        assert_close(stored[name][:], expected)
    rows = flat(slow)
    cosines = torch.cosine_similarity(rows, rows.mean(0, keepdim=True))
    assert_close(stored.cosines(), cosines)


def test_array_operations_equal_those_on_built_gradients(epoch: Path) -> None:
    stored = gradients.open(epoch)
    for parameter in stored.values():
        built = parameter[:].flatten(1).double()
        shape = parameter.shape[1:]
        assert_close(parameter.norms(), built.norm(dim=1))
        assert_close(parameter.mean(), built.mean(0).reshape(shape))
        assert_close(parameter.variance(), built.var(0, correction=0).reshape(shape), 1e-4)
        assert_close(parameter.gram(), built @ built.T)
        assert parameter.dot(2, 7) == pytest.approx((built[2] @ built[7]).item(), rel=1e-4)
    built = flat({name: parameter[:] for name, parameter in stored.items()})
    assert_close(stored.norms(), built.norm(dim=1))
    assert_close(stored.gram([4, 1]), built[[4, 1]] @ built[[4, 1]].T)
    assert stored.dot(2, 7) == pytest.approx((built[2] @ built[7]).item(), rel=1e-4)
    assert_close(stored.mean()[WEIGHT], stored[WEIGHT].mean())


def test_rows_are_indexed_like_those_of_an_array(epoch: Path) -> None:
    weight = gradients.open(epoch)[WEIGHT]
    everything = weight[:]
    mask = np.zeros(30, dtype=bool)
    mask[[4, 9]] = True
    for rows in (0, -1, slice(3, 9, 2), [5, 5, 1], torch.tensor([2, 8]), mask, slice(0, 0)):
        assert torch.equal(weight[rows], everything[rows])
    with pytest.raises(IndexError, match="sample 30 of 30"):
        weight[30]


def test_factored_files_convert_to_dense_ones(epoch: Path, tmp_path: Path) -> None:
    stored = gradients.open(epoch)
    for path, (name, parameter) in zip(
        stored.to_dense(tmp_path / "dense"), stored.items(), strict=True
    ):
        assert path.name == f"{name}_epoch_3.pt"
        content = torch.load(path, weights_only=True, mmap=True)
        assert torch.equal(content["gradients"], parameter[:])


def test_first_inputs_are_kept_as_pixels_and_come_back_bit_for_bit(
    epoch: Path, samples: Samples
) -> None:
    stored = gradients.open(epoch)
    assert np.load(epoch / "network.0.input.npy").dtype == np.uint8
    images, _, _ = samples.rows(0, 30)
    inputs = stored.rows("network.0.input", slice(None))
    assert torch.equal(inputs, samples.prepare(images).flatten(1))


def test_augmented_inputs_are_kept_as_they_were(mnist: Dataset, tmp_path: Path) -> None:
    """Pixels would be those before augmentation; both passes see the same shift."""
    samples = samples_of(mnist, torch.arange(20), augmented=True)
    statistics = collect(small_network(), samples, tmp_path, collection_settings(), epoch=1)
    stored = gradients.open(tmp_path / "epoch_1")
    assert np.load(tmp_path / "epoch_1" / "network.0.input.npy").dtype == np.float32
    assert stored.manifest["augmented"] is True
    built = flat({name: parameter[:] for name, parameter in stored.items()})
    cosines = torch.cosine_similarity(built, built.mean(0, keepdim=True))
    assert_close(stored.cosines(), cosines)
    assert statistics["total"]["cosine_with_mean"]["mean"] == pytest.approx(cosines.mean().item())


def test_a_wrong_name_is_told_with_the_closest_one(epoch: Path) -> None:
    stored = gradients.open(epoch)
    first = next(iter(stored))
    with pytest.raises(KeyError) as raised:
        stored[f"model.{first}"]
    assert isinstance(raised.value, UserError)
    message = str(raised.value)
    assert f"allowed is one of: {', '.join(stored)}. Did you mean {first!r}?" in message
    assert "nothing" not in stored


def test_a_bias_takes_no_space_of_its_own(epoch: Path) -> None:
    stored = {p["name"]: p for p in gradients.open(epoch).manifest["parameters"]}
    assert stored["network.0.bias"]["arrays"] == {"values": "network.0.output_gradient"}
    assert stored[WEIGHT]["arrays"]["output_gradient"] == "network.0.output_gradient"


def test_statistics_alone_store_no_gradients(samples: Samples, tmp_path: Path) -> None:
    collect(small_network(), samples, tmp_path, collection_settings(format="statistics"), epoch=1)
    stored = gradients.open(tmp_path / "epoch_1")
    assert list(stored) == []
    assert len(stored.norms()) == len(stored.cosines()) == 30


class Unpicklable:
    """Fails the test if anything unpickles it."""

    def __reduce__(self) -> Any:
        return (pytest.fail, ("unpickled a file",))


def test_reading_never_unpickles(epoch: Path) -> None:
    for file in epoch.glob("*.pkl"):
        file.write_bytes(pickle.dumps(Unpicklable()))
    stored = gradients.open(epoch)
    stored.verify()
    stored[WEIGHT].norms()


def replace_in(path: Path, old: str, new: str) -> None:
    """Change the first ``old`` of a text file, which must be there."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "network.0.input.npy").write_bytes(b"x"), "is damaged: 1 bytes"),
        (lambda d: (d / "norms.npy").unlink(), "is missing"),
        (lambda d: (d / "manifest.json").write_text("{"), "is damaged"),
        (lambda d: (d / "manifest.json").write_text('{"format_version": 3}'), "is damaged"),
        (lambda d: replace_in(d / "manifest.json", '"crc32"', '"crc33"'), "its checksum"),
        (lambda d: replace_in(d / "manifest.json", '"epoch": 3', '"epoch": 2'), "its checksum"),
        (lambda d: replace_in(d / "gradient_stats.json", "1", "3"), "the checksum in manifest"),
        (lambda d: (d / "manifest.json").write_text('{"format_version": 2}'), "format_version 2"),
        (lambda d: (d / "manifest.json").write_text('{"format_version": 9}'), "format_version 9"),
        (lambda d: (d / "manifest.json").unlink(), "is not a collected epoch"),
    ],
)
def test_a_damaged_epoch_is_refused(damage: Any, message: str, epoch: Path) -> None:
    damage(epoch)
    with pytest.raises(UserError, match=message):
        gradients.open(epoch)


@pytest.mark.parametrize("form", ["factored", "dense"])
def test_verify_finds_one_changed_bit(form: str, samples: Samples, tmp_path: Path) -> None:
    collect(small_network(), samples, tmp_path, collection_settings(format=form), epoch=1)
    stored = gradients.open(tmp_path / "epoch_1")
    stored.verify()
    description = stored.manifest["arrays"][WEIGHT if form == "dense" else "network.2.input"]
    path = stored.directory / description["file"]
    content = bytearray(path.read_bytes())
    content[description["offset"] + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="its CRC-32 is not that of the manifest"):
        gradients.open(tmp_path / "epoch_1").verify()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["factored", "dense"])
def test_verify_finds_a_changed_bit_in_every_byte_of_a_header(
    form: str, samples: Samples, tmp_path: Path
) -> None:
    """np.load and torch.load trust the header, so the checksum must cover it too."""
    collect(small_network(), samples, tmp_path, collection_settings(format=form), epoch=1)
    stored = gradients.open(tmp_path / "epoch_1")
    description = next(iter(stored.manifest["arrays"].values()))
    path = stored.directory / description["file"]
    sound = path.read_bytes()
    for position in range(description["offset"]):
        changed = bytearray(sound)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        with pytest.raises(UserError, match="its CRC-32 is not that of the manifest"):
            stored.verify()


def test_a_manifest_cannot_point_outside_its_directory(epoch: Path) -> None:
    manifest = json.loads((epoch / "manifest.json").read_bytes())
    manifest["columns"]["norms"]["file"] = "../norms.npy"
    del manifest["crc32"]
    manifest["crc32"] = checksum_of(manifest)  # forged, not damaged
    (epoch / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"columns\.norms\.file is .*allowed is a plain name"):
        gradients.open(epoch)
