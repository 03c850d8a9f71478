"""Fits recover the devices that made the readings, and noise is told apart."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_exp.device import SoftBounds, TableStep
from mnist_exp.device.measurement.curves import LinearChange, TableChange, exponential
from mnist_exp.device.measurement.fits import Fit, fit_curves
from mnist_exp.device.measurement.likelihood import Step, innovations
from mnist_exp.device.measurement.option import constraint_settings
from mnist_exp.device.measurement.ramps import Array, Measurement, Ramps
from mnist_exp.device.measurement.readings import read_measurement
from mnist_exp.device.measurement.synthetic import (
    EXAMPLE,
    EXAMPLE_NOISE,
    csv_of,
    example_csv,
    synthetic_ramps,
)
from mnist_exp.device.pulses import apply_pulses, curve_parameter
from mnist_exp.errors import UserError


def measured(up: Array, down: Array) -> Measurement:
    pulses = np.arange(up.shape[1])
    return Measurement(Ramps(pulses, up), Ramps(pulses, down))


def made_by(step: Step, pulses: int, noise: float = 0.0, cycles: int = 4) -> Measurement:
    """Return ramps of a device with this law, from 0 to 1 and back."""
    random = np.random.default_rng(0)
    ramps = []
    for up in (True, False):
        x = np.full(cycles, 0.0 if up else 1.0)
        ramp = [x]
        for _ in range(pulses):
            x = x + step(x, up)[0] + noise * random.standard_normal(cycles)
            ramp.append(x)
        ramps.append(np.stack(ramp, axis=1))
    return measured(*ramps)


def curves_of(measurement: Measurement) -> dict[str, Fit]:
    return {fit.curve: fit for fit in fit_curves(measurement)}


@given(
    labels=st.tuples(st.floats(-2, 7), st.floats(-7, 2)),
    pulses=st.integers(20, 100),
    cycle_noise=st.floats(0.0, 0.02),
    read_noise=st.floats(0.0, 0.01),
    cycles=st.integers(5, 10),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=8)
def test_recovers_devices_with_exponential_curves(
    labels: tuple[float, float],
    pulses: int,
    cycle_noise: float,
    read_noise: float,
    cycles: int,
    seed: int,
) -> None:
    """Noise adds up along a ramp, so that tolerances grow with it."""
    noise = {"cycle_noise": cycle_noise, "read_noise": read_noise, "cycles": cycles}
    up, down = synthetic_ramps(*labels, pulses=pulses, seed=seed, **noise)  # type: ignore[arg-type]
    (fit,) = fit_curves(measured(up, down), ["exponential"])
    at_the_end = cycle_noise * math.sqrt(pulses / cycles)
    assert fit.labels == pytest.approx(labels, abs=0.15 + 15 * at_the_end)
    assert fit.measurement.bounds == pytest.approx((0, 1), abs=0.01 + 4 * at_the_end)
    assert fit.noise.cycle == pytest.approx(cycle_noise, rel=0.3, abs=0.002 + 0.1 * read_noise)
    assert fit.noise.read == pytest.approx(read_noise, rel=0.3, abs=0.001 + 0.4 * cycle_noise)


def test_recovers_the_example(tmp_path: Path) -> None:
    """The tolerances are those of docs/devices.md."""
    path = tmp_path / "example.csv"
    path.write_text(example_csv())
    measurement = read_measurement(path)
    best = fit_curves(measurement)[0]
    assert best.curve == "exponential"
    assert best.labels == pytest.approx((EXAMPLE["label_up"], EXAMPLE["label_down"]), abs=0.1)
    assert measurement.bounds == pytest.approx((EXAMPLE["W_min"], EXAMPLE["W_max"]), rel=0.03)
    assert measurement.pulses == EXAMPLE["pulses"]
    assert best.noise.separable
    assert best.noise.cycle == pytest.approx(EXAMPLE_NOISE["cycle_noise"], rel=0.1)
    assert best.noise.read == pytest.approx(EXAMPLE_NOISE["read_noise"], rel=0.1)
    for up in (True, False):
        assert best.quality(up).r_squared > 0.98
        assert best.quality(up).rms_of_mean < 0.012


@pytest.mark.parametrize("labels", [(2.4, -4.88), (-1.0, 1.5), (0.0, 0.0), (8.5, 0.1)])
def test_readings_without_noise_give_the_device_back(labels: tuple[float, float]) -> None:
    (fit,) = fit_curves(measured(*synthetic_ramps(*labels, pulses=40)), ["exponential"])
    assert fit.labels == pytest.approx(labels, abs=0.01)
    assert fit.noise.cycle < 1e-4
    assert not fit.noise.separable
    assert fit.quality(True).r_squared > 0.999_99


def test_the_synthetic_curve_and_the_fitted_one_are_those_that_train() -> None:
    up, down = synthetic_ramps(2.4, -3.2, W_min=0.2, W_max=0.9, pulses=30)
    change = exponential(2.4, -3.2, 30)
    for ramp, label, direction in ((up[0], 2.4, 1), (down[0], -3.2, -1)):
        start = torch.full((31,), ramp[0], dtype=torch.float64)
        pulses = direction * torch.arange(31, dtype=torch.float64)
        trained = apply_pulses(start, pulses, curve_parameter(label), 0.2, 0.9, 30)
        np.testing.assert_allclose(ramp, trained.numpy(), atol=1e-9)
        shares = (ramp - 0.2) / 0.7
        after = shares[:-1] + change(shares[:-1], direction > 0)[0]
        np.testing.assert_allclose(after, shares[1:], atol=1e-12)


def test_soft_bounds_are_recovered_and_are_the_step_model() -> None:
    law = LinearChange(1.1, 0.08, -0.05, 0.05)
    measurement = made_by(law, 60, noise=0.004, cycles=8)
    fit = curves_of(measurement)["soft_bounds"]
    low, high = measurement.bounds
    assert isinstance(fit.change, LinearChange)
    target_up, target_down = (low + (high - low) * t for t in (
        fit.change.target_up, fit.change.target_down,
    ))  # fmt: skip
    assert (target_up, target_down) == pytest.approx((1.1, -0.05), abs=0.03)
    assert (fit.change.rate_up, fit.change.rate_down) == pytest.approx((0.08, 0.05), rel=0.05)
    steps, shares = of_the_option(fit, SoftBounds)
    for up in (True, False):
        np.testing.assert_allclose(steps[up], fit.change(shares, up)[0], rtol=0.03, atol=1e-4)


def test_a_table_follows_a_law_that_is_no_exponential() -> None:
    """Steps that are small in the middle: ``auto`` takes the table, and it is the step model."""

    def law(x: Array, up: bool) -> tuple[Array, float]:
        return (1 if up else -1) * (0.01 + 0.12 * (x - 0.5) ** 2), 0.0

    measurement = made_by(law, 60, noise=0.002, cycles=8)
    best = fit_curves(measurement)[0]
    assert best.curve == "table"
    assert isinstance(best.change, TableChange)
    low, high = measurement.bounds
    x = np.linspace(0.05, 0.95, 19)
    for up in (True, False):
        fitted = best.change(x, up)[0] * (high - low)
        assert np.abs(fitted - law(low + (high - low) * x, up)[0]).max() < 0.004
    steps, shares = of_the_option(best, TableStep)
    for up in (True, False):
        np.testing.assert_allclose(steps[up], best.change(shares, up)[0], atol=1e-4)


def of_the_option(fit: Fit, step_model: Any) -> tuple[dict[bool, Array], Array]:
    """Return changes by a pulse that the written option's device makes, and where, in shares."""
    found = constraint_settings(fit)
    low, high = found["W_min"], found["W_max"]
    numbers = {k: v for k, v in found["curve"].items() if k != "_target_"}
    model = step_model(**numbers)
    bounds = {"W_min": low, "W_max": high, "mean_W_min": low, "mean_W_max": high}
    device = type("Device", (), {**model.means, **bounds})()
    w = torch.linspace(low + 0.1, high - 0.1, 21)
    D = (high - low) / (found["levels"] - 1)
    # from shares of the option's range to shares of the measured one
    below = above = 0.0
    if fit.curve == "soft_bounds":
        assert isinstance(fit.change, LinearChange)
        below, above = fit.change.target_down, fit.change.target_up - 1
    extent = 1 + above - below
    shares = below + extent * (w.numpy() - low) / (high - low)
    sizes = {up: model.shape(w, up, device).numpy() * D * extent for up in (True, False)}
    return {True: sizes[True], False: -sizes[False]}, shares


def test_soft_bounds_that_lie_far_beyond_the_readings_are_refused() -> None:
    measurement = measured(*synthetic_ramps(0.2, -0.2, pulses=40, cycle_noise=0.005, cycles=5))
    assert "soft_bounds" not in curves_of(measurement)
    with pytest.raises(UserError, match="steps shrink so little"):
        fit_curves(measurement, ["soft_bounds"])


def test_pulses_between_readings_count() -> None:
    up, down = synthetic_ramps(2.4, -3.2, pulses=60)
    every_third = Ramps(np.arange(0, 61, 3), up[:, ::3]), Ramps(np.arange(0, 61, 3), down[:, ::3])
    (fit,) = fit_curves(Measurement(*every_third), ["exponential"])
    assert fit.labels == pytest.approx((2.4, -3.2), abs=0.01)
    assert fit.measurement.pulses == 60


def test_innovations_are_those_of_the_joint_normal_distribution() -> None:
    """The filter's likelihood equals the one from the covariance matrix of all readings."""
    step, share, n = LinearChange(1.2, 0.1, -0.1, 0.1), 0.3, 12
    (ramp, _) = synthetic_ramps(1.0, -1.0, pulses=n, cycle_noise=0.02, read_noise=0.02, seed=3)
    v, F = innovations(Ramps(np.arange(n + 1), ramp), True, step, share)
    # the state before the first reading: flat, so that its variance is that of a reading after it
    q = 0.9 ** np.arange(n + 1)
    mean = 1.2 + (ramp[0, 0] - 1.2) * q
    covariance = (1 - share) * np.outer(q, q)
    for shock in range(1, n + 1):
        later = np.where(np.arange(n + 1) >= shock, 0.9 ** (np.arange(n + 1.0) - shock), 0.0)
        covariance += share * np.outer(later, later)
    covariance = (covariance + (1 - share) * np.eye(n + 1))[1:, 1:]
    residual = (ramp[0] - mean)[1:]
    assert (v**2 / F).sum() == pytest.approx(residual @ np.linalg.solve(covariance, residual))
    assert np.log(F).sum() == pytest.approx(np.linalg.slogdet(covariance)[1])


def test_a_mirrored_direction_adds_no_readings() -> None:
    up, _ = synthetic_ramps(2.0, -2.0, pulses=40, cycle_noise=0.01, cycles=3)
    ramps = Ramps(np.arange(41), up)
    middle = ramps.mean[0] + ramps.mean[-1]
    mirrored = Measurement(ramps, Ramps(np.arange(41), middle - up), mirrored=True)
    (fit,) = fit_curves(mirrored, ["exponential"])
    assert fit.labels is not None
    assert fit.labels[0] == pytest.approx(-fit.labels[1], abs=0.02)
    assert fit.noise.cycle == pytest.approx(0.01, rel=0.15)


def test_csv_of_ramps_reads_back(tmp_path: Path) -> None:
    up, down = synthetic_ramps(1.0, -1.0, pulses=10, cycles=2)
    path = tmp_path / "ramps.csv"
    path.write_text(csv_of(up, down))
    found = read_measurement(path)
    np.testing.assert_allclose(found.up.conductances, up, rtol=1e-5)
    np.testing.assert_allclose(found.down.conductances, down, rtol=1e-5, atol=1e-6)
