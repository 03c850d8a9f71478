"""A manifest with a valid checksum and wrong content is refused on opening, never later."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mnist_exp import gradients
from mnist_exp.data import Dataset
from mnist_exp.errors import UserError
from mnist_exp.gradients import collect
from mnist_exp.gradients.pictures import draw_gradients
from mnist_exp.models import CNN21k
from tests.helpers.gradient_samples import collection_settings, samples_of, small_network
from tests.mutations import mutated

MODELS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "factored": (small_network, "factored"),
    "convolutions": (lambda: CNN21k(num_classes=10), "factored"),
    "dense": (small_network, "dense"),
}


@pytest.fixture(scope="module")
def epochs(mnist: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for name, (model, form) in MODELS.items():
        directory = tmp_path_factory.mktemp(name)
        samples = samples_of(mnist, torch.arange(4))
        collect(model(), samples, directory, collection_settings(format=form), epoch=1)
        found[name] = directory / "epoch_1"
    return found


def read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_bytes())
    return values


def forge(epoch: Path, manifest: Any, statistics: Any) -> None:
    """Write manifest and statistics with valid checksums."""
    text = json.dumps(statistics, indent=1).encode()
    (epoch / "gradient_stats.json").write_bytes(text)
    manifest = {k: v for k, v in manifest.items() if k != "crc32"}
    if "statistics_crc32" in manifest:
        manifest["statistics_crc32"] = zlib.crc32(text)
    manifest["crc32"] = zlib.crc32(json.dumps(manifest, indent=1).encode())
    (epoch / "manifest.json").write_bytes(json.dumps(manifest, indent=1).encode())


def use_everything(epoch: Path, dense: Path, images: Tensor) -> None:
    stored = gradients.open(epoch)
    stored.verify()
    stored.norms()
    stored.mean()
    for parameter in stored.values():
        parameter[:2]
        parameter.norms()
    if stored:
        stored.cosines()
        stored.gram()
    written = stored.to_dense(dense)
    assert {path.parent for path in written} <= {dense}
    draw_gradients(epoch.parent, images[:100], dense, class_names=list("0123456789"), dpi=10)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_sound_epoch_passes(
    epochs: dict[str, Path], mnist: Dataset, name: str, tmp_path: Path
) -> None:
    use_everything(epochs[name], tmp_path / "dense", mnist.images)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=8)  # each draws two pictures
@given(data=st.data())
def test_any_content_with_a_checksum_is_refused_or_works(
    tmp_path_factory: pytest.TempPathFactory,
    epochs: dict[str, Path],
    mnist: Dataset,
    name: str,
    data: st.DataObject,
) -> None:
    directory = tmp_path_factory.mktemp("forged")
    epoch = Path(shutil.copytree(epochs[name], directory / "gradients" / "epoch_1"))
    manifest, statistics = read(epoch / "manifest.json"), read(epoch / "gradient_stats.json")
    if data.draw(st.booleans(), "manifest"):
        entry = data.draw(st.sampled_from(["arrays", "columns", "parameters", "shapes", "rest"]))
        if entry == "rest":
            manifest = data.draw(mutated(manifest))
        else:
            manifest[entry] = data.draw(mutated(manifest[entry]))
    else:
        statistics = data.draw(mutated(statistics))
    forge(epoch, manifest, statistics)
    before = sorted(directory.rglob("*"))
    try:
        use_everything(epoch, directory / "dense", mnist.images)
    except UserError:
        assert sorted(p for p in directory.rglob("*") if "dense" not in p.parts) == before


@pytest.mark.parametrize("where", ["names", "parameters", "all"])
def test_a_parameter_whose_name_is_a_path_is_refused(
    epochs: dict[str, Path], tmp_path: Path, where: str
) -> None:
    epoch = Path(shutil.copytree(epochs["dense"], tmp_path / "gradients" / "epoch_1"))
    text = (epoch / "manifest.json").read_text()
    manifest = json.loads(text)
    if where == "all":
        manifest = json.loads(text.replace('"network.0.bias"', '"../../x"'))
    elif where == "names":
        manifest["names"][0] = "../../x"
    else:
        manifest["parameters"][0]["name"] = "../../x"
    forge(epoch, manifest, read(epoch / "gradient_stats.json"))
    with pytest.raises(UserError, match=r"manifest\.json: is damaged: .*'\.\./\.\./x'; allowed is"):
        gradients.open(epoch)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_samples": 5}, "norms is not"),
        ({"num_samples": -4}, "num_samples is -4; allowed is a whole number of at least 1"),
        ({"pixel_values": None}, "holds no pixels"),
        ({"epoch": "../x"}, r"epoch is '\.\./x'; allowed is a whole number"),
        (
            {"derived": [{"name": "a", "output_gradient": "a", "input": "a", "weight": "a"}]},
            "a does",
        ),
        ({"columns": {}}, "norms is not"),
        ({"arrays": {}, "pixel_arrays": [], "derived": []}, "made of arrays that are not there"),
    ],
)
def test_contradictions_are_refused(
    epochs: dict[str, Path], tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    epoch = Path(shutil.copytree(epochs["factored"], tmp_path / "epoch_1"))
    forge(epoch, read(epoch / "manifest.json") | change, read(epoch / "gradient_stats.json"))
    with pytest.raises(UserError, match=rf"manifest\.json.* is damaged: .*{reason}"):
        gradients.open(epoch)


@pytest.mark.parametrize("file", ["manifest.json", "gradient_stats.json", "norms.npy"])
def test_a_pipe_in_place_of_a_file_is_refused(
    epochs: dict[str, Path], tmp_path: Path, file: str
) -> None:
    epoch = Path(shutil.copytree(epochs["factored"], tmp_path / "epoch_1"))
    (epoch / file).unlink()
    os.mkfifo(epoch / file)
    with pytest.raises(UserError, match=f"{file}:? is (not a regular file|missing)"):
        gradients.open(epoch)
