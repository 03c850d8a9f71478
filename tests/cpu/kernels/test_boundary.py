"""Kernels get plain tensors or none, under any defaults, modes and tensor types of torch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from mnist_exp.cpu import ops
from mnist_exp.cpu.kernels import absence, library
from mnist_exp.data import Dataset
from mnist_exp.data.batches import Images
from mnist_exp.device.random_source import RandomSource
from mnist_exp.errors import UserError
from mnist_exp.models import MLP, CNN21k
from mnist_exp.optim import AsymmetricSGD, orthogonalize
from mnist_exp.train.backprop.choose import fastest_way
from mnist_exp.train.evaluate import evaluate
from tests.helpers.kernel_builds import COMPILED, using

CPU = torch.device("cpu")
GRID = (0.3, 10.0, -1.0, 1.0, 0.1)


@pytest.fixture(params=["torch", *COMPILED], scope="module", autouse=True)
def _build(request: pytest.FixtureRequest) -> Iterator[None]:
    with using(request.param):
        yield


def results(images: Images, models: list[nn.Module]) -> list[Tensor]:
    """Return the outputs of everything kernels compute, from inputs made here."""
    indices = torch.arange(40, device="cpu")
    inputs, labels = images.batch(indices)
    found = [inputs]
    for model in models:
        found += fastest_way(model, 0.1, "fp32")(inputs, labels)
        found += [p.grad.clone() for p in model.parameters() if p.grad is not None]
        assert evaluate(model, images, indices, batch_size=20, precision="fp32").loss > 0
    weight = next(models[0].parameters()).detach().clone()
    found.append(orthogonalize(weight, 5))
    optimizer = AsymmetricSGD([weight], lr_pos=0.2, lr_neg=0.1, momentum=0.9)
    weight.grad = weight.clone()
    optimizer.step()
    random = RandomSource(0, CPU)
    ops.round_stochastic_(weight.view(-1), *GRID, random=random)
    found += [weight.clone(), ops.round_nearest_(weight, *GRID), random.uniform(9)]
    return [*found, torch.tensor(ops.norm(weight), dtype=torch.float32, device="cpu")]


@pytest.mark.parametrize("change", ["float64", "bfloat16", "meta"])
def test_defaults_of_torch_change_nothing(change: str, mnist: Dataset) -> None:
    images = Images(mnist, device=CPU, mean=0.1, std=0.3)
    mlp = MLP(hidden_sizes=[20], num_classes=10, activation="relu", dropout=0.0)
    models = [mlp, CNN21k(num_classes=10)]
    expected = results(images, models)
    try:
        if change == "meta":
            torch.set_default_device("meta")
        else:
            torch.set_default_dtype(getattr(torch, change))
        found = results(images, models)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("shape", [(3,), (4, 5, 5), (5,), (100,)])
def test_a_velocity_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    weight = torch.ones(4, 5, requires_grad=True)
    weight.grad = torch.ones(4, 5)
    optimizer = AsymmetricSGD([weight], lr_pos=0.1, lr_neg=0.1, momentum=0.9)
    optimizer.state[weight]["momentum_buffer"] = torch.zeros(shape)
    with pytest.raises(RuntimeError):
        optimizer.step()
    assert torch.equal(weight, torch.ones(4, 5))


def test_fake_tensors_have_shapes_alone() -> None:
    with FakeTensorMode():
        w = torch.ones(4, 5)
        ops.asymmetric_sgd_([w], [torch.ones(4, 5)], lr_pos=0.1, lr_neg=0.1)
        ops.round_nearest_(w, *GRID)
        pixels = torch.ones(7, 28, 28, dtype=torch.uint8)
        assert ops.pixels_to_inputs(pixels, torch.arange(3), 1.0, 0.5).shape == (3, 28, 28)
        assert orthogonalize(w, 5).shape == (4, 5)


def test_vmap_maps_each() -> None:
    matrices = torch.randn(3, 4, 6)
    together = torch.vmap(lambda x: orthogonalize(x, 5))(matrices)
    torch.testing.assert_close(
        together, torch.stack([orthogonalize(x, 5) for x in matrices]), rtol=1e-4, atol=1e-5
    )

    def moved(gradient: Tensor) -> Tensor:
        w = torch.zeros_like(gradient)
        ops.asymmetric_sgd_([w], [gradient], lr_pos=0.1, lr_neg=0.2)
        return w

    torch.testing.assert_close(torch.vmap(moved)(torch.ones(3, 7)), torch.full((3, 7), -0.2))


def test_what_autograd_records_is_left_to_torch() -> None:
    matrix = torch.randn(4, 6)
    exact = matrix.double().requires_grad_()
    matrix.requires_grad_()
    weights = torch.randn(4, 6)
    (orthogonalize(matrix, 3) * weights).sum().backward()
    (orthogonalize(exact, 3) * weights).sum().backward()
    assert matrix.grad is not None
    torch.testing.assert_close(matrix.grad.double(), exact.grad, rtol=1e-3, atol=1e-4)
    leaf = torch.ones(4, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf"):
        ops.asymmetric_sgd_([leaf], [torch.ones(4)], lr_pos=0.1, lr_neg=0.1)
    with pytest.raises(RuntimeError):
        ops.round_nearest_(leaf, *GRID)


@pytest.mark.parametrize("stochastic", [False, True])
def test_autograd_notices_that_conductances_were_rounded(stochastic: bool) -> None:
    w, factor = torch.rand(9), torch.ones(9, requires_grad=True)
    product = (w * factor).sum()
    if stochastic:
        ops.round_stochastic_(w, *GRID, random=RandomSource(0, CPU))
    else:
        ops.round_nearest_(w, *GRID)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_tensors_of_inference_mode_are_left_to_torch() -> None:
    with torch.inference_mode():
        w = torch.full((3,), 0.26)
        assert ops.round_nearest_(w, 0.0, 10.0, -1.0, 1.0, 0.1).tolist() != [0.26] * 3
        ops.asymmetric_sgd_([w], [torch.ones(3)], lr_pos=0.1, lr_neg=0.1)


class TestVariable:
    """``MNIST_EXP_KERNELS`` forces a build, or is refused with the builds available."""

    compiled = staticmethod(library.compiled.__wrapped__)

    @pytest.mark.parametrize("build", COMPILED)
    def test_forces_a_build(self, build: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MNIST_EXP_KERNELS", build)
        kernels = self.compiled()
        assert kernels is not None
        assert kernels.build == build

    def test_a_build_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(library, "builds", lambda: {"avx2": "/somewhere"})
        monkeypatch.setenv("MNIST_EXP_KERNELS", "avx512")
        with pytest.raises(UserError, match="avx512: not available; this processor can run avx2"):
            self.compiled()
        monkeypatch.setattr(library, "builds", dict)
        for wanted in ("avx2", "compiled"):
            monkeypatch.setenv("MNIST_EXP_KERNELS", wanted)
            with pytest.raises(UserError, match=f"{wanted}: not available; there are no compil"):
                self.compiled()


def test_a_run_without_kernels_can_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with using("torch"):
        monkeypatch.delenv("MNIST_EXP_KERNELS", raising=False)
        monkeypatch.setattr(library, "cpu_flags", lambda: frozenset(library.BUILDS["avx2"]))
        sentence = "no compiled kernels: they need a C compiler when the package is installed; "
        assert absence(CPU) == f"{sentence}training runs on torch's operations"
        monkeypatch.setattr(library, "cpu_flags", frozenset)
        assert "Linux on an x86-64 processor with AVX2" in (absence(CPU) or "")
        assert absence(torch.device("meta")) is None
        monkeypatch.setenv("MNIST_EXP_KERNELS", "torch")
        assert absence(CPU) is None
