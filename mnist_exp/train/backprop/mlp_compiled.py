"""Loss and gradients of linear layers in the compiled kernels."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Array
from typing import TYPE_CHECKING

from torch import Tensor

from mnist_exp.cpu.kernels import Kernels, Layer, are_labels, kernels_for
from mnist_exp.cpu.kernels import Weight as WeightInC
from mnist_exp.cpu.threads import available
from mnist_exp.device.mapping import DifferentialPair, read_exactly
from mnist_exp.train.backprop.weights import Weight

if TYPE_CHECKING:
    from mnist_exp.train.backprop.linear_layer import LinearLayer

SAMPLES_LOOKED_AT = 16  # per batch, to estimate the density of its inputs


class CompiledLayers:
    """Loss and gradients of linear layers with ReLU between them, in compiled kernels.

    The kernels skip inputs that are 0, four in five of MNIST's pixels.

    Parameters
    ----------
    layers : sequence of LinearLayer
        In float32, on the CPU.
    label_smoothing : float
        Share of the target spread over all classes.
    """

    def __init__(self, layers: Sequence[LinearLayer], label_smoothing: float) -> None:
        self.label_smoothing = label_smoothing
        self.inputs = layers[0].inputs
        # multiply-adds per sample; a ReLU's outputs are 0 in half of the cases
        self.first, *others = [layer.inputs * layer.outputs for layer in layers]
        self.others = sum(others)
        self.weights = [weight for layer in layers for weight in (layer.weight, layer.bias)]
        self.array: Array[Layer] = (Layer * len(layers))()
        self.places = []
        for layer, place in zip(layers, self.array, strict=True):
            place.inputs, place.outputs = layer.inputs, layer.outputs
            self.places += [place.weight, place.bias]
        self.samples = -1  # capacity of the scratch space
        self.tensors = [
            tensor for weight in self.weights for tensor in (*weight.parameters, *weight.gradients)
        ]

    def kernels_for(self, x: Tensor, labels: Tensor) -> Kernels | None:
        """Return the kernels if they can take this batch and beat torch on it, else None."""
        kernels = kernels_for(x, *self.tensors)  # also checks that nothing was moved or converted
        samples = len(labels)
        if kernels is None or x.shape != (samples, self.inputs) or not are_labels(labels, samples):
            return None
        density = kernels.density(x, SAMPLES_LOOKED_AT)
        products = samples * (density * self.first + self.others / 2)
        of_torch = samples * (self.first + self.others)
        more = (kernels.measured.multiply_add * products - of_torch) / available()
        return kernels if more < kernels.measured.other_operations else None

    def __call__(self, kernels: Kernels, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Set ``.grad`` of the parameters; return the mean loss [] and the logits [B, classes]."""
        if len(x) > self.samples:
            self.scratch, self.samples = kernels.scratch(self.array, len(x)), len(x)
        values = self.describe()  # kept alive until the kernels are done
        result = kernels.linear_layers(self.array, x, labels, self.label_smoothing, self.scratch)
        for weight, value in zip(self.weights, values, strict=True):
            if value is None:
                weight.attach_gradients()
            else:
                weight.spread_gradient()
        return result

    def describe(self) -> list[Tensor | None]:
        """Write the weights' addresses to ``places``; return values that C cannot compute."""
        return list(map(describe, self.weights, self.places))


def describe(weight: Weight, place: WeightInC) -> Tensor | None:
    """Write a weight's addresses to ``place``; return its value if C cannot compute it."""
    place.plus_gradient, place.minus = weight.gradients[0].data_ptr(), None
    mapping = weight.mapping
    if mapping is None:
        place.plus = weight.parameters[0].data_ptr()
        return None
    if type(mapping) is DifferentialPair and mapping.read is read_exactly:
        place.plus, place.minus = (p.data_ptr() for p in weight.parameters)
        place.minus_gradient = weight.gradients[1].data_ptr()
        place.gain = mapping.gain
        return None
    value = weight.value()
    place.plus = value.data_ptr()
    return value
