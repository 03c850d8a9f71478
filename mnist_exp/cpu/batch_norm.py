"""Batch normalisation, ReLU and 2x2 max pooling as one operation, by the compiled kernels."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mnist_exp.cpu.kernels import interface, library
from mnist_exp.cpu.kernels.boundary import empty
from mnist_exp.cpu.threads import available

MOST_IN_ROW = 2048  # width * channels; as in batch_norm.h


def norm_relu(
    x: Tensor, weight: Tensor, bias: Tensor, centre: Tensor, eps: float, pooled: bool
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Normalise over all but the channels, then ReLU and, if ``pooled``, 2x2 max pooling.

    Parameters
    ----------
    x : Tensor
        float32 [B, C, H, W] in channels-last layout.
    weight, bias : Tensor
        [C], of the normalised images.
    centre : Tensor
        [C], roughly the means: sums are taken of ``x - centre``, so that they round less.
    eps : float
        Added to the variances.
    pooled : bool
        Whether the largest number of each 2x2 window is taken; where its largest are equal, the
        first has the gradient, as in torch.

    Returns
    -------
    y, mean, var : Tensor
        [B, C, H, W] or [B, C, H / 2, W / 2]; means and biased variances [C], without gradients.
        None where the kernels cannot take the tensors.
    """
    if x.ndim != 4 or not x.numel():
        return None
    images = x.permute(0, 2, 3, 1)
    _, height, width, channels = images.shape
    odd = pooled and (height % 2 or width % 2)
    tensors = (images, weight, bias, centre)
    if odd or width * channels > MOST_IN_ROW or library.kernels_for(*tensors) is None:
        return None
    found: tuple[Tensor, Tensor, Tensor] = _NormRelu.apply(x, weight, bias, centre, eps, pooled)
    return found


class _NormRelu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, centre: Tensor, eps: float, pooled: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, channels, height, width = x.shape
        from_centre, squares = _sums(0, x, pooled, centre=centre).div_(x.numel() // channels)
        mean, var = (centre + from_centre).float(), (squares - from_centre.square()).float()
        inverse_std = torch.rsqrt(var + eps)
        scale = weight * inverse_std
        shift = bias - mean * scale
        halves = 2 if pooled else 1
        y = empty(batch, height // halves, width // halves, channels).permute(0, 3, 1, 2)
        _run(1, x, pooled, scale=scale, shift=shift, out=y)
        ctx.save_for_backward(x, mean, inverse_std, scale, shift)
        ctx.pooled = pooled
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: Tensor, _mean: Tensor, _var: Tensor
    ) -> tuple[Tensor | None, ...]:
        x, mean, inverse_std, scale, shift = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        given = {"gradient": gradient, "scale": scale, "shift": shift}
        grad_bias, products = _sums(2, x, ctx.pooled, centre=mean, **given).float()
        grad_weight = products * inverse_std
        # grad_x = scale * (grad - mean(grad) - x_hat * mean(grad * x_hat)), Ioffe & Szegedy 2015
        size = x.numel() // x.shape[1]
        slope = -scale * inverse_std * grad_weight / size
        offset = -scale * grad_bias / size - slope * mean
        grad_x = torch.empty_like(x)
        _run(3, x, ctx.pooled, slope=slope, offset=offset, out=grad_x, **given)
        return grad_x, grad_weight, grad_bias, None, None, None


def _sums(step: int, x: Tensor, pooled: bool, **tensors: Tensor) -> Tensor:
    """Return the two sums of a step over all images, float64 [2, C]."""
    by_image = empty(len(x), 2, x.shape[1])
    _run(step, x, pooled, sums=by_image, **tensors)
    return by_image.sum(0, dtype=torch.float64)


def _run(step: int, x: Tensor, pooled: bool, **tensors: Tensor) -> None:
    """Do a step of batch_norm.h."""
    batch, channels, height, width = x.shape
    addresses = {name: tensor.data_ptr() for name, tensor in tensors.items()}
    task = interface.Normalisation(step, height, width, channels, pooled, x.data_ptr(), **addresses)
    kernels = library.compiled()
    assert kernels is not None
    kernels.library.batch_norm(ctypes.byref(task), batch, available())
