"""Linear layers read from arrays are trained in the kernels as autograd would train them."""

from __future__ import annotations

import copy
import io
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnist_exp.cpu.kernels import kernels_for
from mnist_exp.device import ArrayReading, DeviceConstraint, Reading, reading_on
from mnist_exp.models import MLP
from mnist_exp.train.backprop.autograd import Autograd
from mnist_exp.train.backprop.choose import backpropagation, fastest_way
from mnist_exp.train.backprop.mlp_read import ReadLinearLayers
from tests.helpers.device_settings import device_settings
from tests.helpers.kernel_builds import using

needs_kernels = pytest.mark.skipif(kernels_for() is None, reason="no compiled kernels")
QUIET = ArrayReading(output_noise=0.0)
EXACT_INPUTS: dict[str, Any] = {"input_bits": None, "input_range": None, "output_noise": 0.0}


def network(*hidden_sizes: int, seed: int = 0) -> MLP:
    torch.manual_seed(seed)
    model = MLP(hidden_sizes=hidden_sizes, in_features=24, num_classes=4)
    with torch.no_grad():
        for p in model.parameters():  # sums of products with whole voltages are then exact
            p.copy_(p.mul(64).round().div(64))
    return model


def batch(count: int = 37) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, 24, generator=generator)
    inputs *= torch.rand(inputs.shape, generator=generator) > 0.6
    return inputs, torch.randint(4, (count,), generator=generator)


def step(model: nn.Module, way: Any) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    loss, logits = way(model, 0.1, "fp32")(*batch())
    return loss, logits, [p.grad for p in model.parameters()]


@needs_kernels
@pytest.mark.parametrize(
    "reading",
    [
        QUIET,
        ArrayReading(output_noise=0.0, input_range=0.75, input_signed=False, output_bits=5),
        ArrayReading(output_noise=0.0, output_range="all_rows", tile_rows=100),
        ArrayReading(**EXACT_INPUTS, output_bits=None, output_range=0.5),
        ArrayReading(output_noise=0.0, wire_resistance=1e-3),
    ],
    ids=["default", "unsigned", "one tile", "clipped", "wires"],
)
@pytest.mark.parametrize(
    "devices",
    [None, {"clip": False}, {"mapping": "differential", "W_min": 0.0, "W_max": 0.5, "gain": 2.0}],
    ids=["no devices", "ideal", "pairs"],
)
def test_without_noise_a_step_is_that_of_autograd(
    reading: ArrayReading, devices: dict[str, Any] | None
) -> None:
    model = network(13)
    if devices is not None:
        DeviceConstraint(**device_settings(**devices, read=reading)).attach(model, seed=0)
    with reading_on(model, reading, seed=0) if devices is None else nullcontext():
        assert type(fastest_way(model, 0.1, "fp32")) is ReadLinearLayers
        loss, logits, gradients = step(model, backpropagation)
        with using("torch"):
            other = copy.deepcopy(gradients)
            true_loss, true_logits, true_gradients = step(model, Autograd)
    if reading.input_bits is None or reading.wire_resistance:
        torch.testing.assert_close(logits, true_logits)
    else:
        assert logits.equal(true_logits)
    torch.testing.assert_close(loss, true_loss)
    torch.testing.assert_close(other, true_gradients)


@needs_kernels
def test_noise_has_the_distribution_of_the_plain_way() -> None:
    model, (inputs, labels) = network(), batch(1)
    many = inputs.expand(6000, -1).contiguous(), labels.expand(6000).contiguous()
    reading = ArrayReading(output_noise=0.3, read_noise=0.1, output_bits=None, output_range=20.0)
    with reading_on(model, reading, seed=0):
        ours = ReadLinearLayers(model, 0.0, "fp32")(*many)[1]
        with using("torch"):
            plain = Autograd(model, 0.0, "fp32")(*many)[1]
    torch.testing.assert_close(ours.mean(0), plain.mean(0), rtol=0, atol=0.05)
    torch.testing.assert_close(ours.std(0), plain.std(0), rtol=0.04, atol=0)
    deviation = ours - ours.mean(0)
    correlation = (deviation.T @ deviation / len(ours)) / ours.var(0).sqrt().outer(ours.std(0))
    torch.testing.assert_close(correlation, torch.eye(4), rtol=0, atol=0.06)
    one_later = (deviation[1:] * deviation[:-1]).mean(0) / ours.var(0)
    assert one_later.abs().max() < 0.06


def test_training_resumes_bit_for_bit() -> None:
    def start() -> tuple[nn.Module, torch.optim.Optimizer, DeviceConstraint]:
        model = network(9)
        reading = ArrayReading(read_noise=0.05, weight_noise=0.1)
        settings = device_settings(mapping="differential", quantize=True, read=reading)
        constraint = DeviceConstraint(**settings)
        constraint.attach(model, seed=1)
        return model, torch.optim.SGD(model.parameters(), lr=0.1), constraint

    def train(
        model: nn.Module, optimizer: torch.optim.Optimizer, constraint: DeviceConstraint
    ) -> None:
        way = backpropagation(model, 0.0, "fp32")
        for _ in range(3):
            way(*batch())
            optimizer.step()
            constraint.step()

    model, optimizer, constraint = start()
    train(model, optimizer, constraint)
    saved = io.BytesIO()
    torch.save([model.state_dict(), constraint.state_dict()], saved)
    train(model, optimizer, constraint)
    again, other_optimizer, other_constraint = start()
    saved.seek(0)
    of_model, of_constraint = torch.load(saved, weights_only=True)
    again.load_state_dict(of_model)
    other_constraint.load_state_dict(of_constraint)
    train(again, other_optimizer, other_constraint)
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert one.equal(other)


@needs_kernels
def test_bits_do_not_depend_on_threads() -> None:
    def logits(threads: int) -> Tensor:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            model = network(300)
            with reading_on(model, ArrayReading(weight_noise=0.1), seed=0):
                return ReadLinearLayers(model, 0.0, "fp32")(*batch(400))[1]
        finally:
            torch.set_num_threads(before)

    assert logits(1).equal(logits(3))


class Half(ArrayReading):
    """A class of one's own, which may do anything."""

    def drive(self, inputs: Tensor) -> Any:
        return super().drive(inputs / 2)


@pytest.mark.parametrize(
    "reading",
    [ArrayReading(in_backward=True), ArrayReading(tile_rows=8), Half()],
    ids=["in backward", "tiles", "one's own"],
)
def test_what_the_kernels_do_not_read_is_left_to_autograd(reading: Reading) -> None:
    model = network(13)
    with reading_on(model, reading, seed=0):
        assert type(backpropagation(model, 0.0, "fp32")) is Autograd


@needs_kernels
def test_a_wrong_declaration_is_found_behind_a_reading(capsys: pytest.CaptureFixture[str]) -> None:
    class Wrong(MLP):
        def stages(self) -> Any:
            return super().stages()

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).square()

    torch.manual_seed(0)
    model = Wrong(hidden_sizes=[5], in_features=24, num_classes=4)
    with reading_on(model, QUIET, seed=0):
        found = step(model, backpropagation)[1]
        assert found.equal(model(batch()[0]))
    assert "declares stages()" in capsys.readouterr().err
