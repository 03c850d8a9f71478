"""Layers whose products are read: gradients, convolutions, random state, what is refused."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_exp.device import ArrayReading, DeviceConstraint, Reading, reading_on
from mnist_exp.device.reading.layers import exact_products, restarted
from mnist_exp.device.reading.read_layer import patches_of
from mnist_exp.errors import UserError
from mnist_exp.models import MLP
from mnist_exp.models.effective_copy import effective_copy
from mnist_exp.models.stages import has_independent_samples, stages
from tests.helpers.device_nets import small_net, train_steps
from tests.helpers.device_settings import device_settings

NO_FLAWS: dict[str, Any] = {
    **{"input_bits": None, "input_range": None, "output_bits": None, "output_range": None},
    "output_noise": 0.0,
}
EXACT = ArrayReading(**NO_FLAWS)
QUIET = ArrayReading(output_noise=0.0)
CONVOLUTIONS: list[dict[str, Any]] = [
    {},
    {"stride": 2, "padding": 1},
    {"groups": 2, "dilation": 2},
    {"padding": "same", "padding_mode": "reflect"},
    {"bias": False, "padding": (2, 0)},
]


def gradients(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    """Return the output and the gradients of inputs and parameters."""
    model.zero_grad()
    inputs = inputs.clone().requires_grad_()
    outputs = model(inputs)
    outputs.square().sum().backward()
    assert inputs.grad is not None
    found = [outputs.detach(), inputs.grad, *(p.grad for p in model.parameters())]
    return [each.clone() for each in found if each is not None]


@pytest.mark.parametrize("settings", CONVOLUTIONS, ids=str)
def test_an_exact_reading_is_the_layer(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 6, 3, **settings), nn.Flatten(), nn.LazyLinear(3))
    inputs = torch.randn(5, 4, 9, 8)
    model(inputs)
    expected = gradients(model, inputs)
    with reading_on(model, EXACT, seed=0):
        found = gradients(model, inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradients(model, inputs), expected, rtol=0, atol=0)


class OnPatches(ArrayReading):
    """The same, without the way around patches."""

    is_exact = False


@pytest.mark.parametrize("settings", CONVOLUTIONS, ids=str)
def test_noisy_weights_alone_act_in_a_convolution_as_on_its_patches(
    settings: dict[str, Any],
) -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(4, 6, 3, **settings)
    inputs = torch.randn(5, 4, 9, 8)
    found = []
    for kind in (ArrayReading, OnPatches):
        noisy = kind(**NO_FLAWS, weight_noise=0.3)
        assert noisy.is_exact == (kind is ArrayReading)
        with reading_on(model, noisy, seed=0) as readers:
            readers[""].output_scale = 1.5
            found.append(gradients(model, inputs))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-3)
    assert not torch.allclose(found[0][0], 1.5 * gradients(model, inputs)[0], atol=0.1)


def test_a_convolution_is_a_linear_layer_on_its_patches() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(2, 5, 3, padding=1)
    linear = nn.Linear(18, 5)
    linear.weight.data = convolution.weight.detach().flatten(1)
    linear.bias.data = convolution.bias.detach()  # type: ignore[union-attr]
    inputs = torch.randn(4, 2, 6, 7)
    patches, sides = patches_of(convolution, inputs)
    assert sides == (6, 7)
    tiled = ArrayReading(output_noise=0.0, tile_rows=5)
    with reading_on(convolution, tiled, seed=0), reading_on(linear, tiled, seed=0):
        expected = linear(patches)  # [4, 42, 5]
        torch.testing.assert_close(convolution(inputs).flatten(2).mT, expected)


def test_gradients_pass_straight_through_converters() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(20, 4)
    inputs = torch.randn(6, 20, requires_grad=True)
    errors = torch.randn(6, 4)
    with reading_on(layer, QUIET, seed=0):
        outputs = layer(inputs)
    assert outputs.ne(F.linear(inputs, layer.weight, layer.bias)).any()
    outputs.backward(errors)
    torch.testing.assert_close(inputs.grad, errors @ layer.weight)
    torch.testing.assert_close(layer.weight.grad, errors.T @ inputs)


def test_in_backward_the_transposed_array_is_read_by_the_same_converters() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(20, 4, bias=False)
    errors = 1e-4 * torch.randn(6, 4)
    inputs = torch.randn(6, 20, requires_grad=True)
    reading = ArrayReading(output_noise=0.0, in_backward=True, input_range=0.5, tile_columns=3)
    with reading_on(layer, reading, seed=0):
        layer(inputs).backward(errors)
    turned = nn.Linear(4, 20, bias=False)
    turned.weight.data = layer.weight.detach().T
    with reading_on(turned, ArrayReading(output_noise=0.0, tile_rows=3), seed=0):
        torch.testing.assert_close(inputs.grad, turned(errors))


def test_wires_take_voltage_from_the_conductances_of_the_mapping() -> None:
    def drop(**settings: Any) -> float:
        model = small_net()
        reading = ArrayReading(
            input_bits=None, input_range=None, output_bits=None, output_range=None,
            output_noise=0.0, wire_resistance=1e-2,
        )  # fmt: skip
        with torch.no_grad():
            exact = model(torch.ones(1, 12))
            DeviceConstraint(**device_settings(**settings, read=reading)).attach(model, seed=0)
            return (model(torch.ones(1, 12)) - exact).norm().item()

    pair = {"mapping": "differential", "W_min": 0.0, "W_max": 1.0}
    # a pair around the middle of its range carries more current than one with a device off
    assert drop(**pair) > 2 * drop(W_max=1.0, W_min=-1.0) > 0


def test_the_range_of_a_bounded_device_is_that_of_its_weights() -> None:
    model = small_net()
    DeviceConstraint(
        mapping="differential", W_min=0.1, W_max=0.51, gain=2.0, read=ArrayReading()
    ).attach(model, seed=0)
    with reading_on(model, QUIET, seed=0, weight_ranges={"3": 5.0}) as layers:
        assert [layers[name].weight_range for name in ("1", "3")] == [pytest.approx(0.82), 5.0]


def test_training_resumes_bit_for_bit() -> None:
    def start() -> tuple[nn.Sequential, torch.optim.Optimizer, DeviceConstraint]:
        model = small_net()
        constraint = DeviceConstraint(
            clip=False, read=ArrayReading(read_noise=0.05, weight_noise=0.1)
        )
        constraint.attach(model, seed=1)
        return model, torch.optim.SGD(model.parameters(), lr=0.1), constraint

    model, optimizer, constraint = start()
    train_steps(model, optimizer, constraint, 3)
    saved = [part.state_dict() for part in (model, constraint)]
    saved = [torch.load(_file(each), weights_only=True) for each in saved]
    train_steps(model, optimizer, constraint, 3, seed=1)
    again, other_optimizer, other_constraint = start()
    again.load_state_dict(saved[0])
    other_constraint.load_state_dict(saved[1])
    train_steps(again, other_optimizer, other_constraint, 3, seed=1)
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert one.equal(other)


def _file(state: Any) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file


def test_evaluations_draw_the_same_noise_and_leave_that_of_training_alone() -> None:
    model, inputs = small_net(), torch.randn(4, 12)
    with reading_on(model, ArrayReading(), seed=3):
        first = model(inputs)
        with restarted(model):
            evaluated = model(inputs)
        second = model(inputs)
        with restarted(model):
            assert model(inputs).equal(evaluated)
    with reading_on(model, ArrayReading(), seed=3):
        assert model(inputs).equal(first)
        assert not first.equal(evaluated)  # noise of its own
        assert model(inputs).equal(second)
        assert not second.equal(first)
    with reading_on(model, ArrayReading(), seed=4):
        assert not model(inputs).equal(first)


def test_what_a_network_declares_does_not_hold_while_it_is_read() -> None:
    model = MLP(hidden_sizes=[5])
    assert stages(model) is not None
    with reading_on(model, ArrayReading(), seed=0) as readers:
        assert stages(model) is None
        assert not has_independent_samples(model)
        with exact_products(model):
            assert stages(model) is not None
        assert [vars(reader.layer)["forward"] for reader in readers.values()] == [*readers.values()]
    assert stages(model) is not None


def test_a_copy_with_effective_weights_computes_exactly() -> None:
    model, inputs = small_net(), torch.randn(4, 12)
    exact = model(inputs)
    with reading_on(model, ArrayReading(), seed=0):
        assert effective_copy(model)(inputs).equal(exact)
        assert not model(inputs).equal(exact)


def test_a_digital_factor_scales_outputs_before_the_bias() -> None:
    layer, inputs = nn.Linear(6, 2), torch.randn(3, 6)
    with reading_on(layer, QUIET, seed=0) as layers:
        read = layer(inputs)
        layers[""].output_scale = 2.0
        torch.testing.assert_close(layer(inputs) - layer.bias, 2 * (read - layer.bias))


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (nn.Conv1d(2, 2, 3), "Conv1d"),
        (nn.ConvTranspose2d(2, 2, 3), "ConvTranspose2d"),
        (nn.Bilinear(2, 2, 2), "Bilinear"),
        (nn.MultiheadAttention(4, 2), "NonDynamicallyQuantizableLinear"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_layers_that_cannot_be_read_are_refused_and_none_is_changed(
    layer: nn.Module, named: str
) -> None:
    model = nn.Sequential(nn.Linear(3, 3), layer)
    with (
        pytest.raises(UserError, match=rf"constraint\.read: 1.* is a {named}"),
        reading_on(model, ArrayReading(), seed=0),
    ):
        pass
    assert all("forward" not in vars(module) for module in model.modules())


def test_what_is_no_reading_is_refused() -> None:
    with pytest.raises(UserError, match=r"constraint\.read.*allowed is null"):
        DeviceConstraint(read=7)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"W_min=-1.*wire_resistance"):
        DeviceConstraint(mapping="differential", read=ArrayReading(wire_resistance=1e-6))


def test_a_reading_of_ones_own_needs_a_product_only() -> None:
    class Half(Reading):
        def read(self, inputs: Tensor, weights: Tensor, array: Any) -> Tensor:
            return inputs @ weights.T / 2

    model, inputs = small_net(), torch.randn(3, 12)
    with reading_on(model[1], Half(), seed=0):
        read = model[1](inputs) - model[1].bias
    torch.testing.assert_close(read, (model[1](inputs) - model[1].bias) / 2)
