"""Converters, noise and tiles, against slow versions and the exact product."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mnist_exp.device import Array, ArrayReading
from mnist_exp.device.random_source import RandomSource
from mnist_exp.errors import UserError
from tests.helpers.kernel_builds import COMPILED, using

NO_NOISE: dict[str, Any] = {"output_noise": 0.0}
EXACT: dict[str, Any] = NO_NOISE | dict.fromkeys(
    ("input_bits", "input_range", "output_bits", "output_range")
)


def array(weights: Tensor, training: bool = True) -> Array:
    def no_pair() -> Any:
        raise AssertionError("only wires need conductances")

    return Array(RandomSource(0, torch.device("cpu")), weights.abs().max(), training, no_pair)


def product(reading: ArrayReading, inputs: Tensor, weights: Tensor) -> Tensor:
    return reading.read(inputs, weights, array(weights))


def problem(rows: int, columns: int, vectors: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(vectors, rows, generator=generator)
    return inputs, torch.randn(columns, rows, generator=generator)


def slowly(reading: ArrayReading, inputs: Tensor, weights: Tensor) -> Iterator[list[float]]:
    """Convert and multiply one number after the other, in Python's float64."""
    largest = weights.abs().max().item()
    rows = weights.shape[1]
    tile = reading.tile_rows or rows
    assert reading.input_bits is not None
    assert reading.output_bits is not None
    in_steps = 2 ** (reading.input_bits - reading.input_signed) - 1
    out_steps = 2 ** (reading.output_bits - 1) - 1
    for vector in inputs.double().tolist():
        full = reading.input_range
        full = max(map(abs, vector)) if full == "abs_max" else float(str(full))
        outputs = []
        for column in weights.double().tolist():
            output = 0.0
            for first in range(0, rows, tile):
                current = 0.0
                for i in range(first, min(first + tile, rows)):
                    voltage = math.floor(vector[i] / full * in_steps + 0.5) / in_steps
                    voltage = min(max(voltage, -1.0 if reading.input_signed else 0.0), 1.0)
                    current += voltage * column[i] / largest
                limit = reading.output_range
                limit = min(tile, rows - first) if limit == "all_rows" else float(str(limit))
                digit = math.floor(current / limit * out_steps + 0.5)
                output += min(max(digit, -out_steps), out_steps) * limit / out_steps
            outputs.append(output * full * largest)
        yield outputs


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tile_rows": 4},
        {"tile_rows": 5, "output_range": "all_rows", "output_bits": 4},
        {"input_range": 0.7, "output_range": 1.5},
        {"input_range": 1.0, "input_signed": False, "input_bits": 1},
        {"input_signed": False, "input_bits": 3, "tile_rows": 100},
    ],
    ids=str,
)
def test_converters_and_tiles_do_what_a_loop_over_single_numbers_does(
    changes: dict[str, Any],
) -> None:
    reading = ArrayReading(**NO_NOISE | changes)
    inputs, weights = problem(13, 5)
    found = product(reading, inputs, weights)
    torch.testing.assert_close(found, torch.tensor([*slowly(reading, inputs, weights)]))


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 40), columns=st.integers(1, 9), tile=st.none() | st.integers(1, 50))
def test_without_converters_and_noise_any_tiles_give_the_exact_product(
    rows: int, columns: int, tile: int | None
) -> None:
    inputs, weights = problem(rows, columns, seed=rows)
    found = product(ArrayReading(**EXACT, tile_rows=tile), inputs, weights)
    torch.testing.assert_close(found, inputs @ weights.T, rtol=1e-4, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 40), columns=st.integers(1, 9), scale=st.floats(1e-3, 1e3))
def test_many_bits_and_a_wide_range_come_close_to_the_exact_product(
    rows: int, columns: int, scale: float
) -> None:
    inputs, weights = problem(rows, columns, seed=rows)
    inputs = inputs * scale
    found = product(
        ArrayReading(**NO_NOISE, input_bits=16, output_bits=16, output_range="all_rows"),
        inputs,
        weights,
    )
    error = (found - inputs @ weights.T).abs().max()
    assert error <= 2 * rows * inputs.abs().max() * weights.abs().max() / (2**15 - 1)


def test_halving_the_bits_multiplies_the_error() -> None:
    inputs, weights = problem(64, 10, vectors=50)
    errors = [
        (product(ArrayReading(**NO_NOISE, input_bits=b), inputs, weights) - inputs @ weights.T)
        .norm().item()
        for b in (3, 5, 7)
    ]  # fmt: skip
    assert errors[0] > 3 * errors[1] > 6 * errors[2]


def test_vectors_of_zeros_and_arrays_of_zeros_read_zero() -> None:
    reading = ArrayReading(**NO_NOISE)
    assert product(reading, torch.zeros(2, 3), torch.randn(4, 3)).eq(0).all()
    weights = torch.zeros(4, 3)
    blank = Array(RandomSource(0, torch.device("cpu")), 1.0, True, lambda: (weights, weights, 1.0))
    assert reading.read(torch.randn(2, 3), weights, blank).eq(0).all()


@pytest.mark.parametrize("build", ["torch", *COMPILED])
@pytest.mark.parametrize("bits", [7, 16, None])
def test_vectors_of_the_smallest_numbers_are_read(build: str, bits: int | None) -> None:
    """As of errors of samples that a network is sure of: 1 / 1e-40 is infinite, 0 times it NaN."""
    sizes = torch.tensor([[1e-25], [1e-37], [1e-40], [1e-45]])
    inputs, weights = sizes * torch.tensor([1.0, -0.5, 0.0]), torch.eye(3)
    reading = ArrayReading(**NO_NOISE, input_bits=bits, output_bits=16, output_range=1.0)
    with using(build):
        found = product(reading, inputs, weights)
    torch.testing.assert_close(found, inputs, rtol=0.02, atol=2.0**-100)
    assert found[0, 0] > 0


def test_noise_of_outputs_and_of_every_read_has_its_standard_deviation() -> None:
    inputs, weights = torch.tensor([[3.0, 4.0, 0.0]]).expand(4000, 3), torch.ones(5, 3)
    quiet = EXACT | {"input_range": 4.0}
    for output_noise, read_noise in ((0.1, 0.0), (0.0, 0.2), (0.1, 0.2)):
        reading = ArrayReading(**quiet | {"output_noise": output_noise}, read_noise=read_noise)
        noise = product(reading, inputs, weights) - 7
        # one unit of current is 4: the largest input times the largest weight; sqrt(3^2 + 4^2) = 5
        expected = math.hypot(4 * output_noise, 5 * read_noise)
        assert noise.std().item() == pytest.approx(expected, rel=0.03)
        assert abs(noise.mean().item()) < 4 * expected / math.sqrt(noise.numel())
        assert noise[0].ne(noise[1]).all()


def test_weight_noise_is_drawn_for_a_batch_of_training_only() -> None:
    reading = ArrayReading(**EXACT, weight_noise=0.1)
    weights = torch.full((40, 50), 2.0)
    drawn = array(weights)
    first, second = reading.weights(weights, drawn), reading.weights(weights, drawn)
    assert first.ne(second).all()
    assert (first - weights).std().item() == pytest.approx(0.2, rel=0.1)
    assert reading.weights(weights, array(weights, training=False)) is weights


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_bits": 0},
        {"input_bits": -3},
        {"input_bits": 17},
        {"input_bits": 1},  # signed
        {"input_bits": 7.0},
        {"input_range": 0},
        {"input_range": "max"},
        {"input_range": None},  # with input_bits
        {"output_bits": 1},
        {"output_range": -12.0},
        {"output_range": None},  # with output_bits
        {"output_noise": -0.1},
        {"read_noise": float("nan")},
        {"weight_noise": -1},
        {"tile_rows": 0},
        {"tile_columns": -4},
        {"wire_resistance": -1e-6},
        {"in_backward": 1},
    ],
    ids=str,
)
def test_a_wrong_setting_is_refused_in_one_line_with_the_key(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError) as error:
        ArrayReading(**wrong)
    (key,) = wrong
    (line,) = str(error.value).splitlines()
    assert line.startswith("constraint.read.")
    assert key in line


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(UserError) as error:
        ArrayReading(output_bits=0, tile_rows=0, output_noise=-1)
    assert len(str(error.value).splitlines()) == 3


@pytest.mark.parametrize("build", COMPILED)
@pytest.mark.parametrize(
    "inputs", [(7, None), (1, None), (2, 1.0), (4, 0.37), (None, 0.5)], ids=str
)
@pytest.mark.parametrize(
    "outputs", [(9, 12.0), (2, "all_rows"), (None, 0.3), (None, None)], ids=str
)
def test_a_kernel_reads_the_same_bits(build: str, inputs: Any, outputs: Any) -> None:
    bits, full = inputs
    settings = EXACT | {"input_bits": bits, "input_range": full or "abs_max"}
    settings |= {"output_bits": outputs[0], "output_range": outputs[1], "input_signed": bits != 1}
    reading = ArrayReading(**settings)
    x, weights = problem(97, 21, vectors=9)
    x = (
        (x * (x > -0.5)) * 64
    ).round() / 64  # sums without rounding, of which none depends on order
    x[3] = 0.0
    weights = (weights * 16).round() / 16
    with using("torch"):
        plain = product(reading, x, weights)
    with using(build):
        assert product(reading, x, weights).equal(plain)
        assert product(reading, x[:0], weights).shape == (0, 21)
        assert product(reading, x.view(3, 3, 97), weights).equal(plain.view(3, 3, 21))
