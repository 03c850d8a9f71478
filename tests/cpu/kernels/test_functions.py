"""The compiled kernels match torch's operations and are used only on supported inputs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mnist_exp.cpu.kernels import kernels_for, library
from mnist_exp.cpu.kernels.functions import Kernels
from mnist_exp.cpu.ops import correct_predictions
from mnist_exp.data import Dataset
from mnist_exp.data.batches import Images
from mnist_exp.device.effects import Round
from mnist_exp.device.random_source import RandomSource
from mnist_exp.errors import UserError
from mnist_exp.models import MLP
from mnist_exp.optim import AsymmetricSGD
from mnist_exp.train.backprop.mlp import LinearLayers
from tests.conftest import Compose
from tests.helpers.fault_injection import command
from tests.helpers.kernel_builds import COMPILED, using

needs_kernels = pytest.mark.skipif(not COMPILED, reason="no compiled kernels on this machine")
CPU = torch.device("cpu")
SPECIAL = (0.0, -0.0, float("inf"), -float("inf"), float("nan"), 1e-42)


@pytest.fixture(params=COMPILED, scope="module")
def compiled(request: pytest.FixtureRequest) -> Iterator[Kernels]:
    """Each build that this machine can run."""
    with using(request.param):
        kernels = kernels_for()
        assert kernels is not None
        yield kernels


def numbers(count: int, seed: int = 0) -> Tensor:
    """Return random numbers, some of them special."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, generator=generator)
    places = torch.randint(count, (len(SPECIAL),), generator=generator)
    values[places] = torch.tensor(SPECIAL)
    return values


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are equal, counting NaN as equal to NaN."""
    return torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def sparse_batch(samples: int, inputs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return inputs of which four in five are 0, and labels of three classes."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(samples, inputs, generator=generator)
    x *= torch.rand(samples, inputs, generator=generator) < 0.2
    return x, torch.randint(3, (samples,), generator=generator)


def gradients(model: nn.Module, data: tuple[Tensor, Tensor], smoothing: float) -> list[Tensor]:
    """Return loss, logits and gradients."""
    loss, logits = LinearLayers(model, smoothing, "fp32")(*data)
    return [loss, logits, *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@given(
    samples=st.sampled_from([1, 2, 15, 16, 17, 64, 127, 130, 300]),
    inputs=st.integers(1, 150),
    hidden=st.lists(st.integers(1, 150), max_size=2),
    smoothing=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 9),
)
def test_gradients_are_those_of_torchs_operations(
    compiled: Kernels, samples: int, inputs: int, hidden: list[int], smoothing: float, seed: int
) -> None:
    torch.manual_seed(seed)
    model = MLP(
        hidden_sizes=hidden, num_classes=3, activation="relu", dropout=0.0, in_features=inputs
    )
    data = sparse_batch(samples, inputs, seed)
    ours = LinearLayers(model, smoothing, "fp32")
    assert ours.compiled is not None
    assert ours.compiled.kernels_for(*data) is compiled, "they would not be what is tested"
    taken = gradients(model, data, smoothing)
    with using("torch"):
        torch.testing.assert_close(taken, gradients(model, data, smoothing), rtol=1e-4, atol=1e-6)


def test_wide_layers_are_worked_through_in_blocks(compiled: Kernels) -> None:
    torch.manual_seed(0)
    model = MLP(
        hidden_sizes=[300, 270], num_classes=140, activation="relu", dropout=0.0, in_features=99
    )
    data = sparse_batch(40, 99, 0)
    taken = gradients(model, data, 0.1)
    with using("torch"):
        torch.testing.assert_close(taken, gradients(model, data, 0.1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda x, labels: (x[:, :-1], labels), id="too few inputs"),
        pytest.param(lambda x, labels: (x, labels[:-1]), id="too few labels"),
        pytest.param(lambda x, labels: (x, labels + 3), id="a label out of range"),
        pytest.param(lambda x, labels: (x, labels - 3), id="a negative label"),
    ],
)
def test_batches_that_do_not_fit_are_refused(compiled: Kernels, change: Any) -> None:
    model = MLP(hidden_sizes=[5], num_classes=3, activation="relu", dropout=0.0, in_features=20)
    with pytest.raises((RuntimeError, IndexError)):
        LinearLayers(model, 0.0, "fp32")(*change(*sparse_batch(9, 20, 0)))


def test_an_empty_batch_has_no_mean_loss(compiled: Kernels) -> None:
    model = MLP(hidden_sizes=[5], num_classes=3, activation="relu", dropout=0.0, in_features=20)
    loss, logits = LinearLayers(model, 0.0, "fp32")(*sparse_batch(0, 20, 0))
    assert loss.isnan()
    assert logits.shape == (0, 3)


def test_weights_that_are_moved_or_converted_are_noticed(compiled: Kernels) -> None:
    torch.manual_seed(0)
    model = MLP(hidden_sizes=[50], num_classes=3, activation="relu", dropout=0.0, in_features=40)
    data = sparse_batch(30, 40, 0)
    layers = LinearLayers(model, 0.1, "fp32")
    loss, _ = layers(*data)
    weight = next(p for p in model.parameters() if p.ndim == 2)
    weight.data = weight.data.T.contiguous().T
    torch.testing.assert_close(layers(*data)[0], loss)
    model.double()
    torch.testing.assert_close(layers(*data)[0], loss)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_shows_even_where_inputs_are_0(
    compiled: Kernels, value: float
) -> None:
    model = MLP(hidden_sizes=[50], num_classes=3, activation="relu", dropout=0.0, in_features=40)
    x, labels = sparse_batch(30, 40, 0)
    x[:, 7] = 0
    with torch.no_grad():
        next(model.parameters())[3, 7] = value
    taken = gradients(model, (x, labels), 0.1)
    with using("torch"):
        torch.testing.assert_close(taken, gradients(model, (x, labels), 0.1), equal_nan=True)
    assert taken[0].isnan()


@needs_kernels
@pytest.mark.parametrize("build", library.builds())
def test_importing_a_build_says_what_it_is(build: str) -> None:
    with pytest.raises(ImportError, match="not a Python module but a library that ctypes loads"):
        import_module(f"{library.__package__}._{build}")


def test_dense_batches_are_left_to_torch(compiled: Kernels) -> None:
    model = MLP(hidden_sizes=[500, 500], num_classes=3, activation="relu", dropout=0.0)
    layers = LinearLayers(model, 0.0, "fp32").compiled
    assert layers is not None
    x, labels = sparse_batch(500, 784, 0)
    assert layers.kernels_for(torch.ones_like(x), labels) is None
    assert layers.kernels_for(x.double(), labels) is None


@given(count=st.integers(6, 200), momentum=st.sampled_from([0.0, 0.9]), seed=st.integers(0, 9))
def test_updates_are_bit_for_bit_those_of_torch(
    compiled: Kernels, count: int, momentum: float, seed: int
) -> None:
    def updated() -> Tensor:
        weight = nn.Parameter(numbers(count, seed))
        optimizer = AsymmetricSGD([weight], lr_pos=0.1, lr_neg=0.103, momentum=momentum)
        for step in range(3):
            weight.grad = numbers(count, seed + step + 1)
            optimizer.step()
        return weight.detach()

    taken = updated()
    with using("torch"):
        assert same_bits(taken, updated())


@given(
    count=st.integers(6, 700),
    stochastic=st.booleans(),
    retention=st.sampled_from([0.0, 1e-5, 0.3]),
    seed=st.integers(0, 9),
)
def test_rounding_is_bit_for_bit_that_of_torch(
    compiled: Kernels, count: int, stochastic: bool, retention: float, seed: int
) -> None:
    def rounded() -> Tensor:
        random = RandomSource(seed, CPU)
        effect = Round(retention, 0.1, 0.1, 0.51, 100, random if stochastic else None)
        w = numbers(count, seed)
        for _ in range(3):  # the generators continue their streams
            effect(w, None)
            w += 0.001
        effect(w[: count // 2], None)  # fewer devices than before
        return torch.cat([w, random.uniform(5)])

    taken = rounded()
    with using("torch"):
        assert same_bits(taken, rounded())


@given(
    count=st.integers(6, 700),
    stochastic=st.booleans(),
    seed=st.integers(0, 9),
    begin=st.sampled_from([3, 2**31 - 2]),  # the second saturates
)
def test_moves_between_levels_are_counted_as_by_torch(
    compiled: Kernels, count: int, stochastic: bool, seed: int, begin: int
) -> None:
    before = numbers(count, seed)
    Round(0.0, 0.1, 0.1, 0.51, 100, None)(before, None)

    def rounded() -> Tensor:
        counts, random = torch.full((count,), begin, dtype=torch.int32), RandomSource(seed, CPU)
        effect = Round(0.3, 0.1, 0.1, 0.51, 100, random if stochastic else None, counts)
        w = before.clone()
        w[::3] = numbers(count, seed)[::3]  # the others are asked to stay
        effect(w, before)
        assert counts[1::3].eq(begin).all()
        assert count < 300 or counts[::3].gt(begin).any()
        assert counts.ge(begin).all()
        return torch.cat([w, random.uniform(5), counts])

    taken = rounded()
    with using("torch"):
        assert same_bits(taken, rounded())


def test_bounds_of_each_device_are_left_to_torch(compiled: Kernels) -> None:
    low, high = torch.tensor([0.0, 0.5]), torch.tensor([1.0, 0.75])
    w = torch.tensor([0.7, 0.7])
    Round(0.0, 0.0, low, high, 2, None)(w, None)
    assert w.tolist() == [1.0, 0.75]


@pytest.mark.parametrize("mean", [0.0, 0.1307])
def test_batches_are_bit_for_bit_those_of_torch(
    compiled: Kernels, mean: float, mnist: Dataset
) -> None:
    images = Images(mnist, device=CPU, mean=mean, std=0.3081)
    indices = torch.tensor([5, 69_999, 5, 0, 1234])
    inputs, labels = images.batch(indices)
    with using("torch"):
        torch.testing.assert_close((inputs, labels), images.batch(indices), rtol=0, atol=0)
    for wrong in (-1, 70_000):
        with pytest.raises(IndexError):
            images.batch(torch.tensor([3, wrong]))


def test_pixels_of_another_type_are_left_to_torch(compiled: Kernels) -> None:
    pixels = torch.rand(9, 4, 4)
    dataset = Dataset("floats", pixels, torch.zeros(9).long(), 5, ("a",))
    images = Images(dataset, device=CPU, mean=0, std=1)
    torch.testing.assert_close(images.batch(torch.tensor([3]))[0][0, 0], pixels[3] / 255)


def test_right_predictions_are_counted_as_torch_counts_them(compiled: Kernels) -> None:
    logits = torch.randint(3, (500, 4)).float()  # many ties
    labels = torch.randint(4, (500,))
    counted = correct_predictions(logits, labels)
    with using("torch"):
        assert counted == correct_predictions(logits, labels) > 0
    partly_nan = torch.tensor([[1.0, float("nan"), 2.0], [float("nan"), 1.0, float("nan")]])
    assert correct_predictions(partly_nan, torch.tensor([1, 0])) == 2  # argmax takes the first NaN
    with pytest.raises(RuntimeError):  # torch's error: shapes do not match
        correct_predictions(torch.zeros(7, 3), torch.zeros(5, dtype=torch.int64))


@pytest.mark.parametrize("count", [0, 1, 63, 64, 1000])
def test_norm_and_density(compiled: Kernels, count: int) -> None:
    x = torch.randn(count, 3) * (torch.rand(count, 3) < 0.3)
    assert compiled.norm(x) == pytest.approx(float(x.norm()), rel=1e-6)
    looked_at = x[:64]
    share = int((looked_at != 0).sum()) / max(looked_at.numel(), 1)
    assert compiled.density(x, 64) == pytest.approx(share)


@needs_kernels
def test_a_library_compiled_from_other_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_exp.cpu.kernels.interface.INTERFACE", 0)
    build, path = next(iter(library.builds().items()))
    with pytest.raises(UserError, match=r"another version of the package\. Install it again"):
        Kernels(build, path)


@needs_kernels
def test_only_plain_tensors_are_handed_to_the_kernels() -> None:
    assert kernels_for(torch.zeros(3, 4)) is not None
    for other in (
        torch.zeros(3, 4).T,
        torch.zeros(3, 4, dtype=torch.float64),
        torch.zeros(3, 4, device="meta"),
        torch.zeros(3, 4).to_sparse(),
    ):
        assert kernels_for(torch.zeros(2), other) is None


@needs_kernels
def test_autograd_notices_that_an_update_changed_a_weight() -> None:
    weight = nn.Parameter(torch.ones(4))
    loss = (weight**2).sum()
    weight.grad = torch.ones(4)
    AsymmetricSGD([weight], lr_pos=0.1, lr_neg=0.1, momentum=0.0).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


chosen = library.compiled  # which `using` replaces


def run(kernels: str, *arguments: str, cwd: Path) -> tuple[int, str]:
    def choose() -> None:
        os.environ["MNIST_EXP_KERNELS"] = kernels
        library.compiled = chosen
        chosen.cache_clear()

    return command(*arguments, cwd=cwd, prepare=choose)


@pytest.mark.slow
def test_the_environment_variable_chooses_and_a_wrong_one_says_what_is_allowed(
    tmp_path: Path,
) -> None:
    assert "torch on the CPU" in run("torch", "env-check", cwd=tmp_path)[1]
    code, output = run("fast", "model=mlp100", "debug=fast", cwd=tmp_path)
    assert code == 2
    assert "MNIST_EXP_KERNELS=fast: allowed are torch, compiled, avx512 and avx2" in output
    assert "Traceback" not in output


@pytest.mark.slow
@needs_kernels
@pytest.mark.parametrize("constraint", ["none", "published", "memristor"])
def test_training_goes_the_same_way_with_and_without_kernels(
    constraint: str, mnist: Dataset, compose_config: Compose
) -> None:
    from mnist_exp import build
    from mnist_exp.train.loop import Training, train

    def losses() -> list[float]:
        config = compose_config(
            "model=mlp100", f"constraint={constraint}", "training.epochs=1", "optimizer.momentum=0"
        )
        state = build.build_state(config, 10, 4000, CPU, seed=0)
        images = build.build_images(config, mnist, CPU)
        recipe = build.build_recipe(config, CPU)
        train(state, Training(images, torch.arange(4000), recipe), lambda model: {})
        return [state.history[0]["train_loss"], state.history[0]["train_accuracy"]]

    taken = losses()
    with using("torch"):
        # float errors in the gradients can round some conductances to another level
        assert taken == pytest.approx(losses(), rel=1e-3 if constraint == "none" else 0.05)
