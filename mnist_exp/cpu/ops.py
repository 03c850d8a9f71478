"""What compiled kernels do faster, as functions that work on any tensor.

Each does what its torch lines say, and lets a kernel do it where there is one for these tensors:
float32, contiguous, on the CPU, and without a gradient to follow. Kernels give the same bits but
where a function says otherwise.
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
from mnist_exp.cpu.sparse_linear import linear, linear_weight_gradient
from mnist_exp.cpu.threads import threads_for

__all__ = [
    "absence",
    "asymmetric_sgd_",
    "correct_predictions",
    "description",
    "linear",
    "linear_weight_gradient",
    "norm",
    "orthogonalize",
    "pixels_to_inputs",
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
        Each becomes v, ``velocity * momentum + gradient``. Without them v is the gradient.
    lr_pos, lr_neg : float
        Rates of potentiation and depression.
    momentum : float
        Decay of the velocity.
    """
    ratio = lr_pos / lr_neg if lr_neg else 1.0  # 1 / 0 at the end of a schedule
    if kernels := library.compiled():
        update = (momentum, -lr_neg, ratio)
        if kernels.asymmetric_sgd(weights, gradients, velocities, *update):
            return
    for w, gradient, velocity in zip(weights, gradients, velocities or repeat(None), strict=False):
        v = gradient if velocity is None else velocity.mul_(momentum).add_(gradient)
        # leaky_relu, v where v > 0 and ratio * v elsewhere, is torch's cheapest kernel for signs
        w.add_(leaky_relu(v, ratio) if ratio != 1 else v, alpha=-lr_neg)


def round_nearest_(
    w: Tensor, offset: float, slope: float, W_min: float, W_max: float, step: float
) -> Tensor:
    """Round to levels in place: ``W_min + step * round(offset + slope * w)``, within the bounds.

    Half-way values go to the even level.

    Parameters
    ----------
    w : Tensor
        Any shape.
    offset, slope : float
        The level, not yet rounded, as a function of w.
    W_min, W_max, step : float
        Bounds, and distance of two levels.
    """
    kernels = library.compiled()
    if kernels and kernels.round_nearest(w, (offset, slope, W_min, W_max, step)):
        return w
    torch.add(_scalar(offset, w), w, alpha=slope, out=w).round_()
    return torch.add(_scalar(W_min, w), w, alpha=step, out=w).clamp_(W_min, W_max)


def _scalar(number: float, like: Tensor) -> Tensor:
    return torch.tensor(number, dtype=like.dtype, device="cpu")  # which any device takes


class Random(Protocol):
    """A stream of random numbers, such as `mnist_exp.device.random_source.RandomSource`."""

    def uniform(self, count: int) -> Tensor:
        """Return ``count`` numbers in [0, 1)."""

    def generators(self, count: int) -> tuple[Any, float]:
        """Return the generators that `uniform` makes ``count`` numbers of, to be moved on."""


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
    """Round to levels in place, up or down at random, so that the expected result is exact.

    ``W_min + step * floor(uniform + slope * w + offset)``, within the bounds.

    Parameters
    ----------
    w : Tensor
        [N].
    offset, slope, W_min, W_max, step : float
        As of `round_nearest_`.
    random : Random
        Moves on by N numbers.
    """
    kernels = library.compiled()
    if kernels and kernels.round_stochastic(
        w, (offset, slope, W_min, W_max, step), random.generators
    ):
        return w
    torch.add(random.uniform(len(w)), w, alpha=slope, out=w).add_(offset).floor_()
    return torch.add(_scalar(W_min, w), w, alpha=step, out=w).clamp_(W_min, W_max)


def pixels_to_inputs(pixels: Tensor, indices: Tensor, scale: float, shift: float) -> Tensor:
    """Return float32 ``pixels[indices] * scale - shift``.

    Parameters
    ----------
    pixels : Tensor
        uint8 [N, ...].
    indices : Tensor
        int64 [B].
    scale, shift : float
        What makes inputs of pixels.
    """
    if kernels := library.compiled():
        inputs = kernels.pixels_to_inputs(pixels, indices, scale, shift)
        if inputs is not None:
            return inputs
    inputs = pixels.index_select(0, indices).float().mul_(scale)
    return inputs.sub_(shift) if shift else inputs  # spares a pass that would change nothing


def correct_predictions(logits: Tensor, labels: Tensor) -> int:
    """Return for how many int64 labels [B] the logit in [B, classes] is the largest."""
    kernels = library.compiled()
    found = None if kernels is None else kernels.correct_predictions(logits, labels)
    return int((logits.argmax(1) == labels).sum()) if found is None else found


def norm(x: Tensor) -> float:
    """Return the Euclidean norm of ``x``; the kernel adds in float64, so its last bits differ."""
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
    """Return ``newton_schulz(x, steps)``; the kernel, for up to 64 rows, rounds in its own way.

    Parameters
    ----------
    x : Tensor
        [R, C] with R <= C.
    steps, at_once : int
        Iterations, and how many of them are done on ``x @ x.T`` alone.
    coefficients : tuple of float
        Of the quintic iteration.
    newton_schulz : callable
        The iteration in torch's operations.
    """
    kernels = library.compiled()
    found = None if kernels is None else kernels.orthogonalize(x, steps, at_once, coefficients)
    return newton_schulz(x, steps) if found is None else found
