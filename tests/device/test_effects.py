"""The device formulas against slow scalar versions, and their invariants."""

import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from mnist_exp.device.pulses import apply_pulses, curve_parameter, program, write_noise
from mnist_exp.device.quantization import (
    clip,
    quantize_accumulate,
    quantize_nearest,
    quantize_stochastic,
)
from mnist_exp.device.random_source import RandomSource
from mnist_exp.device.retention import retain, retention_of_tau

GRID: dict[str, Any] = {"W_min": 0.1, "W_max": 0.51, "levels": 100}
STEP = (GRID["W_max"] - GRID["W_min"]) / (GRID["levels"] - 1)
values = st.lists(st.floats(-1, 2, width=32), min_size=1, max_size=30)
shares = st.floats(0, 1)


@given(values, shares, st.floats(-1, 1))
def test_retention_is_the_scalar_formula(w: list[float], retention: float, target: float) -> None:
    expected = torch.tensor([x - retention * (x - target) for x in w])
    torch.testing.assert_close(
        retain(torch.tensor(w), retention, target), expected, atol=1e-6, rtol=1e-5
    )


@given(st.floats(0.5, 1e6))
def test_time_constant_is_the_rate_of_exponential_decay(tau: float) -> None:
    assert retention_of_tau(tau) == pytest.approx(1 - math.exp(-1 / tau), rel=1e-6)


def test_drift_alone_decays_as_a_power_of_what_is_kept() -> None:
    w = torch.tensor([0.51, 0.3, 0.1], dtype=torch.float64)
    start = w.clone()
    for _ in range(1000):
        retain(w, 1e-3, 0.1, out=w)
    torch.testing.assert_close(w, 0.1 + (start - 0.1) * (1 - 1e-3) ** 1000, rtol=1e-12, atol=0)


@given(values)
def test_nearest_rounding_is_the_scalar_formula(w: list[float]) -> None:
    quantized = quantize_nearest(torch.tensor(w), **GRID)
    for x, q in zip(w, quantized.tolist(), strict=True):
        inside = min(max(x, GRID["W_min"]), GRID["W_max"])
        best = min(
            (GRID["W_min"] + STEP * k for k in range(GRID["levels"])), key=lambda v: abs(v - inside)
        )
        assert abs(q - inside) <= abs(best - inside) + 1e-6


@given(values, shares)
def test_stochastic_rounding_is_the_scalar_formula(w: list[float], uniform: float) -> None:
    uniform = min(uniform, 1 - 2**-24)
    noise = torch.full((len(w),), uniform)
    for x, q in zip(w, quantize_stochastic(torch.tensor(w), noise, **GRID).tolist(), strict=True):
        inside = min(max(x, GRID["W_min"]), GRID["W_max"])
        place = (inside - GRID["W_min"]) / STEP + uniform
        assume(abs(place - round(place)) > 1e-4)  # float32 may round to the other side
        level = min(math.floor(place), GRID["levels"] - 1)
        assert q == pytest.approx(GRID["W_min"] + STEP * level, abs=1e-6)


@given(values, st.integers(0, 2**31))
def test_rounding_stays_on_the_grid_and_within_the_bounds(w: list[float], seed: int) -> None:
    noise = RandomSource(seed, torch.device("cpu")).uniform(len(w))
    stored = torch.tensor(w)
    for q in (
        quantize_nearest(stored, **GRID),
        quantize_stochastic(stored, noise, **GRID),
        quantize_accumulate(stored, torch.zeros(len(w)), **GRID)[0],
    ):
        assert bool((q >= GRID["W_min"]).all())
        assert bool((q <= GRID["W_max"]).all())
        level = (q.double() - GRID["W_min"]) / STEP
        torch.testing.assert_close(level, level.round(), atol=1e-4, rtol=0)


@given(values)
def test_clipping_before_rounding_changes_nothing(w: list[float]) -> None:
    """The constraint relies on this: it omits the clip where it rounds."""
    stored, noise = torch.tensor(w), torch.rand(len(w), generator=torch.Generator().manual_seed(0))
    clipped = clip(stored, GRID["W_min"], GRID["W_max"])
    assert torch.equal(quantize_nearest(stored, **GRID), quantize_nearest(clipped, **GRID))
    assert torch.equal(
        quantize_stochastic(stored, noise, **GRID), quantize_stochastic(clipped, noise, **GRID)
    )


@given(values, shares, shares)
def test_drift_within_stochastic_rounding_is_drift_before_it(
    w: list[float], retention: float, target: float
) -> None:
    stored, noise = torch.tensor(w), torch.rand(len(w), generator=torch.Generator().manual_seed(0))
    drifted = retain(stored.double(), retention, target)
    place = (drifted - GRID["W_min"]) / STEP + noise
    assume(bool(((place - place.round()).abs() > 1e-3).all()))  # else float32 may round otherwise
    torch.testing.assert_close(
        quantize_stochastic(stored, noise, **GRID, retention=retention, target=target),
        quantize_stochastic(drifted.float(), noise, **GRID),
    )


@pytest.mark.parametrize("share", [0.001, 0.25, 0.5, 0.9])
def test_stochastic_rounding_is_unbiased(share: float) -> None:
    """The mean of a million draws is within five standard errors of the value."""
    count, source = 1_000_000, RandomSource(0, torch.device("cpu"))
    w = torch.full((count,), GRID["W_min"] + STEP * (10 + share))
    mean = quantize_stochastic(w, source.uniform(count), **GRID).double().mean().item()
    error = STEP * math.sqrt(share * (1 - share) / count)
    assert abs(mean - w[0].item()) < 5 * error + 1e-7


def test_uniform_numbers_resolve_steps_below_their_own_16_bits() -> None:
    """Retention moves a device at most 1e-3 levels a step, so even 2**-16 / 10 must be resolved."""
    source, bound = RandomSource(3, torch.device("cpu")), 2**-16 / 10
    hits = sum(int((source.uniform(100_000) < bound).sum()) for _ in range(2000))
    expected = 2e8 * bound
    assert abs(hits - expected) < 6 * math.sqrt(2 * expected)


def test_uniform_numbers_are_uniform_and_below_one() -> None:
    numbers = RandomSource(1, torch.device("cpu")).uniform(1_000_003)
    counts = torch.histc(numbers, bins=100, min=0, max=1)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert float(((counts - 10_000) ** 2 / 10_000).sum()) < 160  # chi square, 99 degrees, p = 1e-4


@given(st.lists(st.floats(-0.0625, 0.0625, width=32), min_size=1, max_size=60))
def test_accumulate_loses_nothing(updates: list[float]) -> None:
    """Quantized value plus remainder equals the sum of all updates, clipped to the bounds."""
    q, remainder, exact = torch.tensor([0.3]), torch.zeros(1), 0.3
    q, remainder = quantize_accumulate(q, remainder, **GRID)
    for update in updates:
        q, remainder = quantize_accumulate(q + update, remainder, **GRID)
        exact = min(max(exact + update, GRID["W_min"]), GRID["W_max"])
        assert (q + remainder).item() == pytest.approx(exact, abs=1e-5)
        assert abs(remainder.item()) <= STEP / 2 + 1e-6


def test_functions_broadcast_over_replicas() -> None:
    """With a leading replica dimension, each replica's results equal its results alone."""
    w, noise = torch.rand(3, 4, 5), torch.rand(3, 4, 5)
    low, high = torch.tensor([0.0, 0.1, 0.2]), torch.tensor([0.5, 0.6, 0.9])
    levels, rate = torch.tensor([5.0, 10.0, 100.0]), torch.tensor([0.1, 0.2, 0.3])

    def replica(x: torch.Tensor) -> torch.Tensor:
        return x.view(3, 1, 1)

    grid = (replica(low), replica(high), replica(levels))
    together = (
        retain(w, replica(rate), replica(low)),
        quantize_nearest(w, *grid),
        quantize_stochastic(w, noise, *grid),
        quantize_accumulate(w, noise * 0.01, *grid)[0],
        apply_pulses(w, noise, replica(rate), *grid),
    )
    for r in range(3):
        own = (low[r], high[r], levels[r])
        alone = (
            retain(w[r], rate[r], low[r]),
            quantize_nearest(w[r], *own),
            quantize_stochastic(w[r], noise[r], *own),
            quantize_accumulate(w[r], noise[r] * 0.01, *own)[0],
            apply_pulses(w[r], noise[r], rate[r], *own),
        )
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[r], b)


@pytest.mark.parametrize(
    ("label", "parameter"),
    [
        (0.01, 126.268958),
        (0.1, 12.625807),
        (0.5, 2.519877),
        (1.0, 1.251653),
        (-0.25, -5.048012),
        (9.0, 0.02281),
    ],
)
def test_curve_parameters_are_those_of_the_published_table(label: float, parameter: float) -> None:
    assert curve_parameter(label) == pytest.approx(parameter, abs=6e-7, rel=1e-7)


@given(st.floats(0.1, 0.51), st.floats(-20, 20), st.sampled_from([-6.76, -0.5, 0.04, 1.75, 4.88]))
def test_pulses_move_along_the_published_curve(G: float, pulses: float, label: float) -> None:
    """Equals inverting the curve to a position, adding the pulses and evaluating it there."""
    A, span, W_min, W_max = curve_parameter(label), 97, 0.1, 0.51
    B = (W_max - W_min) / (1 - math.exp(-1 / A))
    place = -A * span * math.log(1 - (G - W_min) / B)
    expected = B * (1 - math.exp(-(place + pulses) / (A * span))) + W_min
    moved = apply_pulses(
        torch.tensor([G], dtype=torch.float64), torch.tensor([pulses]), A, W_min, W_max, span
    )
    assert moved.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_all_pulses_lead_from_bound_to_bound_and_without_label_they_are_equal() -> None:
    for label in (-4.88, 0.0, 2.4):
        A = curve_parameter(label)
        top = apply_pulses(torch.tensor([0.1]), torch.tensor([97.0]), A, 0.1, 0.51, 97)
        torch.testing.assert_close(top, torch.tensor([0.51]))
    half = apply_pulses(torch.tensor([0.1]), torch.tensor([48.5]), math.inf, 0.1, 0.51, 97)
    torch.testing.assert_close(half, torch.tensor([0.305]))


def test_depression_with_a_negative_label_is_fast_near_the_top() -> None:
    """Sign convention: potentiation 2.4 saturates near the top, depression -4.88 is fast there."""
    w = torch.tensor([0.15, 0.45])
    up, down = curve_parameter(2.4), curve_parameter(-4.88)
    rise = program(w, torch.tensor([1.0, 1.0]), up, down, 0.1, 0.51, 97) - w
    fall = w - program(w, torch.tensor([-1.0, -1.0]), up, down, 0.1, 0.51, 97)
    assert rise[0] > rise[1] > 0
    assert fall[1] > fall[0] > 0


def test_write_noise_grows_with_the_root_of_the_pulses() -> None:
    pulses, normal = torch.tensor([0.0, 1.0, -4.0]), torch.ones(3)
    torch.testing.assert_close(
        write_noise(pulses, normal, 0.035, 2.0), torch.tensor([0.0, 0.07, 0.14])
    )
