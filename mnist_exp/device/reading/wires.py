"""Voltage drop along the wires of an array, to first order in their resistance."""

from __future__ import annotations

import torch
from torch import Tensor


def effective_conductances(conductances: Tensor, resistance: float) -> Tensor:
    """Return the conductances that an array with resistive wires seems to have.

    Row i is driven at its end beside column 1, and column j read, at 0 V, at its end below the last
    of m rows. Without resistance the device at (i, j) carries ``I = G V``. These currents let the
    voltage across it fall to

        V - r sum_k min(j, k) I[i, k] - r sum_k min(m + 1 - i, m + 1 - k) I[k, j]

    since the currents to or from all devices of its row or column pass the segments that they
    share with it. Summed over a column, each G then counts as

        G (1 - r (sum_k min(j, k) G[i, k] + sum_k min(m + 1 - i, m + 1 - k) G[k, j]))

    (Kirchhoff's laws, one step of the expansion in r.) ``1 / (1 + x)`` instead of ``1 - x`` agrees
    to first order, stays positive and is closer to the exact solution. Driven from the columns and
    read at the rows, the array has the same effective conductances (reciprocity).

    Parameters
    ----------
    conductances : Tensor
        [rows, columns], as shares of a fully-on device.
    resistance : float
        Of a wire between two devices, as a share of the resistance of a fully-on device.
    """
    along_rows = _shared(conductances, 1)
    along_columns = _shared(conductances.flip(0), 0).flip(0)
    return conductances / (1 + resistance * (along_rows + along_columns))


def _shared(conductances: Tensor, dim: int) -> Tensor:
    """Return ``sum_k min(j, k) G[k]`` along a dimension."""
    if conductances.device.type != "cpu":
        return by_product(conductances, dim)
    # over segments 1 to j, the sum of what passes each
    passing = conductances.flip(dim).cumsum(dim).flip(dim)
    return torch.cumsum(passing, dim)


def by_product(conductances: Tensor, dim: int) -> Tensor:
    """Return the same from a matrix product; running sums are not deterministic on GPUs."""
    numbers = torch.arange(conductances.shape[dim], device=conductances.device).to(conductances) + 1
    shared = torch.minimum(numbers, numbers.unsqueeze(1))
    return conductances @ shared if dim == 1 else shared @ conductances
