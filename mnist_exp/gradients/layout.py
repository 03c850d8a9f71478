"""Arrays on disk that hold the parameters' gradients, and their sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mnist_exp.gradients.factors import (
    Convolution,
    ConvolutionGradients,
    DenseGradients,
    OuterProductGradients,
    SampleGradients,
)

ROWS_AT_ONCE = 64  # products are padded to a multiple: a row is the same whatever is read with it
ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "uint8": 1, "int64": 8}


@dataclass(frozen=True)
class StoredArray:
    """One array [N, *row_shape]; ``pixels`` marks network inputs kept as 8-bit pixels."""

    name: str
    row_shape: tuple[int, ...]
    dtype: str
    pixels: bool = False

    @property
    def row_bytes(self) -> int:
        """Bytes per sample."""
        return prod(self.row_shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class DerivedArray:
    """The output gradient [N, out] of a hidden linear layer, computed instead of stored.

    The layer is followed by a ReLU and another linear layer, whose arrays and weight give the
    output gradient by the chain rule.

    Attributes
    ----------
    name
        Name of this array.
    output_gradient, input
        Names of the next layer's arrays; its output gradient may be derived too.
    weight
        Name of the next layer's weight, which is stored once.
    """

    name: str
    output_gradient: str
    input: str
    weight: str

    def rows(self, output_gradient: Tensor, inputs: Tensor, weight: Tensor) -> Tensor:
        """Compute rows [B, out] from the next layer's [B, next out] and [B, out]."""
        # torch rounds the product of a single row differently from that of many
        whole = F.pad(output_gradient, (0, 0, 0, -len(output_gradient) % ROWS_AT_ONCE))
        return torch.where(inputs > 0, (whole @ weight)[: len(inputs)], 0)


@dataclass(frozen=True)
class StoredParameter:
    """A parameter, the form of its gradients and the array of each part of the form."""

    name: str
    shape: tuple[int, ...]
    form: str  # dense, outer_product or convolution
    arrays: dict[str, str]
    convolution: Convolution | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``from_json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StoredParameter:
        """Rebuild from the JSON of ``to_json``."""
        geometry = values["convolution"]
        if geometry is not None:
            geometry = Convolution.from_json(geometry)
        return cls(
            name=values["name"],
            shape=tuple(values["shape"]),
            form=values["form"],
            arrays=dict(values["arrays"]),
            convolution=geometry,
        )

    def gradients(self, arrays: Mapping[str, Tensor]) -> SampleGradients:
        """Assemble the gradients from rows of the arrays."""
        parts = {part: arrays[name] for part, name in self.arrays.items()}
        if self.form == "outer_product":
            return OuterProductGradients(**parts)
        if self.form == "convolution":
            assert self.convolution is not None  # to_json wrote it with this form
            return ConvolutionGradients(**parts, convolution=self.convolution)
        return DenseGradients(parts["values"].reshape(-1, *self.shape))


@dataclass(frozen=True)
class Layout:
    """All per-sample arrays, stored or derived, and the parameters they make up."""

    parameters: tuple[StoredParameter, ...]
    arrays: tuple[StoredArray, ...]
    derived: tuple[DerivedArray, ...] = ()

    def derive(self, weights: Mapping[str, str]) -> Layout:
        """Replace output gradients that follow from other arrays by derived arrays.

        Parameters
        ----------
        weights
            Maps the weight of a linear layer to the next one's, if only a ReLU is between them.
        """
        derived = []
        there = {array.name for array in self.arrays}
        for name, weight in weights.items():
            layer, following = (n.rpartition(".")[0] for n in (name, weight))
            own, after, between = (
                f"{layer}.output_gradient",
                f"{following}.output_gradient",
                f"{following}.input",
            )
            if {own, after, between} <= there:
                derived.append(DerivedArray(own, after, between, weight))
        without = {array.name for array in derived}
        arrays = tuple(array for array in self.arrays if array.name not in without)
        return Layout(self.parameters, arrays, tuple(derived))

    @property
    def row_bytes(self) -> int:
        """Bytes per sample."""
        return sum(array.row_bytes for array in self.arrays)


def dense_layout(shapes: Mapping[str, tuple[int, ...]], dtype: str) -> Layout:
    """Lay out the gradients themselves, one array per parameter."""
    return Layout(
        tuple(StoredParameter(n, s, "dense", {"values": n}) for n, s in shapes.items()),
        tuple(StoredArray(name, shape, dtype) for name, shape in shapes.items()),
    )


def factored_layout(
    gradients: Mapping[str, SampleGradients],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    inputs: Tensor,
    pixels: bool,
    dtype: str,
) -> Layout:
    """Lay out the parts of the given gradients, each tensor once.

    A tensor that two parameters share, such as a linear layer's output gradient for weight and
    bias, is one array. With ``pixels``, the network's ``inputs`` are stored as 8-bit pixels.
    """
    arrays: dict[tuple[int, int], StoredArray] = {}
    parameters = []
    for name, form in gradients.items():
        layer = name.rpartition(".")[0] or "model"
        names = {}
        for part, tensor in parts_of(form).items():
            key = (tensor.data_ptr(), tensor.numel())
            if key not in arrays:
                stem = name if isinstance(form, DenseGradients) else f"{layer}.{part}"
                image = pixels and key == (inputs.data_ptr(), inputs.numel())
                shape = tuple(tensor.shape[1:])
                arrays[key] = StoredArray(stem, shape, "uint8" if image else dtype, image)
            names[part] = arrays[key].name
        convolution = form.convolution if isinstance(form, ConvolutionGradients) else None
        parameters.append(StoredParameter(name, shapes[name], form_name(form), names, convolution))
    return Layout(tuple(parameters), tuple(arrays.values()))


def parts_of(gradients: SampleGradients) -> dict[str, Tensor]:
    """Return the tensors of a form by name, each with the batch first."""
    values = {field.name: getattr(gradients, field.name) for field in fields(gradients)}  # type: ignore[arg-type]
    return {name: part for name, part in values.items() if isinstance(part, Tensor)}


def form_name(gradients: SampleGradients) -> str:
    """Return the name of a form in manifests."""
    forms = {
        DenseGradients: "dense",
        OuterProductGradients: "outer_product",
        ConvolutionGradients: "convolution",
    }
    return forms[type(gradients)]
