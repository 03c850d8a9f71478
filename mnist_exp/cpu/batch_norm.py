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
TALLEST = 2048  # rows of an image; its sums are of float32


def norm_relu(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, pooled: bool
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Normalise over all but the channels, then ReLU and, if ``pooled``, 2x2 max pooling.

    Has first derivatives, in reverse mode.

    Parameters
    ----------
    x : Tensor
        float32 [B, C, H, W] in channels-last layout.
    weight, bias : Tensor
        Factor and summand of the normalised images, [C].
    eps : float
        Added to the variances.
    pooled : bool
        Whether the largest number of each 2x2 window is taken; if several are, the first gets the
        gradient, as in torch.

    Returns
    -------
    y, mean, var : Tensor
        [B, C, H, W] or [B, C, H / 2, W / 2]; means and biased variances [C], without gradients.
        None where the kernels cannot take the tensors.
    """
    if x.ndim != 4 or not x.numel():
        return None
    channels, height, width = x.shape[1:]
    odd = pooled and (height % 2 or width % 2)
    if odd or width * channels > MOST_IN_ROW or height > TALLEST:
        return None
    if weight.shape != (channels,) or bias.shape != (channels,) or not _are_taken(x, weight, bias):
        return None
    found: tuple[Tensor, Tensor, Tensor] = _NormRelu.apply(x, weight, bias, eps, pooled)
    return found


class _NormRelu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, pooled: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, channels, height, width = x.shape
        # near the mean, as one of the images is; so the sums of differences from it round little
        centre = x[0].mean((1, 2))
        from_centre, squares = _sums(0, x, pooled, centre=centre).div_(x.numel() // channels)
        mean = (centre + from_centre).float()
        var = (squares - from_centre.square()).clamp_(min=0).float()
        inverse_std = torch.rsqrt(var + eps)
        scale = weight * inverse_std
        shift = bias - mean * scale
        side = 2 if pooled else 1
        y = _images(batch, channels, height // side, width // side)
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
        x, gradient = (
            tensor.resolve_neg().contiguous(memory_format=torch.channels_last)
            for tensor in (x, gradient)
        )
        if not _are_taken(x, mean, inverse_std, scale, shift) or not _are_taken(gradient):
            raise RuntimeError(
                "backward of BatchNorm with ReLU takes plain float32 tensors on the CPU; with "
                "hooks on saved tensors or in a fake mode, set MNIST_EXP_KERNELS=torch"
            )
        given = {"gradient": gradient, "scale": scale, "shift": shift}
        grad_bias, products = _sums(2, x, ctx.pooled, centre=mean, **given).float()
        grad_weight = products * inverse_std
        if not ctx.needs_input_grad[0]:
            return None, grad_weight, grad_bias, None, None
        # grad_x = scale * (grad - mean(grad) - x_hat * mean(grad * x_hat)), Ioffe & Szegedy 2015
        size = x.numel() // x.shape[1]
        slope = -scale * inverse_std * grad_weight / size
        offset = -scale * grad_bias / size - slope * mean
        grad_x = _images(*x.shape)
        _run(3, x, ctx.pooled, slope=slope, offset=offset, out=grad_x, **given)
        return grad_x, grad_weight, grad_bias, None, None


def _are_taken(images: Tensor, *of_channels: Tensor) -> bool:
    """Return whether there are kernels, which take channels-last images and these tensors."""
    return library.kernels_for(images.permute(0, 2, 3, 1), *of_channels) is not None


def _images(batch: int, channels: int, height: int, width: int) -> Tensor:
    """Return uninitialised channels-last images; no view, so that they may be changed in place."""
    strides = (height * width * channels, 1, width * channels, channels)
    storage = empty(batch * height * width * channels).untyped_storage()
    new = torch.empty(0, dtype=torch.float32, device="cpu")
    return new.set_(storage, 0, (batch, channels, height, width), strides)


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
