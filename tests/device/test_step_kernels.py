"""Kernels for step models give what torch's operations give: exactly, or as random numbers."""

from __future__ import annotations

import copy
import math
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnist_exp.cpu.threads import cpu_threads
from mnist_exp.device import (
    ConstantStep,
    DeviceConstraint,
    DeviceSettings,
    ExpStep,
    LinearStep,
    PowStep,
    SoftBounds,
    StepModel,
    TableStep,
)
from mnist_exp.device.effects import draw_devices
from mnist_exp.device.programming import Programming, build_programming
from mnist_exp.device.random_source import RandomSource
from tests.helpers.device_nets import small_net
from tests.helpers.device_settings import device_settings
from tests.helpers.kernel_builds import COMPILED, using

pytestmark = pytest.mark.skipif(not COMPILED, reason="no compiled kernels on this machine")
D = 0.05
RANGE: dict[str, Any] = {"W_min": -0.8, "W_max": 1.2, "levels": 41, "bound_variation": 0.03}
NOISE: dict[str, Any] = {"cycle_spread": {"step": 0.3, "offset": 0.2}, "write_noise": 1.5}
MODELS: list[StepModel] = [
    ConstantStep(up_down=-0.3, device_spread={"step": 0.3, "up_down": 0.1}),
    LinearStep(
        gamma_up=0.3, gamma_down=0.5, origin=0.1,
        device_spread={"gamma_up": 0.3, "origin": 0.01, "offset": 0.1},
    ),
    SoftBounds(potentiation_only=True),
    SoftBounds(origin=0.1, device_spread={"origin": 0.02}),
    ExpStep(up_down=0.2, A_up=-1.2, gamma_up=5.0, device_spread={"A_down": 0.01, "b": 0.01}),
    PowStep(gamma_up=1.5, gamma_down=0.0, device_spread={"gamma_up": 0.1}),
]  # fmt: skip
MODEL_NAMES = [f"{type(model).__name__}{number}" for number, model in enumerate(MODELS)]


def programming(model: StepModel, count: int, rounding: str, **changes: Any) -> Programming:
    """Return an array's programming, the same one every time; it counts pulses."""
    settings = DeviceSettings(**RANGE | {"curve": model, "pulse_rounding": rounding} | changes)
    random = RandomSource(3, torch.device("cpu"))
    devices = draw_devices(settings, count, random)
    devices["written"] = torch.zeros(count, dtype=torch.int32)
    return build_programming(settings, devices, random)


def written(
    build: str, model: StepModel, before: Tensor, asked: Tensor, rounding: str, **changes: Any
) -> tuple[Tensor, Programming]:
    """Return the conductances after an update of ``asked`` pulses."""
    with using(build):
        array = programming(model, len(before), rounding, **changes)
        w = before + D * asked
        array(w, before)
    return w, array


def conductances(count: int) -> Tensor:
    return -0.9 + 2.2 * torch.rand(count, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("build", COMPILED)
@pytest.mark.parametrize("model", MODELS, ids=MODEL_NAMES)
@pytest.mark.parametrize(("count", "rounding"), [(3001, "nearest"), (21, "accumulate")])
def test_without_noise_pulses_are_those_of_torch(
    build: str, model: StepModel, count: int, rounding: str
) -> None:
    """Both directions, several pulses, within the devices' own bounds, an update that diverged."""
    before = conductances(count)
    asked = 4 * torch.randn(count, generator=torch.Generator().manual_seed(1))
    asked[::3] = 0.0
    asked[[5, 8, 11]] = torch.tensor([math.nan, math.inf, -1e9])
    changes = {"rate_variation": 0.2}
    found, kernel = written(build, model, before, asked, rounding, **changes)
    expected, torchs = written("torch", model, before, asked, rounding, **changes)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0, equal_nan=True)
    assert kernel.response.in_numbers() is not None, "torch would be compared with itself"
    assert found[5].isnan()
    assert kernel.counts is not None
    assert torchs.counts is not None
    assert kernel.counts.equal(torchs.counts)
    assert kernel.counts.max() == 40
    if kernel.remainder is not None and torchs.remainder is not None:
        assert torch.equal(kernel.remainder.nan_to_num(7), torchs.remainder.nan_to_num(7))


def distance(one: Tensor, other: Tensor) -> float:
    """Return the largest difference of two empirical distributions (Kolmogorov, Smirnov)."""
    both = torch.cat([one, other]).sort().values
    shares = [
        torch.searchsorted(x.sort().values, both, right=True).double() / len(x)
        for x in (one, other)
    ]
    return float((shares[0] - shares[1]).abs().max())


@pytest.mark.parametrize("build", COMPILED)
@pytest.mark.parametrize(
    ("model", "pulses", "rounding"),
    [
        (ConstantStep(cycle_spread={"step": 0.3}), 1.0, "nearest"),
        (SoftBounds(cycle_spread={"offset": 2.0}), -3.0, "nearest"),
        (LinearStep(gamma_up=0.5, **NOISE), 4.0, "nearest"),
        # whether a device gets a pulse tells nothing about the noise of the pulse
        (ConstantStep(cycle_spread={"step": 5.0}, write_noise=2.0), 0.3, "stochastic"),
        (ExpStep(A_up=-1.2, gamma_up=5.0, **NOISE), -2.6, "stochastic"),
    ],
)
def test_noise_has_the_distribution_of_torchs(
    build: str, model: StepModel, pulses: float, rounding: str
) -> None:
    count = 40_000
    before, asked = torch.full((count,), 0.3), torch.full((count,), pulses)
    found, expected = (
        (written(one, model, before, asked, rounding, bound_variation=0.0)[0] - before) / D
        for one in (build, "torch")
    )
    error = float(expected.std()) * math.sqrt(2 / count)
    assert abs(float(found.mean() - expected.mean())) < 4.5 * error
    assert float(found.std() / expected.std()) == pytest.approx(1, abs=0.03)
    # at equal distributions larger once in a million
    assert distance(found, expected) < 2.7 * math.sqrt(2 / count)
    moved = found[found != 0]
    neighbours = torch.corrcoef(torch.stack([moved[1:], moved[:-1]]))[0, 1]
    assert abs(float(neighbours)) < 4.5 / math.sqrt(len(moved))


@pytest.mark.parametrize("build", COMPILED)
def test_what_is_read_is_not_what_is_written(build: str) -> None:
    """Noise of writing does not add up, and devices without a pulse stay as they are."""
    count = 20_000
    with using(build):
        array = programming(ConstantStep(write_noise=2.0), count, "nearest", bound_variation=0.0)
        w = torch.zeros(count)
        for _ in range(3):
            before = w.clone()
            w += D * (torch.arange(count) % 2)
            array(w, before)
    assert not w[::2].any()
    noise = w[1::2] - 3 * D
    assert float(noise.std()) == pytest.approx(2 * D, rel=0.03)
    offset = array.response.drawn["write_offset"]  # type: ignore[attr-defined]
    torch.testing.assert_close(offset[1::2], noise, atol=1e-5, rtol=0)
    assert not offset[::2].any()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_has_devices_of_its_own(copied: Any) -> None:
    model = LinearStep(gamma_up=0.4, device_spread={"step": 0.3}, **NOISE)
    before = conductances(50)
    asked = before + 2 * D
    _, array = written(COMPILED[0], model, before, 2 + 0 * before, "nearest")
    twin = copied(array)
    found: list[Any] = []
    with using(COMPILED[0]):
        for one in (twin, array):
            w = asked.clone()
            one(w, before)
            offset = one.response.drawn["write_offset"]  # type: ignore[union-attr]
            found.append((w, offset, one.counts))
    assert all(map(torch.equal, *found))
    assert int(found[1][2].sum()) == 4 * 50


class Sampled:
    """A linear layer on devices that learns from single samples."""

    def __init__(self, inputs: int, outputs: int, **settings: Any) -> None:
        torch.manual_seed(0)
        self.layer = nn.Linear(inputs, outputs)
        options = {**RANGE, "apply_to": "sample", "bias": "constrained"} | settings
        self.constraint = DeviceConstraint(**device_settings("_ideal", **options))
        self.constraint.attach(self.layer, seed=0)
        parameters = self.layer.parameters()
        self.optimizer = torch.optim.SGD(parameters, lr=1.0)
        self.constraint.follow(self.optimizer)

        samples = self.constraint._samples
        assert samples is None or samples.programming.response.in_numbers() is not None

    def learn(self, inputs: Tensor, errors: Tensor) -> Tensor:
        """Make a step with the errors of the outputs; return all conductances."""
        self.optimizer.zero_grad()
        (self.layer(inputs) * errors).sum().backward()
        self.optimizer.step()
        self.constraint.step()
        return torch.cat([p.detach().flatten() for p in self.layer.parameters()])


def sparse(generator: torch.Generator, *shape: int) -> Tensor:
    values = torch.randn(*shape, generator=generator)
    return values * (torch.rand(*shape, generator=generator) < 0.4)


@pytest.mark.parametrize("build", COMPILED)
@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (MODELS[0], {"rate_variation": 0.2, "samples": 300}),
        (MODELS[1], {"mapping": "differential"}),
        (MODELS[2], {"mapping": "reference"}),
        (MODELS[4], {}),
    ],
)
def test_samples_get_the_pulses_of_torch_in_their_order(
    build: str, model: StepModel, changes: dict[str, Any]
) -> None:
    generator = torch.Generator().manual_seed(2)
    samples = changes.pop("samples", 30)
    inputs, errors = sparse(generator, samples, 21), 0.1 * sparse(generator, samples, 5)
    found = []
    for one in (build, "torch"):
        with using(one):
            array = Sampled(21, 5, curve=model, pulse_rounding="nearest", **changes)
            start = array.learn(inputs, 0 * errors)
            found.append(array.learn(inputs, errors))
    torch.testing.assert_close(*found, atol=3e-5, rtol=0)
    assert (found[0] - start).abs().mean() > D / 4


@pytest.mark.parametrize("build", COMPILED)
@pytest.mark.parametrize("pulses", [0.2, -1.3])
def test_every_sample_rounds_for_itself(build: str, pulses: float) -> None:
    """Of 150 samples asking for p pulses each, 150 p are given, as often as in a binomial."""
    with using(build):
        curve = ConstantStep()
        layer = Sampled(400, 40, curve=curve, levels=20001, W_min=-1.0, W_max=1.0,
                        bound_variation=0.0, pulse_rounding="stochastic")  # fmt: skip
        layer.layer.weight.data.zero_()
        layer.layer.bias.data.zero_()
        layer.constraint._keep_for_next_step()
        inputs, errors = torch.full((150, 400), 0.01), torch.full((150, 40), -0.01 * pulses)
        given = layer.learn(inputs, errors)[: 400 * 40] / 1e-4
    share = abs(pulses) % 1
    variance = 150 * share * (1 - share)
    assert float(given.mean()) == pytest.approx(150 * pulses, abs=4.5 * math.sqrt(variance / 16000))
    assert float(given.var()) == pytest.approx(variance, rel=0.05)
    torch.testing.assert_close(given, given.round(), atol=0.02, rtol=0)


@pytest.mark.parametrize("build", COMPILED)
def test_results_do_not_depend_on_the_number_of_threads(build: str) -> None:
    generator = torch.Generator().manual_seed(4)
    inputs, errors = sparse(generator, 40, 90), 0.1 * sparse(generator, 40, 70)
    found = []
    for threads in (1, 3):
        with using(build), cpu_threads(threads):
            settings = {"curve": LinearStep(gamma_up=0.4, **NOISE), "pulse_rounding": "stochastic"}
            of_samples = Sampled(90, 70, **settings).learn(inputs, errors)
            of_batch = Sampled(90, 70, **settings, apply_to="batch").learn(inputs, errors)
            found.append(torch.cat([of_samples, of_batch]))
    assert torch.equal(*found)


@dataclass(kw_only=True)
class DoubleStep(ConstantStep):
    """A model of a user's own, derived from one that has a kernel."""

    def shape(self, w: Tensor, up: bool, device: Any) -> Tensor:
        return 2 * torch.ones_like(w)


TABLE = TableStep(conductance=[-0.8, 1.2], up=[1.0, 0.5], down=[0.5, 1.0])


@pytest.mark.parametrize(
    "model", [DoubleStep(), TABLE, LinearStep(gamma_up=0.5, cycle_spread={"gamma_up": 0.1})]
)
def test_other_models_and_other_noise_stay_with_torch(model: StepModel) -> None:
    before, asked = torch.zeros(30), torch.ones(30)
    found, expected = (
        written(build, model, before, asked, "nearest")[0] for build in (COMPILED[0], "torch")
    )
    assert torch.equal(found, expected)
    assert not torch.equal(found, before)


def test_devices_loaded_from_a_checkpoint_are_the_ones_that_answer() -> None:
    """Those of another seed, after a step with their own numbers."""
    settings = {"curve": MODELS[1], "pulse_rounding": "nearest", **RANGE}
    models = [small_net(), small_net()]
    constraints = []
    for seed, model in enumerate(models):
        constraint = DeviceConstraint(**device_settings(**settings))
        constraint.attach(model, seed=seed)
        step(constraint)
        constraints.append(constraint)
    assert not torch.equal(constraints[0]._conductances, constraints[1]._conductances)
    models[1].load_state_dict(models[0].state_dict())
    constraints[1].load_state_dict(constraints[0].state_dict())
    for constraint in constraints:
        step(constraint)
    assert torch.equal(constraints[0]._conductances, constraints[1]._conductances)


def step(constraint: DeviceConstraint) -> None:
    """Ask every device for three pulses up."""
    constraint._conductances += 3 * D
    constraint.step()
