"""Which arrays on disk hold which parameter's gradients, and how many bytes that takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import prod
from typing import Any

from torch import Tensor

from mnist_exp.gradients.factors import (
    Convolution,
    ConvolutionGradients,
    DenseGradients,
    OuterProductGradients,
    SampleGradients,
)

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
        """Bytes a sample."""
        return prod(self.row_shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class StoredParameter:
    """A parameter, the form its gradients have and the array behind each part of the form."""

    name: str
    shape: tuple[int, ...]
    form: str  # dense, outer_product or convolution
    arrays: dict[str, str]
    convolution: Convolution | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values that ``from_json`` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StoredParameter:
        """Rebuild from the values of ``to_json``, after they went through JSON."""
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
        """Put the gradients together from rows of the arrays."""
        parts = {part: arrays[name] for part, name in self.arrays.items()}
        if self.form == "outer_product":
            return OuterProductGradients(**parts)
        if self.form == "convolution":
            assert self.convolution is not None  # to_json wrote it with this form
            return ConvolutionGradients(**parts, convolution=self.convolution)
        return DenseGradients(parts["values"].reshape(-1, *self.shape))


@dataclass(frozen=True)
class Layout:
    """Everything that is stored a sample."""

    parameters: tuple[StoredParameter, ...]
    arrays: tuple[StoredArray, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes a sample."""
        return sum(array.row_bytes for array in self.arrays)


def dense_layout(shapes: Mapping[str, tuple[int, ...]], dtype: str) -> Layout:
    """Lay out the gradients themselves, one array a parameter."""
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

    A tensor that serves two parameters, as a linear layer's output gradient serves weight and
    bias, is one array. ``pixels`` says that the network's ``inputs`` are 8-bit pixels.
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
    """Return the tensors a form consists of, each with the batch first."""
    values = {field.name: getattr(gradients, field.name) for field in fields(gradients)}  # type: ignore[arg-type]
    return {name: part for name, part in values.items() if isinstance(part, Tensor)}


def form_name(gradients: SampleGradients) -> str:
    """Name a form as manifests do."""
    forms = {
        DenseGradients: "dense",
        OuterProductGradients: "outer_product",
        ConvolutionGradients: "convolution",
    }
    return forms[type(gradients)]
