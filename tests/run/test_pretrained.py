"""Weights to start from: which files are read, and what does not fit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mnist_exp.errors import UserError
from mnist_exp.models import MLP, CNN20k
from mnist_exp.run.checkpoints import save_checkpoint
from mnist_exp.run.pretrained import read_pretrained


def small(classes: int = 3) -> MLP:
    return MLP(hidden_sizes=[4], num_classes=classes)


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_state_dict_by_torch_save_is_read(tmp_path: Path) -> None:
    file, model = tmp_path / "w.pth", CNN20k(num_classes=3)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            layer.running_mean.normal_()
    torch.save(model.state_dict(), file)
    pretrained, fresh = read_pretrained(file), CNN20k(num_classes=3)
    pretrained.load_into(fresh, strict=True)
    assert same(fresh, model)
    assert pretrained.left_out == []
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert pretrained.facts() == {"path": str(file), "sha256": digest}


def test_a_safetensors_file_is_read(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.torch", reason="an extra: safetensors")
    file, model, fresh = tmp_path / "w.safetensors", small(), small()
    library.save_file(model.state_dict(), file)
    read_pretrained(file).load_into(fresh, strict=True)
    assert same(fresh, model)
    file.write_bytes(b"no such thing")
    with pytest.raises(UserError, match="is not a valid safetensors file"):
        read_pretrained(file)


def test_everything_that_does_not_fit_is_named(tmp_path: Path) -> None:
    file, other = tmp_path / "w.pt", small(classes=5)
    weights: dict[str, Tensor] = other.state_dict()
    weights["more"] = torch.zeros(1)
    weights["network.0.bias"] = weights["network.0.bias"].long()
    del weights["network.0.weight"]
    torch.save(weights, file)
    fresh = small()
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    with pytest.raises(UserError) as error:
        read_pretrained(file).load_into(fresh, strict=True)
    assert str(error.value) == (
        f"model.weights={file}: does not fit MLP: network.0.weight [4, 784] is missing in the "
        "file; network.0.bias is of torch.int64 in the file and torch.float32 in the network; "
        "network.2.weight is [5, 4] in the file and [3, 4] in the network; network.2.bias is [5] "
        "in the file and [3] in the network; more is not in the network. Nothing fits."
    )
    weights["network.0.bias"] = weights["network.0.bias"].float() + 1
    torch.save(weights, file)
    pretrained = read_pretrained(file)
    with pytest.raises(UserError, match=r"Take what fits with model\.strict=false\.$"):
        pretrained.load_into(fresh, strict=True)
    assert all(torch.equal(before[name], fresh.state_dict()[name]) for name in before)
    pretrained.load_into(fresh, strict=False)
    assert torch.equal(fresh.state_dict()["network.0.bias"], weights["network.0.bias"])
    assert torch.equal(fresh.state_dict()["network.2.weight"], before["network.2.weight"])
    assert "leaves out: network.0.weight [4, 784] is missing" in pretrained.left_out_line()


def test_conductances_without_their_settings_are_recognised(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    weights = small().state_dict()
    weights["network.0.parametrizations.weight.original0"] = weights.pop("network.0.weight")
    torch.save(weights, file)
    with pytest.raises(UserError, match="are conductances, which the file does not say how to map"):
        read_pretrained(file).load_into(small(), strict=True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "holds no state_dict"),
        ({"a": 1}, "holds no state_dict"),
        ({}, "holds no state_dict"),
        ({"a": Path()}, "refused, only tensors and plain values"),
    ],
)
def test_a_file_without_weights_is_refused(tmp_path: Path, content: object, words: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(UserError, match=words):
        read_pretrained(tmp_path / "w.pt")


def test_a_place_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file or run directory"):
        read_pretrained(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"has no checkpoints/best\.pt"):
        read_pretrained(tmp_path)
    (tmp_path / "text.pt").write_text("text")
    with pytest.raises(UserError, match="refused, only tensors"):
        read_pretrained(tmp_path / "text.pt")
    save_checkpoint(tmp_path / "best.pt", {"config": {}})
    with pytest.raises(UserError, match=r"best.pt: is damaged: data_sha256 is missing"):
        read_pretrained(tmp_path / "best.pt")
    for fold in (1, 2):
        save_checkpoint(tmp_path / f"checkpoints/fold_{fold}/best.pt", {"config": {}})
    with pytest.raises(UserError, match=r"is a run with folds; .*fold_1/best\.pt"):
        read_pretrained(tmp_path)
