"""Wire resistance to first order, against Kirchhoff's laws at every node."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.linalg import splu
from torch import Tensor

from mnist_exp.device.reading.wires import _shared, by_product, effective_conductances


def solved(conductances: Tensor, resistance: float) -> Tensor:
    """Return the current of every column per voltage on every row, by solving for all nodes."""
    G = conductances.double().numpy()
    rows, columns = G.shape
    wire = 1 / resistance
    entries: list[tuple[int, int, float]] = []

    def node(on_column: bool, i: int, j: int) -> int:
        return (int(on_column) * rows + i) * columns + j

    def connect(one: int, other: int | None, conductance: float) -> None:
        entries.append((one, one, conductance))
        if other is not None:  # not a source or 0 V
            entries.append((other, other, conductance))
            entries.extend([(one, other, -conductance), (other, one, -conductance)])

    injected = np.zeros((2 * rows * columns, rows))
    for i in range(rows):
        injected[node(False, i, 0), i] = wire
        for j in range(columns):
            connect(node(False, i, j), node(True, i, j), G[i, j])
            connect(node(False, i, j), node(False, i, j - 1) if j else None, wire)
            connect(node(True, i, j), node(True, i + 1, j) if i + 1 < rows else None, wire)
    at, to, values = zip(*entries, strict=True)
    matrix = coo_array((values, (at, to)), shape=(len(injected), len(injected))).tocsc()
    voltages = splu(matrix).solve(injected)
    bottom = [node(True, rows - 1, j) for j in range(columns)]
    return torch.from_numpy(wire * voltages[bottom].T)


def array(rows: int, columns: int, mean: float) -> Tensor:
    generator = torch.Generator().manual_seed(rows)
    spread = torch.rand(rows, columns, generator=generator, dtype=torch.float64)
    return 2 * mean * spread


def error(conductances: Tensor, resistance: float, model: Tensor) -> float:
    """Return the RMS error of column currents as a share of their RMS, over random inputs."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(100, len(conductances), generator=generator, dtype=torch.float64)
    exact = inputs @ solved(conductances, resistance)
    return float((inputs @ model - exact).norm() / exact.norm())


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 9), (9, 1), (12, 5), (16, 16)])
def test_the_error_falls_with_the_square_of_the_resistance(rows: int, columns: int) -> None:
    conductances = array(rows, columns, mean=0.3)
    errors = [error(conductances, r, effective_conductances(conductances, r)) for r in (1e-4, 1e-5)]
    assert errors[0] < 1e-5
    assert errors[1] <= errors[0] / 50 or errors[1] < 1e-12


@pytest.mark.parametrize(
    ("size", "mean", "resistance"), [(16, 0.25, 8e-3), (32, 0.25, 2e-3), (32, 0.5, 1e-3)]
)
def test_it_is_within_a_percent_where_the_documentation_says_so(
    size: int, mean: float, resistance: float
) -> None:
    """Up to ``resistance * rows * columns * mean conductance = 0.5``; see docs/devices.md."""
    assert resistance * size**2 * mean <= 0.52
    conductances = array(size, size, mean)
    assert error(conductances, resistance, conductances) > 0.3  # what ignoring it costs
    assert error(conductances, resistance, effective_conductances(conductances, resistance)) < 0.01


def test_without_resistance_nothing_changes() -> None:
    conductances = array(4, 3, mean=0.5)
    assert effective_conductances(conductances, 0.0).equal(conductances)


@pytest.mark.parametrize("dim", [0, 1])
def test_gpus_share_segments_by_a_product(dim: int) -> None:
    conductances = array(30, 7, 0.3)
    torch.testing.assert_close(by_product(conductances, dim), _shared(conductances, dim))
