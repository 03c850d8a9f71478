"""Matrix products with inputs most of which are one value, as the pixels of MNIST's background."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mnist_exp.kernels import Kernels, kernels_for

WHOLE = 16  # outputs come in multiples of it
FEWEST_ROWS = 64  # for which it pays to look
LARGEST_DENSITY = 0.4  # share of other values up to which the kernels are faster
ROWS_LOOKED_AT = 16


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``torch.nn.functional.linear``, computed from what is unlike the background alone.

    Where that is not faster, and where a gradient is to follow, torch does it.

    Parameters
    ----------
    x : Tensor
        [B, in].
    weight, bias : Tensor
        [out, in] and [out].
    """
    kernels = None
    fitting = x.shape[1:] == weight.shape[1:] and bias.shape == weight.shape[:1]
    if fitting and not any(tensor.requires_grad for tensor in (x, weight, bias)):
        kernels = _kernels_for(x, weight.shape[0], weight, bias)
    if kernels is None:
        return F.linear(x, weight, bias)
    background = x[0, 0].item()
    raised = bias + background * weight.sum(1)
    return kernels.linear_outputs(x, background, weight, raised)


def transposed_product(delta: Tensor, x: Tensor) -> Tensor:
    """Return ``delta.T @ x`` [out, in], computed from what is unlike the background alone.

    Where that is not faster, torch does it.

    Parameters
    ----------
    delta : Tensor
        [B, out].
    x : Tensor
        [B, in].
    """
    fitting = delta.ndim == 2 and len(delta) == len(x)
    kernels = _kernels_for(x, delta.shape[1], delta) if fitting else None
    if kernels is None:
        return delta.T @ x
    background = x[0, 0].item()
    product = kernels.linear_weight_gradient(x, background, delta)
    return product.addr_(delta.sum(0), torch.full((x.shape[1],), background))


def _kernels_for(x: Tensor, outputs: int, *others: Tensor) -> Kernels | None:
    """Return the kernels if they can make a product of ``x``, and are faster than torch."""
    if x.ndim != 2 or len(x) < FEWEST_ROWS or outputs % WHOLE or outputs < 2 * WHOLE:
        return None
    kernels = kernels_for(x, *others)
    if kernels is None or not x.shape[1]:
        return None
    background = x[0, 0].item()
    sparse = kernels.density(x, ROWS_LOOKED_AT, background) < LARGEST_DENSITY
    return kernels if sparse else None
