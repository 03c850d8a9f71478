"""The convolutional networks: their sizes, their shapes, and BatchNorm2d against torch's own."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mnist_exp.errors import UserError
from mnist_exp.models import CNN20k, CNN21k
from mnist_exp.models.batch_norm import BatchNorm2d
from mnist_exp.models.parametrizations import count_parameters

SHAPES_OF_CNN21K = [
    ("conv1", (4, 26, 26)),
    ("conv2", (8, 24, 24)),
    ("conv3", (16, 10, 10)),
    ("conv4", (32, 8, 8)),
    ("fc1", (30,)),
    ("out", (10,)),
]


def test_cnn21k_has_exactly_21844_parameters() -> None:
    assert count_parameters(CNN21k(num_classes=10)) == 21_844


def test_cnn20k_has_18972_parameters_below_its_limit_of_20000() -> None:
    assert count_parameters(CNN20k(num_classes=10, dropout=[0.0, 0.0])) == 18_972


def test_cnn21k_layers_have_the_published_shapes() -> None:
    model = CNN21k(num_classes=10)
    shapes: list[tuple[str, tuple[int, ...]]] = []

    def record(name: str) -> None:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            shapes.append((name, tuple(output.shape[1:])))

        model.get_submodule(name).register_forward_hook(hook)

    for name, _ in SHAPES_OF_CNN21K:
        record(name)
    model(torch.rand(2, 1, 28, 28))
    assert shapes == SHAPES_OF_CNN21K


@pytest.mark.parametrize("num_classes", [2, 10])
def test_logits_of_an_image_do_not_depend_on_the_batch_or_the_layout(num_classes: int) -> None:
    images = torch.randn(5, 1, 28, 28)
    for model in (
        CNN21k(num_classes=num_classes),
        CNN20k(num_classes=num_classes, dropout=[0.5, 0.5]),
    ):
        model.eval()
        one_by_one = torch.cat([model(image[None]) for image in images])
        model.to(memory_format=torch.channels_last)
        together = model(images.to(memory_format=torch.channels_last))
        assert together.shape == (5, num_classes)
        torch.testing.assert_close(together, one_by_one, rtol=1e-4, atol=1e-5)


def test_cnn20k_dropout_drops_whole_channels_in_training_only() -> None:
    model = CNN20k(num_classes=10, dropout=[0.5, 0.0])
    dropped = next(layer for layer in model.modules() if isinstance(layer, nn.Dropout2d))
    ones = torch.ones(64, 16, 28, 28)
    output = dropped(ones)
    assert torch.equal(output.amax((2, 3)), output.amin((2, 3)))
    assert 0.4 < (output[:, :, 0, 0] == 0).float().mean() < 0.6
    model.eval()
    assert torch.equal(dropped(ones), ones)


@pytest.mark.parametrize("dropout", [[0.1], [0.1, 1.0], [-0.1, 0.1]])
def test_cnn20k_refuses_dropout_that_is_not_two_probabilities(dropout: list[float]) -> None:
    with pytest.raises(UserError, match=r"model\.dropout=.*two probabilities"):
        CNN20k(num_classes=10, dropout=dropout)


def _train_step(layer: nn.Module, images: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """One forward and backward pass: output, gradients and running statistics."""
    inputs = images.clone(memory_format=torch.preserve_format).requires_grad_()
    output = layer(inputs)
    output.backward(grad)
    assert inputs.grad is not None
    results = {"output": output, "images": inputs.grad} | dict(layer.named_buffers())
    return results | {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 6),
    channels=st.integers(1, 40),
    height=st.integers(1, 9),
    width=st.integers(2, 9),
    seed=st.integers(0, 2**16),
)
def test_batch_norm_in_channels_last_equals_torch_s_own(
    batch: int, channels: int, height: int, width: int, seed: int
) -> None:
    torch.manual_seed(seed)
    images = 3 * torch.randn(batch, channels, height, width, dtype=torch.float64) + 1
    grad = torch.randn_like(images)
    fast = BatchNorm2d(channels).double()
    nn.init.normal_(fast.weight)
    nn.init.normal_(fast.bias)
    torch_s_own = nn.BatchNorm2d(channels).double()
    torch_s_own.load_state_dict(fast.state_dict())
    channels_last = images.to(memory_format=torch.channels_last)
    expected = _train_step(torch_s_own, images, grad)
    for layout in (channels_last, images):
        copied = copy.deepcopy(fast)
        torch.testing.assert_close(_train_step(copied, layout, grad), expected)
        torch.testing.assert_close(copied.eval()(layout), torch_s_own.eval()(images))
        torch_s_own.train()


def test_batch_norm_of_bfloat16_keeps_statistics_and_parameters_in_float32() -> None:
    torch.manual_seed(0)
    images = torch.randn(32, 12, 28, 28).to(memory_format=torch.channels_last) * 2 + 1
    grad = torch.randn_like(images)
    fast, exact = BatchNorm2d(12), nn.BatchNorm2d(12)
    result = _train_step(fast, images.bfloat16(), grad.bfloat16())
    expected = _train_step(exact, images.bfloat16().float(), grad.bfloat16().float())
    for name in ("weight", "bias", "running_mean", "running_var"):
        assert result[name].dtype == torch.float32
        torch.testing.assert_close(result[name], expected[name], rtol=1e-4, atol=1e-3)
    for name in ("output", "images"):
        assert result[name].dtype == torch.bfloat16
        torch.testing.assert_close(result[name].float(), expected[name], rtol=2**-7, atol=0.02)
