"""Per-sample gradients of one parameter, as factors or as the gradients themselves.

In the shapes below, B is the number of samples and P the shape of the parameter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Elements of an unfolded convolution input held at once: 32 MiB of float32.
UNFOLD_ELEMENTS = 1 << 23


class SampleGradients(ABC):
    """The gradients of B samples with respect to one parameter.

    All operations are exact. The ones here build the gradients; a subclass overrides those that its
    factors give without building.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of samples."""

    @abstractmethod
    def __getitem__(self, rows: slice) -> SampleGradients:
        """Select samples."""

    @abstractmethod
    def dense(self) -> Tensor:
        """Build the gradients, [B, *P]."""

    def reusable(self) -> SampleGradients:
        """Return a form whose operations do not each build the gradients."""
        return DenseGradients(self.dense())

    def squared_norms(self) -> Tensor:
        """Compute each sample's squared Euclidean norm, [B]."""
        return torch.linalg.vector_norm(self._vectors(), dim=1).square()

    def sum(self) -> Tensor:
        """Sum over the samples, [*P]."""
        return self.dense().sum(0)

    def sum_of_squares(self) -> Tensor:
        """Sum the squared elements over the samples, [*P]."""
        return self.dense().square().sum(0)

    def inner(self, direction: Tensor) -> Tensor:
        """Compute each sample's inner product with ``direction`` [*P], [B]."""
        return self._vectors() @ direction.flatten()

    def gram(self, other: SampleGradients) -> Tensor:
        """Compute the inner products with the samples of ``other``, [B, len(other)]."""
        return self._vectors() @ other._vectors().T

    def _vectors(self) -> Tensor:
        return self.dense().reshape(len(self), -1)  # [B] of a scalar parameter becomes [B, 1]


@dataclass(frozen=True)
class DenseGradients(SampleGradients):
    """The gradients themselves: ``values`` is [B, *P]."""

    values: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice) -> DenseGradients:
        return DenseGradients(self.values[rows])

    def dense(self) -> Tensor:
        """Return the gradients, [B, *P]."""
        return self.values


@dataclass(frozen=True)
class OuterProductGradients(SampleGradients):
    """The weight gradient of a linear layer, ``output_gradient[b] (outer) input[b]``.

    ``output_gradient`` is [B, out], ``input`` [B, in]; P is (out, in). Source of the rank-one
    form and its norms: Goodfellow, "Efficient per-example gradient computations", 2015,
    arXiv:1510.01799.
    """

    output_gradient: Tensor
    input: Tensor

    def __len__(self) -> int:
        return len(self.input)

    def __getitem__(self, rows: slice) -> OuterProductGradients:
        return OuterProductGradients(self.output_gradient[rows], self.input[rows])

    def reusable(self) -> OuterProductGradients:
        """Return self: no operation below builds the gradients."""
        return self

    def dense(self) -> Tensor:
        """Build the gradients, [B, out, in]."""
        return self.output_gradient.unsqueeze(2) * self.input.unsqueeze(1)

    def squared_norms(self) -> Tensor:
        """Compute |d|^2 |x|^2, [B]."""
        norms = [torch.linalg.vector_norm(f, dim=1) for f in (self.output_gradient, self.input)]
        return (norms[0] * norms[1]).square()

    def sum(self) -> Tensor:
        """Sum over the samples: D^T X, [out, in]."""
        return self.output_gradient.T @ self.input

    def sum_of_squares(self) -> Tensor:
        """Sum the squared elements: (D*D)^T (X*X), [out, in]."""
        return self.output_gradient.square().T @ self.input.square()

    def inner(self, direction: Tensor) -> Tensor:
        """Compute d^T M x for the direction M [out, in], [B]."""
        return ((self.input @ direction.T) * self.output_gradient).sum(1)

    def gram(self, other: SampleGradients) -> Tensor:
        """Compute (D D'^T) * (X X'^T), [B, len(other)]."""
        if not isinstance(other, OuterProductGradients):
            return super().gram(other)
        return (self.output_gradient @ other.output_gradient.T) * (self.input @ other.input.T)


@dataclass(frozen=True)
class Convolution:
    """The geometry of a two-dimensional convolution, as ``torch.nn.Conv2d`` names it.

    ``padding`` is that of ``torch.nn.functional.pad``: (left, right, top, bottom).
    """

    weight_shape: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding: tuple[int, ...]
    padding_mode: str  # of torch.nn.functional.pad: constant, reflect, replicate, circular

    @classmethod
    def of(cls, layer: torch.nn.Conv2d) -> Convolution:
        """Read the geometry of ``layer``."""
        if layer.padding == "same":  # stride is 1; an odd pixel goes right or below
            totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        elif layer.padding == "valid":
            totals = [0, 0]
        else:
            totals = [2 * int(p) for p in layer.padding]
        vertical, horizontal = ((total // 2, total - total // 2) for total in totals)
        return cls(
            weight_shape=tuple(layer.weight.shape),
            stride=layer.stride,
            dilation=layer.dilation,
            groups=layer.groups,
            padding=(*horizontal, *vertical),
            padding_mode="constant" if layer.padding_mode == "zeros" else layer.padding_mode,
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Convolution:
        """Rebuild from the JSON of ``dataclasses.asdict``."""
        plain: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**plain)


@dataclass(frozen=True)
class ConvolutionGradients(SampleGradients):
    """The weight gradient of a convolution, from its input and the gradient of its output.

    ``output_gradient`` is [B, C_out, H_out, W_out], ``input`` [B, C_in, H, W] before padding.
    """

    output_gradient: Tensor
    input: Tensor
    convolution: Convolution

    def __len__(self) -> int:
        return len(self.input)

    def __getitem__(self, rows: slice) -> ConvolutionGradients:
        return ConvolutionGradients(self.output_gradient[rows], self.input[rows], self.convolution)

    def dense(self) -> Tensor:
        """Build the gradients, [B, C_out, C_in / groups, kernel height, kernel width]."""
        _, inputs_per_group, height, width = self.convolution.weight_shape
        places = self.output_gradient[0, 0].numel()
        patch = inputs_per_group * height * width * self.convolution.groups
        rows = max(1, UNFOLD_ELEMENTS // (places * patch))
        starts = range(0, len(self), rows)
        return torch.cat([self[start : start + rows]._unfolded_product() for start in starts])

    def _unfolded_product(self) -> Tensor:
        geometry = self.convolution
        padded = F.pad(self.input, geometry.padding, mode=geometry.padding_mode)
        patches = F.unfold(
            padded,
            kernel_size=geometry.weight_shape[2:],
            dilation=geometry.dilation,
            stride=geometry.stride,
        )  # (B, C_in * kh * kw, L)
        batch = len(self)
        patches = patches.unflatten(1, (geometry.groups, -1)).flatten(0, 1)
        output = self.output_gradient.flatten(2).unflatten(1, (geometry.groups, -1)).flatten(0, 1)
        gradients = output @ patches.transpose(1, 2)  # (B * groups, C_out / groups, C_in/g * k)
        return gradients.reshape(batch, *geometry.weight_shape)
