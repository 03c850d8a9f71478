"""Gradients of 3x3 convolutional networks in the compiled kernels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from mnist_exp.cpu.kernels import Convolution, Kernels, Layer, are_labels, kernels_for
from mnist_exp.cpu.threads import cpu_threads, side_by_side
from mnist_exp.models.stages import Stages
from mnist_exp.train.backprop.autograd import AutogradInParts
from mnist_exp.train.backprop.weights import Weight, are_known, make_gradients

LAYOUTS = (torch.contiguous_format, torch.channels_last)
IMAGES_AT_A_TIME = 16  # processed together by the kernels; parts are multiples of it


def _is_plain(layer: nn.Conv2d) -> bool:
    """Return whether a convolution is plain 3x3, without padding, with evenly spaced taps."""
    *_, row_stride, tap_stride = layer.weight.stride()
    return (
        layer.kernel_size == (3, 3)
        and layer.stride == layer.dilation == (1, 1)
        and layer.padding == (0, 0)
        and layer.groups == 1
        and row_stride == 3 * tap_stride
        and any(layer.weight.is_contiguous(memory_format=layout) for layout in LAYOUTS)
    )


class CompiledConvolutions:
    """3x3 convolutions and the linear layers after them, in compiled kernels.

    Each of torch's CPU threads takes a part of the batch; gradients are summed in a fixed order.
    Arguments as in `backpropagation`, for a model whose stages this class `knows`; the precision
    is float32. Batches that do not fit the network go to autograd.
    """

    def __init__(self, model: nn.Module, label_smoothing: float, precision: str) -> None:
        self.stages: Stages = model.stages()  # type: ignore[operator]
        self.label_smoothing = label_smoothing
        self.gradient, gradients = make_gradients(model.parameters())
        convolutions, linear = self.stages
        self.weights = [
            Weight(layer, name, gradients)
            for layer in (*(convolution for convolution, _ in convolutions), *linear)
            for name in ("weight", "bias")
        ]
        self.autograd = AutogradInParts(model, label_smoothing, precision)
        self.parts: list[Part] = []
        self.shape = torch.Size()  # of the images that the parts are made for
        self.places = self._places()

    @staticmethod
    def knows(stages: Stages) -> bool:
        """Return whether there are kernels, and they support all layers of a network."""
        convolutions, linear = [convolution for convolution, _ in stages[0]], stages[1]
        return (
            bool(convolutions and kernels_for())
            and all(map(are_known, [*convolutions, *linear]))
            and all(map(_is_plain, convolutions))
            and all(layer.weight.is_contiguous() for layer in linear)
            and all(one.out_channels == two.in_channels for one, two in pairwise(convolutions))
            and all(one.out_features == two.in_features for one, two in pairwise(linear))
        )

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Set ``.grad`` of the parameters; return the mean loss [] and the logits [B, classes]."""
        kernels = kernels_for(inputs)
        if kernels is None or self._places() != self.places or not self._fits(inputs, labels):
            return self.autograd(inputs, labels)
        threads = torch.get_num_threads()
        with torch.no_grad(), cpu_threads(1):
            return self._in_parts(kernels, inputs, labels, threads)

    def _places(self) -> list[tuple[object, ...]]:
        """Return a fingerprint that changes if parameters are converted or gradients moved."""
        return [
            (p.dtype, p.device, p.stride(), own.data_ptr())
            for weight in self.weights
            for p, own in zip(weight.parameters, weight.gradients, strict=True)
        ]

    def _fits(self, images: Tensor, labels: Tensor) -> bool:
        convolutions, linear = self.stages
        if images.ndim != 4 or not len(images) or not are_labels(labels, len(images)):
            return False
        channels, *sides = images.shape[1:]
        if channels != convolutions[0][0].in_channels:
            return False
        for convolution, pooled in convolutions:
            channels, sides = convolution.out_channels, [side - 2 for side in sides]
            if min(sides) < 2:
                return False
            if pooled:
                sides = [side // 2 for side in sides]
        features = channels * sides[0] * sides[1]
        return features == linear[0].in_features and features % IMAGES_AT_A_TIME == 0

    def _in_parts(
        self, kernels: Kernels, images: Tensor, labels: Tensor, threads: int
    ) -> tuple[Tensor, Tensor]:
        if images.shape[1:] != self.shape:
            self.parts, self.shape = [], images.shape[1:]
        groups = -(-len(labels) // IMAGES_AT_A_TIME)
        size = -(-groups // threads) * IMAGES_AT_A_TIME
        batches = list(zip(images.split(size), labels.split(size), strict=True))
        while len(self.parts) < len(batches):
            self.parts.append(Part(kernels, self.stages, self.weights, self.gradient, self.shape))
        parts = self.parts[: len(batches)]
        values = [weight.value() for weight in self.weights]
        for part in parts:
            part.take(values)
        settings = (len(labels), self.label_smoothing)
        results = side_by_side(
            lambda item: item[0].propagate(kernels, *item[1], *settings),
            list(zip(parts, batches, strict=True)),
        )
        torch.sum(torch.stack([part.gradient for part in parts]), 0, out=self.gradient)
        for weight in self.weights:
            weight.spread_gradient()
        losses, logits = zip(*results, strict=True)
        return torch.stack(losses).sum(), torch.cat(logits)


class Part:
    """A thread's share of the work: layer descriptions, scratch space and its own gradients.

    Parameters
    ----------
    kernels : Kernels
        The compiled functions.
    stages : Stages
        The layers.
    weights : sequence of Weight
        Weight and bias of each layer, alternating.
    gradient : Tensor
        The buffer that holds the gradients of ``weights``.
    shape : sequence of int
        Channels, height and width of an image.
    """

    def __init__(
        self,
        kernels: Kernels,
        stages: Stages,
        weights: Sequence[Weight],
        gradient: Tensor,
        shape: Sequence[int],
    ) -> None:
        convolutions, linear = stages
        self.gradient = torch.zeros_like(gradient)
        self.network = ((Convolution * len(convolutions))(), (Layer * len(linear))())
        pairs = list(zip(weights[::2], weights[1::2], strict=True))
        _, height, width = shape
        for place, (layer, pooled), (weight, bias) in zip(
            self.network[0], convolutions, pairs, strict=False
        ):
            place.in_channels, place.out_channels = layer.in_channels, layer.out_channels
            place.height, place.width, place.pooled = height, width, pooled
            place.out_stride, place.in_stride, _, place.tap_stride = weight.gradients[0].stride()
            place.weight_gradient, place.bias_gradient = map(self._own, (weight, bias))
            height, width = ((side - 2) // (2 if pooled else 1) for side in (height, width))
        for target, one, (weight, bias) in zip(
            self.network[1], linear, pairs[len(convolutions) :], strict=True
        ):
            target.inputs, target.outputs = one.in_features, one.out_features
            target.weight.plus_gradient, target.bias.plus_gradient = map(self._own, (weight, bias))
        self.scratch = kernels.convolutional_scratch(self.network)

    def _own(self, weight: Weight) -> int:
        """Return the address of this part's gradient for a weight."""
        offset = int(weight.gradients[0].storage_offset()) * self.gradient.element_size()
        return self.gradient.data_ptr() + offset

    def take(self, values: Sequence[Tensor]) -> None:
        """Point to each layer's weight and bias values, and zero the gradients."""
        self.gradient.zero_()
        addresses = iter([value.data_ptr() for value in values])
        for convolution in self.network[0]:
            convolution.weight, convolution.bias = next(addresses), next(addresses)
        for layer in self.network[1]:
            layer.weight.plus, layer.bias.plus = next(addresses), next(addresses)

    def propagate(
        self, kernels: Kernels, images: Tensor, labels: Tensor, of_batch: int, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """Accumulate the gradients of some images; return their share of the loss, and logits."""
        return kernels.convolutional_network(
            self.network, images, labels, of_batch, smoothing, self.scratch
        )
