"""Batch normalisation of few channels in channels-last layout, fast on CPUs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mnist_exp.cpu.batch_norm import norm_relu
from mnist_exp.models.stages import runs_as_its_class_says


class BatchNorm2d(nn.BatchNorm2d):
    """torch's BatchNorm2d with faster training on CPUs for channels-last inputs.

    torch's channels-last kernels need enough channels to fill a vector register, 32 in bfloat16;
    with the 12 to 24 of a small network they fall back to scalar code. This class calls the same
    kernels on a view in which the W * C numbers of an image row, contiguous in memory, are the
    channels. Other inputs take torch's own path.

    Parameters
    ----------
    num_features : int
        Number of channels.
    """

    fixed_operations = True

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``input`` [B, C, H, W] over all but the channels."""
        if not (
            self.training
            and input.device.type == "cpu"
            and input.is_contiguous(memory_format=torch.channels_last)
        ):
            return super().forward(input)
        output: Tensor
        output, mean, var = _Normalise.apply(input, self.weight, self.bias, self.eps)
        self._track(mean, var, input.numel() // input.shape[1])
        return output

    def with_relu(self, input: Tensor, pooled: bool) -> Tensor | None:
        """Normalise a batch in training, then ReLU and, if ``pooled``, 2x2 max pooling.

        Returns None, and does nothing, where the compiled kernels cannot take the tensors.
        """
        parameters = (self.weight, self.bias, self.running_mean, self.eps)
        found = norm_relu(input, *parameters, pooled) if self.training else None
        if found is None:
            return None
        output, mean, var = found
        self._track(mean, var, input.numel() // input.shape[1])
        return output

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, size: int) -> None:
        """Move the running statistics towards those of ``size`` numbers per channel."""
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var * (size / (size - 1)), self.momentum)
        self.num_batches_tracked.add_(1)


class FusedSequential(nn.Sequential):
    """`nn.Sequential` with fewer passes over memory in training on CPUs.

    A `BatchNorm2d`, a ReLU and a 2x2 max pooling in a row, also across nested `nn.Sequential`, are
    one operation of the compiled kernels, unless hooks watch the layers.
    """

    fixed_operations = True

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layers in order."""
        watched = torch.compiler.is_compiling() or not runs_as_its_class_says(self)
        if watched or not self.training:
            output: Tensor = super().forward(input)
            return output
        layers = list(_in_order(self))
        while layers:
            fused, done = None, _fusible(layers)
            if done:
                fused = layers[0].with_relu(input, done == 3)  # type: ignore[operator]
            if fused is None:
                fused, done = layers[0](input), 1
            input, layers = fused, layers[done:]
        return input


def _in_order(layers: nn.Sequential) -> Iterator[nn.Module]:
    """Yield the layers, also those of nested `nn.Sequential`, which may contain one repeatedly."""
    for layer in layers:
        if isinstance(layer, nn.Sequential) and type(layer) in (nn.Sequential, FusedSequential):
            yield from _in_order(layer)
        else:
            yield layer


def _fusible(layers: list[nn.Module]) -> int:
    """Return how many of the first layers are one operation: three with pooling, two, or none."""
    norm, relu, pool = [*layers, None, None][:3]
    if type(norm) is not BatchNorm2d or type(relu) is not nn.ReLU:
        return 0
    pooling = (2, 2, 0, 1, False, False)
    return 3 if type(pool) is nn.MaxPool2d and _settings(pool) == pooling else 2


def _settings(pool: nn.MaxPool2d) -> tuple[object, ...]:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    return tuple(getattr(pool, name) for name in names)


class _Normalise(torch.autograd.Function):
    """``(x, weight, bias, eps) -> (y, mean, biased variance)``, statistics in float32."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        channels, width = x.shape[1], x.shape[3]
        unused = weight.new_zeros(width * channels)  # running statistics; makes results float32
        means, variances = torch.batch_norm_update_stats(_wide(x), unused, unused, 0.0)
        means, variances = means.view(width, channels), variances.view(width, channels)
        mean = means.mean(0)
        var = variances.mean(0) + means.var(0, correction=0)  # within and between columns
        inverse_std = torch.rsqrt(var + eps)
        scale = weight * inverse_std
        ctx.save_for_backward(x, weight, mean, inverse_std)
        ctx.mark_non_differentiable(mean, var)
        return _scale_and_shift(x, scale, bias - mean * scale), mean, var

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor, _mean: Tensor, _var: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, inverse_std = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        channels, width = x.shape[1], x.shape[3]
        size = x.numel() // channels
        centre, ones = mean.repeat(width), weight.new_ones(width * channels)
        # sums of grad * (x - mean) and of grad, by column and channel
        _, sums_x, sums = torch.ops.aten.native_batch_norm_backward(
            _wide(grad), _wide(x), ones, centre, ones, None, None, False, 0.0, [False, True, True]
        )
        grad_weight = sums_x.view(width, channels).sum(0) * inverse_std
        grad_bias = sums.view(width, channels).sum(0)
        # grad_x = scale * (grad - mean(grad) - x_hat * mean(grad * x_hat)), Ioffe & Szegedy 2015
        scale = weight * inverse_std
        slope = -scale * inverse_std * grad_weight / size
        grad_x = _scale_and_shift(x, slope, -scale * grad_bias / size - slope * mean)
        _rows(grad_x).addcmul_(_rows(grad), scale.to(x.dtype).repeat(width))
        return grad_x, grad_weight, grad_bias, None


def _scale_and_shift(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return ``x * scale + shift`` with float32 ``scale`` and ``shift`` [C], in one kernel."""
    batch, channels, height, width = x.shape
    zeros, ones = scale.new_zeros(width * channels), scale.new_ones(width * channels)
    wide, _, _ = torch.native_batch_norm(
        _wide(x), scale.repeat(width), shift.repeat(width), zeros, ones, False, 0.0, 0.0
    )
    rows = wide.permute(0, 2, 3, 1).reshape(batch, height, width, channels)
    return rows.permute(0, 3, 1, 2)


def _wide(x: Tensor) -> Tensor:
    """View channels-last [B, C, H, W] as channels-last [B, W*C, H, 1]."""
    batch, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).reshape(batch, height, 1, width * channels).permute(0, 3, 1, 2)


def _rows(x: Tensor) -> Tensor:
    """View channels-last [B, C, H, W] as [B*H, W*C]."""
    batch, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).view(batch * height, width * channels)
