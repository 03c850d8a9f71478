"""Muon: orthogonal steps, torch's own Muon and Adam as references, schedulers and refusals."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mnist_exp.errors import UserError
from mnist_exp.optim.muon import QUINTIC, Muon, orthogonalize, orthogonalize_together
from tests.helpers.kernel_builds import COMPILED, using

SETTINGS: dict[str, Any] = {
    "lr": 0.02,
    "vector_lr": 0.01,
    "momentum": 0.9,
    "beta2": 0.99,
    "steps": 5,
}


@pytest.fixture(params=[*COMPILED, "torch"], scope="module", autouse=True)
def _build(request: pytest.FixtureRequest) -> Iterator[None]:
    with using(request.param):
        yield


def take_steps(optimizer: torch.optim.Optimizer, parameters: list[Tensor], count: int = 5) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        for p in parameters:
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()


def copies(*shape: int, count: int = 2) -> list[Tensor]:
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return [start.clone().requires_grad_() for _ in range(count)]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(0, 1000))
def test_orthogonalize_keeps_singular_vectors_and_brings_singular_values_near_one(
    rows: int, columns: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    u, _, v = torch.linalg.svd(torch.randn(rows, columns, generator=generator), full_matrices=False)
    values = 0.1 + torch.rand(min(rows, columns), generator=generator)
    orthogonal = orthogonalize(u @ torch.diag(values) @ v, steps=5)
    result = u.T @ orthogonal @ v.T
    diagonal = result.diagonal()
    assert diagonal.min() > 0.6
    assert diagonal.max() < 1.3
    torch.testing.assert_close(result, torch.diag(diagonal), rtol=0, atol=1e-3)


def as_published(matrix: Tensor, steps: int) -> Tensor:
    """Iterate on the matrix itself."""
    x = matrix / matrix.norm()
    for _ in range(steps):
        gram = x @ x.T
        x = (QUINTIC[0] * torch.eye(len(x)) + QUINTIC[1] * gram + QUINTIC[2] * gram @ gram) @ x
    return x


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 80), st.integers(1, 80), st.integers(1, 6))
def test_a_matrix_becomes_what_the_published_iteration_makes_of_it(
    rows: int, columns: int, steps: int
) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
    result = orthogonalize(matrix, steps)
    torch.testing.assert_close(result, as_published(matrix, steps), rtol=1e-3, atol=1e-4)


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=5),
    st.integers(1, 8),
)
def test_matrices_together_become_what_each_becomes_alone(
    shapes: list[tuple[int, int]], steps: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = [torch.randn(shape, generator=generator) for shape in shapes]
    together = orthogonalize_together(matrices, steps)
    alone = [orthogonalize(matrix, steps) for matrix in matrices]
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("steps", [5, 8, 12, 20])
def test_matrices_without_full_rank_give_finite_steps(steps: int) -> None:
    assert 0.6 < orthogonalize(torch.ones(5, 9), steps).norm() < 1.3
    assert torch.equal(orthogonalize(torch.zeros(5, 9), steps), torch.zeros(5, 9))


@pytest.mark.parametrize("shape", [(30, 512), (64, 10)])
def test_matrices_move_as_under_torch_s_muon(shape: tuple[int, int]) -> None:
    """torch computes in bfloat16, so its steps are about 1 % off."""
    ours, theirs = copies(*shape)
    start = ours.detach().clone()
    take_steps(Muon([ours], **SETTINGS), [ours])
    reference = torch.optim.Muon([theirs], lr=0.02, momentum=0.9, weight_decay=0.0)
    take_steps(reference, [theirs])
    difference = (ours - theirs).norm() / (theirs - start).norm()
    assert difference < 0.03


def test_a_kernel_moves_as_the_matrix_of_its_filters() -> None:
    kernel, _ = copies(8, 4, 3, 3)
    matrix = kernel.detach().flatten(1).clone().requires_grad_()
    kernel_optimizer, matrix_optimizer = (Muon([p], **SETTINGS) for p in (kernel, matrix))
    for seed in range(3):
        gradient = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(seed))
        channels_last = gradient.to(memory_format=torch.channels_last)
        kernel.grad, matrix.grad = channels_last, gradient.flatten(1)
        kernel_optimizer.step()
        matrix_optimizer.step()
    torch.testing.assert_close(kernel.flatten(1), matrix)


def test_vectors_move_as_under_torch_s_adam() -> None:
    ours, theirs = copies(7)
    take_steps(Muon([ours], **SETTINGS), [ours])
    take_steps(torch.optim.Adam([theirs], lr=0.01, betas=(0.9, 0.99)), [theirs])
    torch.testing.assert_close(ours, theirs)


def test_a_scheduler_scales_both_rates() -> None:
    for shape in ((5,), (5, 4)):
        full, half = copies(*shape)
        start = full.detach().clone()
        take_steps(Muon([full], **SETTINGS), [full], count=1)
        optimizer = Muon([half], **SETTINGS)
        optimizer.param_groups[0]["lr"] *= 0.5
        take_steps(optimizer, [half], count=1)
        torch.testing.assert_close(2 * (half - start), full - start)


def test_a_restored_optimizer_goes_on_bit_by_bit() -> None:
    whole, parts = [copies(5, 4, count=1) + copies(3, count=1) for _ in range(2)]
    uninterrupted, first, second = (Muon(p, **SETTINGS) for p in (whole, parts, parts))
    take_steps(uninterrupted, whole, count=2)
    take_steps(uninterrupted, whole)
    take_steps(first, parts, count=2)
    second.load_state_dict(first.state_dict())
    take_steps(second, parts)
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


@pytest.mark.parametrize(
    ("setting", "value"), [("lr", 0.0), ("vector_lr", -1.0), ("momentum", 1.0), ("steps", 0)]
)
def test_settings_out_of_range_are_refused_by_name(setting: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"optimizer\.{setting}={value}"):
        Muon(copies(2, 2), **SETTINGS | {setting: value})
