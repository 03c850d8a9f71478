"""Loss and gradients of linear layers whose products are read from arrays of devices."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mnist_exp.cpu.kernels import Layer, kernels_for
from mnist_exp.cpu.kernels.interface import ArrayReading as ArrayReadingInC
from mnist_exp.cpu.threads import one_thread
from mnist_exp.device.reading.array_reading import ArrayReading
from mnist_exp.device.reading.layers import exact_products, reader_of
from mnist_exp.device.reading.read_layer import ReadLayer
from mnist_exp.models.stages import stages
from mnist_exp.train.backprop.autograd import Autograd
from mnist_exp.train.backprop.linear_layer import LinearLayer
from mnist_exp.train.backprop.mlp import LinearLayers
from mnist_exp.train.backprop.mlp_compiled import CompiledLayers, describe
from mnist_exp.train.backprop.weights import Weight, make_gradients


class ReadLinearLayers:
    """The chain rule through linear layers read from arrays, with ReLU between them, compiled.

    Autograd takes the batches on which the kernels are not faster. Arguments as in
    `backpropagation`, for a model that this class `knows`; everything is float32, as in autograd.
    """

    def __init__(self, model: nn.Module, label_smoothing: float, precision: str) -> None:
        self.autograd = Autograd(model, label_smoothing, precision)
        _, gradients = make_gradients(model.parameters())
        modules = linear_layers(model)
        layers = [LinearLayer(module, gradients, "fp32") for module in modules]
        self.compiled = _CompiledReading(modules, layers, label_smoothing)

    @staticmethod
    def knows(model: nn.Module) -> bool:
        """Return whether there are kernels for a network, and for how its products are read."""
        modules = linear_layers(model)
        return bool(modules and kernels_for(*model.parameters())) and all(
            _is_known(reader, module.in_features)
            for module in modules
            if (reader := reader_of(module)) is not None
        )

    @torch.no_grad()
    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Set ``.grad`` of the parameters; return the mean loss [] and the logits [B, classes]."""
        x = inputs.flatten(1)
        kernels = self.compiled.kernels_for(x, labels)
        if kernels is None:
            with torch.enable_grad():
                return self.autograd(inputs, labels)
        with one_thread():
            return self.compiled(kernels, x, labels)


def linear_layers(model: nn.Module) -> list[nn.Linear]:
    """Return the layers of a network that has only linear ones, whatever reads them; else none."""
    with exact_products(model):
        said = stages(model)
    return said[1] if said is not None and LinearLayers.knows(said) else []


def _is_known(reader: ReadLayer, inputs: int) -> bool:
    reading = reader.reading
    return (
        isinstance(reading, ArrayReading)
        and reading.converters(1.0, inputs) is not None
        and reading.transposed is None
        and isinstance(reader.output_scale, float)
        and reader.output_scale == 1
    )


class _CompiledReading(CompiledLayers):
    """Compiled linear layers with the reading that each has at the time of a batch."""

    def __init__(
        self, modules: Sequence[nn.Linear], layers: Sequence[LinearLayer], label_smoothing: float
    ) -> None:
        super().__init__(layers, label_smoothing)
        self.modules = modules
        self.readings: list[ArrayReadingInC] = []  # kept alive until the kernels are done

    def describe(self) -> list[Tensor | None]:
        """Write addresses of weights and readings; return weights as they act, made by torch."""
        values: list[Tensor | None] = []
        self.readings = []
        weights = zip(self.weights[::2], self.weights[1::2], strict=True)
        for module, (weight, bias), place in zip(self.modules, weights, self.array, strict=True):
            reader = reader_of(module)
            if reader is None:
                place.reading = None
                values.append(describe(weight, place.weight))
            else:
                values.append(self._describe_read(reader, weight, place))
            values.append(describe(bias, place.bias))
        return values

    def _describe_read(self, reader: ReadLayer, weight: Weight, place: Layer) -> Tensor | None:
        reading = reader.reading
        assert isinstance(reading, ArrayReading), "it is known"
        acting = describe(weight, place.weight)
        weight_range: float | Tensor | None = reader.weight_range
        if weight_range is None or reading.changes_weights:
            value = weight.value() if acting is None else acting
            array = reader.array(value)
            weight_range, acting = array.weight_range, reading.weights(value, array)
            place.weight.plus, place.weight.minus = acting.data_ptr(), None
        converters = reading.converters(weight_range, place.inputs)
        assert converters is not None, "it is known"
        self.readings.append(converters.in_c(reader.stream.random.seed))
        place.reading = ctypes.addressof(self.readings[-1])
        return acting
