"""Exported networks compute what the network computes, and say how to use them."""

from __future__ import annotations

import io
import json
import sys

import pytest
import torch
from torch import Tensor, nn

from mnist_exp.device import DeviceConstraint
from mnist_exp.errors import UserError
from mnist_exp.experiment.export import (
    FACTS_FILE,
    Differs,
    effective_network,
    facts_of_use,
    to_onnx,
    to_program,
    to_safetensors,
)
from mnist_exp.models import MLP, CNN20k, CNN21k

FACTS = facts_of_use(0.1307, 0.3081, ("no", "yes", "perhaps"))


class Drawn(nn.Module):
    """Random in eval mode too."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :3] + torch.rand(3)


class Deciding(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :3] * (2 if images.sum() > 0 else 1)


def constrained() -> nn.Module:
    """A network with BatchNorm's buffers and weights that are pairs of conductances."""
    model = CNN20k(num_classes=3)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            layer.running_mean.normal_()
    DeviceConstraint(mapping="differential", quantize=True).attach(model, seed=0)
    return model.to(memory_format=torch.channels_last).eval()


def test_a_program_computes_the_logits_and_says_how_to_use_it() -> None:
    model, images = constrained(), torch.randn(5, 1, 28, 28)
    content, compared = to_program(effective_network(model), FACTS)
    assert compared.startswith("the program read back and the network: largest difference")
    facts = {FACTS_FILE: ""}
    program = torch.export.load(io.BytesIO(content), extra_files=facts)
    torch.testing.assert_close(program.module()(images), model(images))
    assert json.loads(facts[FACTS_FILE]) == FACTS
    assert json.loads(FACTS["class_names"]) == ["no", "yes", "perhaps"]
    assert b"site-packages" not in content  # nor any other place on this machine


def test_a_program_takes_images_of_the_data_that_was_trained_on() -> None:
    shape = (3, 16, 20)
    model = CNN21k(num_classes=3, image_shape=shape).eval()
    facts = facts_of_use(0.5, 0.25, ("no", "yes", "perhaps"), shape)
    content, _ = to_program(model, facts)
    images = torch.randn(5, *shape)
    program = torch.export.load(io.BytesIO(content)).module()
    torch.testing.assert_close(program(images), model(images))
    assert facts["input"].startswith("images: float32 [B, 3, 16, 20]")


@pytest.mark.slow
def test_onnx_computes_the_logits_and_says_how_to_use_it(capfd: pytest.CaptureFixture[str]) -> None:
    onnx = pytest.importorskip("onnx", reason="an extra: onnx")
    pytest.importorskip("onnxscript", reason="an extra: onnx")
    runtime = pytest.importorskip("onnxruntime", reason="an extra: onnx")
    capfd.readouterr()
    model, images = constrained(), torch.randn(5, 1, 28, 28)
    content, compared = to_onnx(effective_network(model), FACTS)
    assert compared.startswith(f"onnxruntime {runtime.__version__} and torch: largest difference")
    proto = onnx.load_from_string(content)
    onnx.checker.check_model(proto, full_check=True)
    assert {entry.key: entry.value for entry in proto.metadata_props} == FACTS
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), model(images).detach())
    assert b"site-packages" not in content
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_onnx_takes_images_of_the_data_that_was_trained_on() -> None:
    pytest.importorskip("onnx", reason="an extra: onnx")
    pytest.importorskip("onnxscript", reason="an extra: onnx")
    runtime = pytest.importorskip("onnxruntime", reason="an extra: onnx")
    shape = (3, 16, 20)
    model = CNN21k(num_classes=3, image_shape=shape).eval()
    content, _ = to_onnx(model, facts_of_use(0.5, 0.25, ("no", "yes", "perhaps"), shape))
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1:] == [*shape]
    images = torch.randn(5, *shape)
    (found,) = session.run(["logits"], {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), model(images).detach())


def test_safetensors_are_the_effective_weights() -> None:
    library = pytest.importorskip("safetensors.torch", reason="an extra: safetensors")
    model, images = constrained(), torch.randn(5, 1, 28, 28)
    content, compared = to_safetensors(effective_network(model), FACTS)
    assert compared == "the 37 tensors read back and the network's: equal bit by bit"
    plain = CNN20k(num_classes=3).eval()
    plain.load_state_dict(library.load(content))
    assert torch.equal(plain(images), effective_network(model)(images))
    length = int.from_bytes(content[:8], "little")
    assert json.loads(content[8 : 8 + length])["__metadata__"] == FACTS


def test_layers_that_share_a_weight_share_it_in_the_file_too() -> None:
    library = pytest.importorskip("safetensors.torch", reason="an extra: safetensors")
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    loaded = library.load(to_safetensors(effective_network(model), FACTS)[0])
    assert torch.equal(loaded["0.weight"], loaded["1.weight"])


def test_a_file_that_computes_something_else_is_not_returned() -> None:
    with pytest.raises(Differs, match=r"of the largest logit; allowed is 0\.0001"):
        to_program(Drawn(), FACTS)


def test_a_network_that_cannot_be_traced_is_told_in_one_line() -> None:
    with pytest.raises(UserError, match="--format torch: torch cannot trace this network") as error:
        to_program(Deciding(), FACTS)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("write", "missing", "extra", "packages"),
    [
        (to_onnx, "onnxruntime", "onnx", "onnx onnxscript onnxruntime"),
        (to_safetensors, "safetensors", "safetensors", "safetensors"),
    ],
)
def test_an_absent_package_is_named(
    monkeypatch: pytest.MonkeyPatch, write: object, missing: str, extra: str, packages: str
) -> None:
    for name in [missing, *(name for name in sys.modules if name.startswith(f"{missing}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    assert callable(write)
    with pytest.raises(UserError) as error:
        write(MLP(hidden_sizes=[], num_classes=2), FACTS)
    assert str(error.value) == (
        f"--format {extra}: needs the package {missing}. Run `pip install {packages}` first."
    )
