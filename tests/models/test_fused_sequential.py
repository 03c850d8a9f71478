"""BatchNorm, ReLU and pooling as one operation, against the layers one by one."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mnist_exp.cpu import batch_norm
from mnist_exp.cpu.kernels import library
from mnist_exp.models.batch_norm import BatchNorm2d, FusedSequential
from tests.helpers.kernel_builds import COMPILED, using

pytestmark = pytest.mark.skipif(not COMPILED, reason="no compiled kernels on this machine")


@pytest.fixture(params=COMPILED, scope="module", autouse=True)
def _compiled(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each build that this machine can run."""
    with using(request.param):
        yield


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each operation that ran included pooling."""
    ran: list[bool] = []

    def norm_relu(
        x: Tensor, weight: Tensor, bias: Tensor, eps: float, pooled: bool
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        found = batch_norm.norm_relu(x, weight, bias, eps, pooled)
        if found is not None:
            ran.append(pooled)
        return found

    monkeypatch.setattr("mnist_exp.models.batch_norm.norm_relu", norm_relu)
    return ran


def layers(channels: int, *after: nn.Module) -> FusedSequential:
    """Return a BatchNorm with any parameters and statistics, and layers after it."""
    norm = BatchNorm2d(channels)
    for values in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(values)
    return FusedSequential(nn.Sequential(norm, nn.ReLU()), *after)


def images(*shape: int) -> Tensor:
    return (2 * torch.randn(shape) + 1).to(memory_format=torch.channels_last)


def step(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return output, gradients and statistics of a forward and backward pass."""
    x = x.detach().clone().requires_grad_()
    output = model(x)
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    (output * weights).sum().backward()
    gradients = {f"gradient of {name}": p.grad for name, p in model.named_parameters()}
    tensors = {"output": output.detach(), "gradient": x.grad, **gradients}
    found = tensors | dict(model.named_buffers())
    return {name: tensor.double() for name, tensor in found.items() if tensor is not None}


def one_by_one(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """`step` in torch's operations and float64."""
    exact = copy.deepcopy(model).double()
    for name, layer in exact.named_modules():
        if isinstance(layer, BatchNorm2d):
            own = nn.BatchNorm2d(layer.num_features).double()
            own.load_state_dict(layer.state_dict())
            exact.set_submodule(name, own)
    with using("torch"):
        return step(exact, x.double())


def check(model: nn.Module, x: Tensor) -> None:
    expected = one_by_one(model, x)
    torch.testing.assert_close(step(model, x), expected, rtol=1e-4, atol=1e-4)


@given(
    batch=st.integers(3, 9),
    channels=st.integers(1, 40),
    height=st.integers(2, 9),
    width=st.integers(2, 9),
    pooled=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_step_equals_that_of_the_layers_one_by_one(
    batch: int, channels: int, height: int, width: int, pooled: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    pool = [nn.MaxPool2d(2)] if pooled else []
    model, x = layers(channels, *pool), images(batch, channels, height, width)
    check(model, x)


def test_equal_numbers_of_a_window_share_a_gradient_as_in_torch(fused: list[bool]) -> None:
    torch.manual_seed(0)
    model = layers(5, nn.MaxPool2d(2))
    x = torch.randint(-1, 2, (16, 5, 8, 8)).float().to(memory_format=torch.channels_last)
    check(model, x)
    assert fused == [True]


def test_statistics_are_exact_also_far_from_zero() -> None:
    torch.manual_seed(0)
    model, x = layers(12), images(64, 12, 14, 14) + 1e4
    norm = model.get_submodule("0.0")
    assert isinstance(norm, BatchNorm2d)
    norm.momentum = 1.0
    model(x)
    mean, var = x.double().mean((0, 2, 3)), x.double().var((0, 2, 3))
    torch.testing.assert_close(norm.running_mean.double(), mean, rtol=1e-7, atol=0)
    torch.testing.assert_close(norm.running_var.double(), var, rtol=1e-6, atol=0)


def test_a_batch_gives_the_same_whatever_came_before() -> None:
    torch.manual_seed(0)
    model, x = layers(12), images(8, 12, 6, 6)
    output = model(x)
    model(x * float("nan"))
    assert torch.equal(model(x), output)


def test_a_constant_channel_has_no_variance() -> None:
    torch.manual_seed(0)
    model, x = layers(40), images(8, 40, 6, 6)
    x[:] = 255 * torch.rand(40)[:, None, None]
    norm = model.get_submodule("0.0")
    assert isinstance(norm, BatchNorm2d)
    torch.testing.assert_close(model(x)[0, :, 0, 0], norm.bias.relu(), rtol=0, atol=0.02)


def test_nan_and_infinity_reach_the_output() -> None:
    for number in (float("nan"), float("inf")):
        x = images(4, 3, 6, 6)
        x[1, 2, 3, 4] = number
        assert layers(3, nn.MaxPool2d(2))(x)[:, 2].isnan().all()


@pytest.mark.parametrize(
    ("pool", "side", "pooled"),
    [
        pytest.param(nn.MaxPool2d(2), 8, [True], id="2x2"),
        pytest.param(nn.MaxPool2d((2, 2), (2, 2), (0, 0)), 8, [True], id="2x2 in pairs"),
        pytest.param(nn.MaxPool2d(2), 7, [False], id="an odd side"),
        pytest.param(nn.MaxPool2d(3), 9, [False], id="3x3"),
        pytest.param(nn.MaxPool2d(2, stride=1), 8, [False], id="windows overlap"),
        pytest.param(nn.MaxPool2d(2, padding=1), 8, [False], id="padding"),
        pytest.param(nn.AvgPool2d(2), 8, [False], id="a mean"),
        pytest.param(nn.Dropout2d(0.0), 8, [False], id="dropout"),
    ],
)
def test_only_what_is_known_is_taken(
    pool: nn.Module, side: int, pooled: list[bool], fused: list[bool]
) -> None:
    torch.manual_seed(0)
    model, x = layers(6, pool), images(4, 6, side, side)
    check(model, x)
    assert fused == pooled


def test_what_needs_no_gradient_has_none(fused: list[bool]) -> None:
    torch.manual_seed(0)
    model, x = layers(6, nn.MaxPool2d(2)), images(4, 6, 8, 8)
    expected = step(model, x)
    model(x).square().sum().backward()  # without the inputs' gradient
    model.requires_grad_(False)
    torch.testing.assert_close(step(model, x)["gradient"], expected["gradient"])
    with torch.no_grad():
        torch.testing.assert_close(model(x).double(), expected["output"])
    assert fused == 4 * [True]


@pytest.mark.parametrize("fault", ["too few channels", "too many channels", "a single number"])
def test_wrong_images_are_refused_as_by_torch(fault: str) -> None:
    model = layers(6)
    shapes = {"too few channels": (4, 1, 8, 8), "too many channels": (4, 12, 8, 8)}
    norm = model.get_submodule("0.0")
    assert isinstance(norm, BatchNorm2d)
    before = norm.running_mean.clone()
    with pytest.raises((ValueError, RuntimeError), match=r"more than 1 value|should contain"):
        model(images(*shapes.get(fault, (1, 6, 1, 1))))
    assert torch.equal(norm.running_mean, before)


def test_a_backward_pass_that_cannot_be_made_is_refused() -> None:
    model, x = layers(6), images(4, 6, 8, 8).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(torch.Tensor.half, lambda tensor: tensor):
        output = model(x)
    with pytest.raises(RuntimeError, match="takes plain float32 tensors"):
        output.sum().backward()


def test_rows_are_limited_as_in_the_kernel() -> None:
    header = (Path(library.__file__).parent / "csrc" / "batch_norm.h").read_text()
    assert f"#define MOST_IN_ROW {batch_norm.MOST_IN_ROW} " in header


def test_other_tensors_and_modes_go_to_torch(fused: list[bool]) -> None:
    torch.manual_seed(0)
    model, x = layers(6), images(4, 6, 8, 8)
    model(x.contiguous())
    model(x.bfloat16())
    copy.deepcopy(model).double()(x.double())
    model(images(2, 6, 2, 342))  # a row of 2,052 numbers
    torch.func.vmap(model.get_submodule("0.0").eval())(x.unsqueeze(0))
    torch.compile(model, backend="eager", fullgraph=True)(x)
    model.eval()(x)
    model.train().get_submodule("0.0").eval()
    model(x)
    model.get_submodule("0.0").train().momentum = None  # type: ignore[assignment]
    model(x)
    FusedSequential(BatchNorm2d(6, affine=False, track_running_stats=False), nn.ReLU())(x)
    assert fused == []


class Doubled(nn.Sequential):
    """A nested network with a forward pass of its own."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def test_layers_are_those_of_the_sequence_and_not_their_parts(fused: list[bool]) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(6, 6, 3, padding=1, bias=False)
    nn.utils.parametrizations.orthogonal(convolution)
    relu = nn.ReLU()
    model = layers(6, convolution, relu, Doubled(BatchNorm2d(6), relu), BatchNorm2d(6), relu)
    check(model, images(4, 6, 8, 8))
    assert fused == [False, False]


@pytest.mark.parametrize("place", ["0", "0.0", "0.1", ""])
def test_hooks_see_every_layer(place: str, fused: list[bool]) -> None:
    torch.manual_seed(0)
    model, seen = layers(6), []
    handle = model.get_submodule(place).register_forward_hook(lambda *_: seen.append(place))
    model(images(4, 6, 8, 8))
    assert (seen, fused) == ([place], [])
    handle.remove()
    model(images(4, 6, 8, 8))
    assert fused == [False]


@pytest.mark.parametrize("watched", [False, True])
def test_layers_may_work_in_place(watched: bool, fused: list[bool]) -> None:
    torch.manual_seed(0)
    activations = nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Hardtanh(inplace=True)
    model, x = FusedSequential(BatchNorm2d(6), *activations), images(4, 6, 8, 8)
    expected = one_by_one(model, x)
    if watched:
        model.register_forward_hook(lambda *_: None)
    torch.testing.assert_close(step(model, x), expected, rtol=1e-4, atol=1e-4)
    assert fused == ([] if watched else [True])


def test_no_second_derivative_is_made_up() -> None:
    model, x = layers(6), images(4, 6, 8, 8).requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
