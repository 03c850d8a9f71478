"""Functions on any tensor, accelerated by the compiled kernels where possible.

A kernel takes float32 tensors that are contiguous, on the CPU and not recorded by autograd; torch
takes all others. Both give the same bits unless a function's docstring says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from mnist_exp.cpu.kernels import library
from mnist_exp.cpu.kernels.library import absence, description
from mnist_exp.cpu.threads import threads_for

__all__ = [
    "absence",
    "add_saturating",
    "asymmetric_sgd_",
    "correct_predictions",
    "description",
    "norm",
    "orthogonalize",
    "pixels_to_inputs",
    "round_counting_moves_",
    "round_nearest_",
    "round_stochastic_",
    "threads_for",
]


def asymmetric_sgd_(
    weights: Sequence[Tensor],
    gradients: Sequence[Tensor],
    velocities: Sequence[Tensor] | None = None,
    *,
    lr_pos: float,
    lr_neg: float,
    momentum: float = 0.0,
) -> None:
    """Update weights in place: ``w <- w - lr * v``, ``lr_neg`` where v >= 0, else ``lr_pos``.

    Parameters
    ----------
    weights, gradients : sequence of Tensor
        Any shapes.
    velocities : sequence of Tensor, optional
        Each is updated to v, ``velocity * momentum + gradient``. If omitted, v is the gradient.
    lr_pos, lr_neg : float
        Rates of potentiation and depression.
    momentum : float
        Decay of the velocity.
    """
    ratio = lr_pos / lr_neg if lr_neg else 1.0  # a schedule may end at 0
    if kernels := library.compiled():
        update = (momentum, -lr_neg, ratio)
        if kernels.asymmetric_sgd(weights, gradients, velocities, *update):
            return
    for w, gradient, velocity in zip(weights, gradients, velocities or repeat(None), strict=False):
        v = gradient if velocity is None else velocity.mul_(momentum).add_(gradient)
        # leaky_relu (v where v > 0, else ratio * v) is torch's fastest sign-dependent kernel
        w.add_(leaky_relu(v, ratio) if ratio != 1 else v, alpha=-lr_neg)


def round_nearest_(
    w: Tensor, offset: float, slope: float, W_min: float, W_max: float, step: float
) -> Tensor:
    """Round to levels in place: ``W_min + step * round(offset + slope * w)``, clipped to bounds.

    Ties go to the even level.

    Parameters
    ----------
    w : Tensor
        Any shape.
    offset, slope : float
        Of the unrounded level as a linear function of w.
    W_min, W_max, step : float
        Bounds and level spacing.
    """
    kernels = library.compiled()
    if kernels and kernels.round_to_levels(w, (offset, slope, W_min, W_max, step), None):
        return w
    torch.add(_scalar(offset, w), w, alpha=slope, out=w).round_()
    return torch.add(_scalar(W_min, w), w, alpha=step, out=w).clamp_(W_min, W_max)


def _scalar(number: float, like: Tensor) -> Tensor:
    return torch.tensor(number, dtype=like.dtype, device="cpu")  # mixes with tensors on any device


class Random(Protocol):
    """A stream of random numbers, such as `mnist_exp.device.random_source.RandomSource`."""

    def uniform(self, count: int) -> Tensor:
        """Return ``count`` numbers in [0, 1)."""

    def generators(self, count: int) -> tuple[Any, float]:
        """Return the generators behind ``count`` numbers of `uniform`; the caller advances them."""


def round_stochastic_(
    w: Tensor,
    offset: float,
    slope: float,
    W_min: float,
    W_max: float,
    step: float,
    *,
    random: Random,
) -> Tensor:
    """Round to levels in place, up or down at random, without bias.

    ``W_min + step * floor(uniform + slope * w + offset)``, clipped to the bounds.

    Parameters
    ----------
    w : Tensor
        [N].
    offset, slope, W_min, W_max, step : float
        As in `round_nearest_`.
    random : Random
        Advanced by N numbers.
    """
    kernels = library.compiled()
    if kernels and kernels.round_to_levels(
        w, (offset, slope, W_min, W_max, step), random.generators
    ):
        return w
    torch.add(random.uniform(len(w)), w, alpha=slope, out=w).add_(offset).floor_()
    return torch.add(_scalar(W_min, w), w, alpha=step, out=w).clamp_(W_min, W_max)


def round_counting_moves_(
    w: Tensor,
    before: Tensor,
    moves: Tensor,
    offset: float,
    slope: float,
    W_min: float,
    W_max: float,
    step: float,
    *,
    random: Random | None,
    keeps: bool = False,
) -> Tensor:
    """Round like `round_stochastic_`, or without ``random`` like `round_nearest_`; count moves.

    Parameters
    ----------
    w : Tensor
        [N].
    before : Tensor
        Values on levels, [N].
    moves : Tensor
        int32 [N]; by how many levels a value moved from ``before`` is added, unless ``w`` asked for
        ``before``; see `add_saturating`.
    offset, slope, W_min, W_max, step, random
        As in `round_stochastic_`.
    keeps : bool
        Whether ``before`` becomes ``w`` at the end.
    """
    grid = (offset, slope, W_min, W_max, step)
    kernels = library.compiled()
    draw = None if random is None else random.generators
    if kernels and kernels.round_to_levels(w, grid, draw, (before, moves), keeps):
        return w
    asked = torch.ne(w, before)
    if random is None:
        round_nearest_(w, *grid)
    else:
        round_stochastic_(w, *grid, random=random)
    moved = torch.ne(w, before).logical_and_(asked).nonzero().squeeze(1)
    levels = (w.index_select(0, moved) - before.index_select(0, moved)).abs_().div_(step).round_()
    add_saturating(moves, moved, levels)
    if keeps:
        before.copy_(w)
    return w


def add_saturating(counts: Tensor, places: Tensor, more: Tensor) -> None:
    """Add to int32 counts [N] at some places, each named once, up to the largest int32.

    Parameters
    ----------
    counts : Tensor
        Changed in place.
    places : Tensor
        int64 [K].
    more : Tensor
        Whole numbers as floats, at least 0, [K]; NaN and infinity count as 0.
    """
    largest = torch.iinfo(torch.int32).max
    finite = more.nan_to_num(0.0, posinf=0.0).clamp_(max=largest).long()
    total = finite.add_(counts.index_select(0, places)).clamp_(max=largest)
    counts.index_copy_(0, places, total.int())


def pixels_to_inputs(pixels: Tensor, indices: Tensor, scale: float, shift: float) -> Tensor:
    """Return float32 ``pixels[indices] * scale - shift``.

    Parameters
    ----------
    pixels : Tensor
        uint8 [N, ...].
    indices : Tensor
        int64 [B].
    scale, shift : float
        Of the normalisation.
    """
    if kernels := library.compiled():
        inputs = kernels.pixels_to_inputs(pixels, indices, scale, shift)
        if inputs is not None:
            return inputs
    inputs = pixels.index_select(0, indices).float().mul_(scale)
    return inputs.sub_(shift) if shift else inputs  # saves a pass when shift is 0


def correct_predictions(logits: Tensor, labels: Tensor) -> int:
    """Count the rows of logits [B, classes] with the largest at the int64 label [B]."""
    kernels = library.compiled()
    found = None if kernels is None else kernels.correct_predictions(logits, labels)
    return int((logits.argmax(1) == labels).sum()) if found is None else found


def norm(x: Tensor) -> float:
    """Return the Euclidean norm of ``x``; the kernel sums in float64, so last bits may differ."""
    kernels = library.compiled()
    found = None if kernels is None else kernels.norm(x)
    return x.norm().item() if found is None else found


def orthogonalize(
    x: Tensor,
    steps: int,
    at_once: int,
    coefficients: tuple[float, float, float],
    newton_schulz: Callable[[Tensor, int], Tensor],
) -> Tensor:
    """Return ``newton_schulz(x, steps)``; the kernel, for up to 64 rows, rounds differently.

    Parameters
    ----------
    x : Tensor
        [R, C] with R <= C.
    steps, at_once : int
        Iterations, and how many of them in a row run on ``x @ x.T`` alone.
    coefficients : tuple of float
        Of the quintic iteration.
    newton_schulz : callable
        The same iteration in torch operations.
    """
    kernels = library.compiled()
    found = None if kernels is None else kernels.orthogonalize(x, steps, at_once, coefficients)
    return newton_schulz(x, steps) if found is None else found
