"""Programming, drift and read noise of single devices, against their formulas one by one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor

from mnist_exp.device.programmed import (
    ExponentialRetention,
    PowerLawDrift,
    ProgrammingError,
    ReadNoise,
    WriteVerify,
)
from mnist_exp.errors import UserError

DAY = 86_400.0
LEVELS = (0.0, 0.001, 0.1, 0.5, 1.0)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def many(g: float, count: int = 40_000) -> Tensor:
    return torch.full((count,), g)


def clamped(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


@pytest.mark.parametrize("g", LEVELS)
def test_a_write_of_pcm_has_the_published_error(g: float) -> None:
    written = ProgrammingError()(many(g), seeded())
    sigma = (0.26348 + 1.9650 * g - 1.1731 * g**2) / 25
    assert ProgrammingError().deviation(many(g, 1)).item() == pytest.approx(sigma, rel=1e-5)
    assert written.min() >= 0
    if g > 5 * sigma:  # none is cut off at 0
        assert written.mean().item() == pytest.approx(g, abs=0.02 * sigma)
        assert written.std().item() == pytest.approx(sigma, rel=0.02)


def test_write_verify_writes_again_only_what_is_off_and_stops_after_its_iterations() -> None:
    target = many(0.5)
    errors = [(WriteVerify(n, 0.02)(target, seeded()) - target).abs() > 0.02 for n in (1, 2, 4, 30)]
    once = ProgrammingError()(target, seeded())
    assert WriteVerify(1, 0.02)(target, seeded()).equal(once)
    share = errors[0].float().mean().item()  # each write misses as often as the first
    for number, off in zip((1, 2, 4), errors, strict=False):
        assert off.float().mean().item() == pytest.approx(share**number, rel=0.06)
    assert not errors[3].any()
    kept = (once - target).abs() <= 0.02
    again = WriteVerify(2, 0.02)(target, seeded())
    assert again[kept].equal(once[kept])


@pytest.mark.parametrize("g", LEVELS)
@pytest.mark.parametrize("seconds", [1.0, DAY, 365 * DAY])
def test_pcm_drifts_as_published(g: float, seconds: float) -> None:
    programmed, target = many(max(g, 0.01)), many(g)
    course = PowerLawDrift().start(programmed, target, seeded())
    logarithm = math.log(max(g, 1e-7))
    mean = clamped(-0.0155 * logarithm + 0.0244, 0.049, 0.1)
    spread = clamped(-0.0125 * logarithm - 0.0059, 0.008, 0.045)
    nu = -(course(seconds) / programmed).log() / math.log((seconds + 20) / 20)
    assert nu.median().item() == pytest.approx(mean, abs=0.02 * spread + 1e-4)
    upper = nu[nu > mean] - mean  # the lower half ends at 0
    assert upper.square().mean().sqrt().item() == pytest.approx(spread, rel=0.03)
    assert nu.min() >= 0
    assert course(seconds).equal(course(seconds))  # nu is drawn once


def test_a_constant_nu_is_the_power_law_alone() -> None:
    g = torch.tensor([0.2, 1.0])
    course = PowerLawDrift(t0=2.0, nu_mean=0.1, nu_spread=0.0).start(g, g, seeded())
    expected = [value * ((6 + 2) / 2) ** -0.1 for value in (0.2, 1.0)]
    assert course(6).tolist() == pytest.approx(expected)
    assert course(0).tolist() == pytest.approx([0.2, 1.0])


def test_exponential_retention_ends_at_its_target() -> None:
    g = torch.tensor([0.2, 1.0])
    course = ExponentialRetention(tau=10.0, target=0.5).start(g, g, seeded())
    assert course(7).tolist() == pytest.approx(
        [0.5 + (value - 0.5) * math.exp(-0.7) for value in (0.2, 1.0)]
    )
    assert course(1e4).tolist() == pytest.approx([0.5, 0.5])


def test_the_median_device_keeps_the_time_constant() -> None:
    g = many(1.0)
    course = ExponentialRetention(tau=10.0, tau_spread=1.0).start(g, g, seeded())
    tau = -3.0 / course(3.0).log()
    assert tau.median().item() == pytest.approx(10, rel=0.03)
    assert tau.log().std().item() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("g", [0.003, 0.1, 1.0])
@pytest.mark.parametrize("seconds", [0.0, DAY])
def test_read_noise_grows_with_the_logarithm_of_time(g: float, seconds: float) -> None:
    programmed = many(g)
    now = programmed * 0.8
    read = ReadNoise(white=0.001)(now, programmed, seconds, seeded())
    quality = min(0.0088 / g**0.65, 0.2)
    grown = math.log((seconds + 20 + 250e-9) / (2 * 250e-9))
    sigma = math.hypot(0.001, 0.8 * g * quality * math.sqrt(grown))
    above = read[read > 0.8 * g] - 0.8 * g  # the lower half may end at 0
    assert above.square().mean().sqrt().item() == pytest.approx(sigma, rel=0.03)
    assert now.equal(programmed * 0.8)
    assert read.min() >= 0


def test_a_device_at_zero_has_no_flicker_noise() -> None:
    zero = torch.zeros(3)
    for flicker in (0.0088, 0.0):
        assert ReadNoise(flicker=flicker)(zero, zero, 1.0, seeded()).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: ProgrammingError(sigma=[]), "evaluation.programming.sigma=[]"),
        (lambda: WriteVerify(iterations=0), "evaluation.programming.iterations=0"),
        (lambda: PowerLawDrift(t0=0), "evaluation.drift.t0=0"),
        (lambda: PowerLawDrift(nu_mean=[1, 2, 3]), "evaluation.drift.nu_mean="),
        (lambda: PowerLawDrift(nu_mean=[1, 0, 0.2, 0.1]), "evaluation.drift.nu_mean="),
        (lambda: ExponentialRetention(tau=-1), "evaluation.drift.tau=-1"),
        (lambda: ReadNoise(white=-0.1), "evaluation.noise.white=-0.1"),
    ],
)
def test_settings_out_of_range_are_named(make: object, key: str) -> None:
    with pytest.raises(UserError, match=key.replace("[", r"\[").replace("]", r"\]")):
        make()  # type: ignore[operator]
