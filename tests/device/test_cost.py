"""Pulses, reads and conversions against slow, obvious counts; counting changes nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnist_exp.device import (
    ArrayReading,
    ConstantStep,
    Cost,
    DeviceConstraint,
    LinearStep,
    Reading,
    ThresholdedWrites,
    TikiTaka,
    TikiTakaV2,
)
from mnist_exp.device.read_counts import Reads
from mnist_exp.device.reads import reads_of_a_sample
from mnist_exp.device.write_counter import pulses_counted
from mnist_exp.errors import UserError
from tests.helpers.device_nets import FLAWS, attached, small_net, train_steps
from tests.helpers.device_settings import device_settings
from tests.helpers.kernel_builds import COMPILED, using

LEVELS = 21
D = 2 / (LEVELS - 1)  # bounds -1 and 1
ROWS, COLUMNS, STEPS = 4, 6, 12
PULSED: dict[str, Any] = {"levels": LEVELS, "pulse_rounding": "nearest"}


def on_devices(**changes: Any) -> tuple[nn.Linear, DeviceConstraint]:
    """Return a layer whose weights start at 0 on devices."""
    layer = nn.Linear(COLUMNS, ROWS)
    layer.weight.data.zero_()
    return layer, attached(layer, **{"cost": Cost(), **changes})


def updates(scale: float = 0.2) -> list[Tensor]:
    """Return updates of every weight, a third of them 0."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(STEPS, ROWS, COLUMNS, generator=generator) * scale
    return [draw * (torch.rand(draw.shape, generator=generator) > 1 / 3) for draw in draws]


def counts(constraint: DeviceConstraint) -> list[int]:
    found: list[int] = pulses_counted(constraint._devices).tolist()
    return found


def trained(
    layer: nn.Linear, constraint: DeviceConstraint, scale: float = 0.2
) -> list[list[float]]:
    """Make the updates; return the weights after each, the initial ones first."""
    weights = [layer.weight.detach().flatten().tolist()]
    for update in updates():
        layer.weight.data += update
        constraint.step()
        weights.append(layer.weight.detach().flatten().tolist())
    return weights


@pytest.mark.parametrize("rounding", ["nearest", "accumulate"])
@pytest.mark.parametrize(
    "curve", ["exponential", ConstantStep(), ConstantStep(potentiation_only=True)]
)
def test_whole_pulses_are_counted_as_given(rounding: str, curve: Any) -> None:
    layer, constraint = on_devices(**(PULSED | {"pulse_rounding": rounding, "curve": curve}))
    given, kept = [0] * layer.weight.numel(), [0.0] * layer.weight.numel()
    weights = [layer.weight.detach().flatten().tolist()]
    for update in updates():
        layer.weight.data += update
        asked = layer.weight.detach().flatten().tolist()
        constraint.step()
        for device, (to, start) in enumerate(zip(asked, weights[-1], strict=True)):
            pulses = (to - start) / D
            if rounding == "accumulate":
                kept[device] += pulses
                pulses = int(kept[device])
                kept[device] -= pulses
            else:
                pulses = round(pulses)
            up_only = curve != "exponential" and curve.potentiation_only
            given[device] += max(pulses, 0) if up_only else abs(pulses)
        weights.append(layer.weight.detach().flatten().tolist())
    assert counts(constraint) == given
    assert max(given) > 10


def test_a_step_model_gives_no_more_pulses_a_step_than_span_the_range() -> None:
    layer, constraint = on_devices(**PULSED, curve=ConstantStep())
    layer.weight.data[0, 0] = 1000.0
    constraint.step()
    assert counts(constraint) == [LEVELS - 1] + [0] * (layer.weight.numel() - 1)


@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "accumulate"])
@pytest.mark.parametrize("bound_variation", [0.0, 0.1])
def test_on_levels_a_pulse_is_a_level_of_a_device_asked_to_change(
    rounding: str, bound_variation: float
) -> None:
    layer, constraint = on_devices(
        quantize=True, levels=LEVELS, rounding=rounding, bound_variation=bound_variation,
        retain=True, retention=0.02,
    )  # fmt: skip
    constraint.step()  # onto the levels of each device
    already = counts(constraint)
    assert sum(already) == 0  # nothing was asked for
    own = constraint._devices
    step = [D] * layer.weight.numel()
    if bound_variation:
        step = ((own["W_max"] - own["W_min"]) / (LEVELS - 1)).tolist()
    given = already
    weights = trained(layer, constraint)
    for number, update in enumerate(updates()):
        for device, asked in enumerate(update.flatten().tolist()):
            if asked != 0:
                moved = weights[number + 1][device] - weights[number][device]
                given[device] += round(abs(moved) / step[device])
    assert counts(constraint) == given
    assert max(given) > 5


def test_straight_through_counts_the_levels_that_the_network_reads() -> None:
    layer, constraint = on_devices(quantize=True, levels=LEVELS, rounding="straight_through")
    (master,) = constraint._parameters
    given = [0] * master.numel()
    for update in updates(0.05):
        before = layer.weight.detach().flatten().tolist()
        master.data += update
        constraint.step()
        after = layer.weight.detach().flatten().tolist()
        given = [
            n + round(abs(to - start) / D)
            for n, to, start in zip(given, after, before, strict=True)
        ]
    assert counts(constraint) == given
    assert max(given) > 1


def test_a_continuous_device_takes_one_pulse_a_step_in_which_it_is_asked_to_change() -> None:
    layer, constraint = on_devices(retain=True, retention=0.1)  # drift is no pulse
    trained(layer, constraint)
    asked = [(update != 0).flatten().int() for update in updates()]
    assert counts(constraint) == torch.stack(asked).sum(0).tolist()


def test_pulses_to_stuck_devices_count() -> None:
    for settings in (PULSED, {"quantize": True, "levels": LEVELS, "rounding": "nearest"}):
        layer, constraint = on_devices(**settings, stuck_at_min=0.5)
        start = layer.weight.detach().clone()
        constraint.step()
        stuck = (layer.weight.detach() == -1.0).flatten()
        assert int(stuck.sum()) == layer.weight.numel() // 2
        before = torch.tensor(counts(constraint))
        layer.weight.data += 3.2 * D
        constraint.step()
        assert (torch.tensor(counts(constraint)) - before).tolist() == [3] * start.numel()


def test_writes_below_a_threshold_take_no_pulse() -> None:
    scheme = ThresholdedWrites(threshold=2.0, keep=False)
    layer, constraint = on_devices(**PULSED, update=scheme)
    given = [0] * layer.weight.numel()
    for update in updates():
        before = layer.weight.detach().flatten().tolist()
        layer.weight.data += update
        asked = layer.weight.detach().flatten().tolist()
        constraint.step()
        for device, (to, start) in enumerate(zip(asked, before, strict=True)):
            pulses = (to - start) / D
            given[device] += round(abs(pulses)) if abs(pulses) >= 2 else 0
    assert counts(constraint) == given
    assert sum(given) > 0


def test_both_arrays_of_tiki_taka_count_and_so_do_its_transfers() -> None:
    scheme = TikiTaka(every=4, columns=5, fast_rate=1.0, rate=1.0)
    layer, constraint = on_devices(**PULSED, update=scheme)
    A = [0.0] * layer.weight.numel()
    given = [[0] * layer.weight.numel() for _ in range(2)]  # of C, of A
    first = 0
    for number, update in enumerate(updates(), start=1):
        layer.weight.data += update
        constraint.step()
        for device, asked in enumerate(update.flatten().tolist()):
            pulses = round(asked / D)
            given[1][device] += abs(pulses)
            A[device] = max(-1.0, min(1.0, A[device] + pulses * D))
        if number % 4 == 0:
            for column in (c % COLUMNS for c in range(first, first + 5)):
                for device in range(column, len(A), COLUMNS):
                    given[0][device] += round(abs(A[device]) / D)
            first += 5
    assert counts(constraint) == [*given[0], *given[1]]
    transfers = STEPS // 4
    costs = constraint.costs()
    assert costs["reads_transfer"] == transfers * 5
    assert costs["conversions"] == transfers * 5 * ROWS
    assert costs["pulses_mean"] == sum(map(sum, given)) / (2 * layer.weight.numel())


CASES: dict[str, dict[str, Any]] = {
    "flaws": FLAWS,
    "levels": FLAWS | {"pulse_rounding": "none", "rounding": "stochastic"},
    "reference": FLAWS | {"mapping": "reference", "quantize": False},
    "direct": {"retain": True, "retention": 0.01},
    "rounding": {"quantize": True, "rounding": "stochastic", "diagnose_every": 2},
    "straight_through": {"quantize": True, "rounding": "straight_through"},
    "tiki_taka": FLAWS | {"update": TikiTakaV2(columns=3, flip_probability=0.3)},
    "thresholded": FLAWS | {"update": ThresholdedWrites(probability=0.5)},
}


@pytest.mark.parametrize("case", CASES)
def test_counting_changes_nothing_and_resumes_with_the_same_numbers(case: str) -> None:
    nets = [small_net() for _ in range(3)]
    settings = CASES[case]
    off, on = attached(nets[0], **settings), attached(nets[1], **settings, cost=Cost(endurance=1e3))
    for net, constraint in zip(nets, (off, on), strict=False):
        train_steps(net, torch.optim.SGD(net.parameters(), lr=0.1), constraint, 6)
    state = copy.deepcopy(on.state_dict())
    resumed = attached(nets[2], **settings, cost=Cost(endurance=1e3))
    nets[2].load_state_dict(nets[1].state_dict())
    resumed.load_state_dict(
        {**state, "devices": {n: t.clone() for n, t in state["devices"].items()}}
    )
    for net, constraint in zip(nets, (off, on, resumed), strict=True):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        train_steps(net, optimizer, constraint, 6, seed=1)
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(one, other)
    assert on.costs() == resumed.costs()
    assert on.costs()["pulses"] > 0
    assert off.costs() == {}
    assert off.diagnostics() == on.diagnostics()


@pytest.mark.parametrize("build", ["torch", *COMPILED])
@pytest.mark.parametrize(("stuck", "keeps"), [(0.0, True), (0.2, False)])
def test_rounding_keeps_the_conductances_if_nothing_comes_after_it(
    build: str, stuck: float, keeps: bool
) -> None:
    net = small_net()
    with using(build):
        constraint = attached(net, quantize=True, cost=Cost(), stuck_at_min=stuck)
        assert constraint._rounding_keeps == keeps
        train_steps(net, torch.optim.SGD(net.parameters(), lr=0.1), constraint, 5)
        assert constraint._before is not None
        assert constraint._before.equal(constraint._conductances)


def test_counts_are_exact_beyond_what_float32_holds() -> None:
    layer, constraint = on_devices(levels=2**20 + 1, pulse_rounding="nearest")
    for sign in (1, -1) * 32:
        layer.weight.data += sign * 0.5
        constraint.step()
    layer.weight.data += 2**-19  # one pulse
    constraint.step()
    assert counts(constraint) == [2**24 + 1] * layer.weight.numel()


def test_figures_are_counts_and_sums_of_counts_times_constants() -> None:
    cost = Cost(endurance=10.0, energy_per_pulse=2.0, energy_per_read=0.5, time_per_conversion=3.0)
    reads = {"forward": Reads(4, 40), "backward": Reads(1, 10)}
    assert cost.figures(torch.tensor([0, 1, 5, 0]), reads) == {
        "pulses": 6, "pulses_mean": 1.5, "pulses_max": 5, "share_written": 0.5,
        "reads_forward": 4, "reads_backward": 1, "conversions": 50,
        "endurance_used_mean": 0.15, "endurance_used_max": 0.5,
        "energy_estimate": 2.0 * 6 + 0.5 * 5, "time_estimate": 3.0 * 50,
    }  # fmt: skip
    assert not {n for n in Cost().figures(torch.ones(1).long(), {}) if "estimate" in n}


def test_reads_are_products_of_an_array_with_one_vector() -> None:
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3, groups=2),  # 5x5 to 3x3
        nn.ConvTranspose2d(6, 4, 2, stride=2),  # 3x3 to 6x6
        nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3),
    )  # fmt: skip
    norm = net[2]
    assert isinstance(norm, nn.BatchNorm2d)
    constraint = attached(net, mapping="differential", cost=Cost())
    forward, backward = reads_of_a_sample(net, constraint.layers, torch.randn(1, 2, 5, 5))
    after_first = Reads(9, 9 * (6 + 4 * 4)) + Reads(1, 144 + 3)
    assert forward == Reads(9 * 2, 9 * (2 * 9 + 6)) + after_first
    assert backward == after_first  # nothing is trained before the first layer
    assert net.training
    assert norm.num_batches_tracked == 0  # nothing was learned from the sample


class Counted(ArrayReading):
    """A reading that counts what goes through its converters."""

    def drive(self, inputs: Tensor) -> Any:
        conversions.append(inputs.numel())
        return super().drive(inputs)

    def convert(self, currents: Tensor, rows: int) -> Tensor:
        conversions.append(currents.numel())
        return super().convert(currents, rows)


conversions: list[int] = []


@pytest.mark.parametrize("tiles", [{}, {"tile_rows": 5, "tile_columns": 2}])
def test_what_tiles_read_is_converted_by_each(tiles: dict[str, Any]) -> None:
    net = nn.Sequential(nn.Conv2d(2, 6, 3, groups=2), nn.Flatten(), nn.Linear(54, 7))
    constraint = attached(net, read=Counted(in_backward=True, **tiles), cost=Cost())
    sample = torch.randn(1, 2, 5, 5)
    expected = reads_of_a_sample(net, constraint.layers, sample)
    conversions.clear()
    output = net(sample)
    assert sum(conversions) == expected[0].conversions
    conversions.clear()
    output.sum().backward()
    assert sum(conversions) == 7 + 54 * (4 if tiles else 1)  # 7 outputs are 4 tiles of 2 columns


def test_a_shared_weight_is_read_by_every_layer_that_uses_it() -> None:
    net = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
    net[1].weight = net[0].weight
    constraint = attached(net, cost=Cost())
    assert reads_of_a_sample(net, constraint.layers, torch.randn(1, 5))[0] == Reads(2, 20)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("endurance", 0, "null or a number, above 0"),
        ("energy_per_pulse", -1e-12, "null or a number, at least 0"),
        ("time_per_read", float("nan"), "null or a number, at least 0"),
    ],
)
def test_a_bad_constant_is_refused(key: str, value: float, allowed: str) -> None:
    with pytest.raises(UserError) as refused:
        Cost(**{key: value})
    assert str(refused.value) == f"constraint.cost.{key}={value}: allowed is {allowed}"


class Naming(nn.Module):
    """A network that gives its layer the inputs by name, as torch allows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.layer(input=x)
        return outputs


@pytest.mark.parametrize("read", [None, ArrayReading(output_noise=0.0)])
def test_inputs_given_by_name_are_seen(read: Reading | None) -> None:
    """By what counts reads, what reads the product, and what writes samples."""
    settings: dict[str, Any] = {"curve": LinearStep(), "pulse_rounding": "nearest", "read": read}
    model = Naming()
    constraint = DeviceConstraint(**device_settings(apply_to="sample", **settings))
    constraint.attach(model, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    constraint.follow(optimizer)
    model(torch.ones(3, 6)).sum().backward()
    before = model.layer.weight.clone()
    optimizer.step()
    constraint.step()
    assert model.layer.weight.lt(before).all()
    counted = reads_of_a_sample(model, constraint.layers, torch.ones(1, 6))
    assert counted == (Reads(1, 10), Reads())
