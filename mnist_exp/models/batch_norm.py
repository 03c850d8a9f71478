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
    channels. Other inputs take torch's own path. Parameters as torch's. In training it has first
    derivatives, in reverse mode.
    """

    fixed_operations = True

    running_mean: Tensor  # these four may be None, but not where `_is_usual`
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``input`` [B, C, H, W] over all but the channels."""
        if not (
            self._is_usual(input)
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
        if not self._is_usual(input):
            return None
        found = norm_relu(input, self.weight, self.bias, self.eps, pooled)
        if found is None:
            return None
        output, mean, var = found
        self._track(mean, var, input.numel() // input.shape[1])
        return output

    def _is_usual(self, input: Tensor) -> bool:
        """Return whether this is training with weights and statistics, on a batch that fits."""
        return (
            self.training
            and self.affine
            and self.running_mean is not None
            and self.momentum is not None
            and input.ndim == 4
            and input.shape[1] == self.num_features
            and input.numel() > self.num_features  # torch refuses one number per channel
        )

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, size: int) -> None:
        """Move the running statistics towards those of ``size`` numbers per channel."""
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var * (size / (size - 1)), self.momentum)
        self.num_batches_tracked.add_(1)


class FusedSequential(nn.Sequential):
    """`nn.Sequential` with fewer passes over memory in training on CPUs.

    A `BatchNorm2d` of this module, an ``nn.ReLU`` and possibly an ``nn.MaxPool2d(2)`` in a row,
    also across nested ``nn.Sequential``, are one operation of the compiled kernels: for float32 in
    channels-last layout (``training.memory_format=channels_last``) with width * channels up to
    2,048. Where this does not hold, or hooks watch the layers, they run one by one.
    """

    fixed_operations = True

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layers in order."""
        by_one = torch.compiler.is_compiling() or not self.training
        if by_one or not runs_as_its_class_says(self):
            output: Tensor = super().forward(input)
            return output
        layers = list(_in_order(self))
        while layers:
            input, done = _first_ones(layers, input)
            layers = layers[done:]
        return input


def _first_ones(layers: list[nn.Module], input: Tensor) -> tuple[Tensor, int]:
    """Apply as many of the first layers as one operation can; return output and their number."""
    norm, relu, pool = [*layers, None, None][:3]
    if type(norm) is BatchNorm2d and type(relu) is nn.ReLU:
        if _halves(pool) and (pooled := norm.with_relu(input, True)) is not None:
            return pooled, 3
        if (output := norm.with_relu(input, False)) is not None:
            return output, 2
    return layers[0](input), 1


def _halves(pool: nn.Module | None) -> bool:
    """Return whether a layer takes the largest number of each 2x2 window."""
    if type(pool) is not nn.MaxPool2d:
        return False
    pairs = (pool.kernel_size, (2, 2)), (pool.stride, (2, 2)), (pool.padding, (0, 0))
    plain = pool.dilation in (1, (1, 1)) and not pool.ceil_mode and not pool.return_indices
    return plain and all(found in (pair, pair[0]) for found, pair in pairs)


def _in_order(layers: nn.Sequential) -> Iterator[nn.Module]:
    """Yield the layers, also those of nested `nn.Sequential`, which may contain one repeatedly."""
    for layer in layers:
        if isinstance(layer, nn.Sequential) and type(layer) in (nn.Sequential, FusedSequential):
            yield from _in_order(layer)
        else:
            yield layer


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
    _, channels, _, width = x.shape
    zeros, ones = scale.new_zeros(width * channels), scale.new_ones(width * channels)
    result = torch.empty_like(x)  # no view, so that it may be changed in place
    factors = (scale.repeat(width), shift.repeat(width), zeros, ones, False, 0.0, 0.0)
    unused = scale.new_empty(0)
    torch.native_batch_norm(_wide(x), *factors, out=(_wide(result), unused, unused))
    return result


def _wide(x: Tensor) -> Tensor:
    """View channels-last [B, C, H, W] as channels-last [B, W*C, H, 1]."""
    batch, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).reshape(batch, height, 1, width * channels).permute(0, 3, 1, 2)


def _rows(x: Tensor) -> Tensor:
    """View channels-last [B, C, H, W] as [B*H, W*C]."""
    batch, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).view(batch * height, width * channels)
