"""A user's effects in a step: their places, their state and random numbers, their mistakes."""

from __future__ import annotations

import copy
import io
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mnist_exp.device import DeviceConstraint, Effect
from mnist_exp.device.quantization import quantize_nearest, quantize_stochastic
from mnist_exp.device.random_source import RandomSource
from mnist_exp.device.retention import retain
from mnist_exp.errors import UserError
from mnist_exp.optim import AsymmetricSGD
from mnist_exp.schema.device_parts import PLACES
from tests.helpers.device_nets import FLAWS, SEED_LIMITS, attached, small_net, train_steps

ROUNDINGS = ("nearest", "stochastic", "accumulate", "straight_through")
NO_FLAWS = {"mapping": "differential", **SEED_LIMITS, "quantize": True}


class Nothing(Effect):
    """Changes nothing."""

    def __init__(self, place: str = "after_retention") -> None:
        self.place = place

    def __call__(self, w: Tensor, before: Tensor) -> None:
        assert w.shape == before.shape


class Watch(Nothing):
    """Keeps what it sees."""

    def __call__(self, w: Tensor, before: Tensor) -> None:
        self.seen, self.before = w.clone(), before.clone()


class Wander(Nothing):
    """A random walk whose steps grow: it has memory and draws random numbers."""

    steps = 0
    momentum: Tensor | None = None

    def __call__(self, w: Tensor, before: Tensor) -> None:
        draw = torch.randn(w.shape, generator=self.generator, device=w.device)
        self.steps += 1
        self.momentum = draw if self.momentum is None else 0.9 * self.momentum + draw
        w += 1e-3 * self.steps * self.momentum

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "momentum": self.momentum}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.steps, self.momentum = saved["steps"], saved["momentum"]


def trained(steps: int = 6, **settings: Any) -> tuple[Tensor, dict[str, Any], dict[str, float]]:
    """Train a small network; return its weights, the constraint's state and its diagnostics."""
    model = small_net()
    constraint = attached(model, **settings)
    optimizer = AsymmetricSGD(model.parameters(), lr_pos=0.1, lr_neg=0.12, momentum=0.9)
    train_steps(model, optimizer, constraint, steps)
    weights = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    return weights, constraint.state_dict(), constraint.diagnostics()


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == other)


@given(
    places=st.lists(st.sampled_from(PLACES), min_size=1, max_size=4),
    rounding=st.sampled_from((*ROUNDINGS, None)),
    mapping=st.sampled_from(["direct", "reference", "differential"]),
    retains=st.booleans(),
    flaws=st.booleans(),
)
def test_an_effect_that_does_nothing_changes_no_bit(
    places: list[str], rounding: str | None, mapping: str, retains: bool, flaws: bool
) -> None:
    settings = {**(FLAWS if flaws else NO_FLAWS), "mapping": mapping, "quantize": bool(rounding)}
    settings |= {"rounding": rounding or "stochastic", "retain": retains, "retention": 1e-3}
    if rounding == "straight_through":
        settings["bound_variation"] = 0.0
    fused = rounding in ("nearest", "stochastic") and retains and "after_retention" in places
    steps = 1 if fused else 6
    weights, state, figures = trained(steps, **settings)
    ours, with_effects, counted = trained(
        steps, **settings, effects=[Nothing(place) for place in places]
    )
    assert same(state["random"], with_effects["random"])
    assert same(state["devices"], with_effects["devices"])
    if fused:  # two passes instead of one: a tie may go to the other level
        assert ((ours - weights).abs() > 1e-5).float().mean() < 0.01
    else:
        assert torch.equal(ours, weights)
        assert counted == figures


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_an_effect_after_retention_stands_between_drift_and_rounding(rounding: str) -> None:
    limits = {**SEED_LIMITS, "quantize": True, "rounding": rounding}
    layer = nn.Linear(40, 50, bias=False)
    layer.weight.data.uniform_(0.1, 0.5, generator=torch.Generator().manual_seed(0))
    asked = layer.weight.detach().reshape(-1).clone()
    watch = Watch()
    attached(layer, **limits, retain=True, retention=0.2, effects=[watch]).step()
    drifted = retain(asked, 0.2, 0.1)
    assert torch.equal(watch.seen, drifted)
    uniform = RandomSource(0, torch.device("cpu")).uniform(len(asked))
    expected = (
        quantize_nearest(drifted, **SEED_LIMITS)
        if rounding == "nearest"
        else quantize_stochastic(drifted, uniform, **SEED_LIMITS)
    )
    torch.testing.assert_close(layer.weight.detach().reshape(-1), expected, atol=1e-6, rtol=0)


def test_each_place_sees_what_the_step_made_so_far() -> None:
    """Start 0.5, asked 0.8: whole pulses of 0.25 make 0.75, drift 0.6, rounding 0.5."""
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data.fill_(0.5)
    watches = [Watch(place) for place in reversed(PLACES)]  # the list's order is not the step's
    constraint = attached(
        layer, W_min=0.0, W_max=1.0, levels=5, quantize=True, rounding="nearest", retain=True,
        retention=0.2, pulse_rounding="nearest", stuck_at_max=0.5, effects=watches,
    )  # fmt: skip
    layer.weight.data.add_(0.3)
    constraint.step()
    seen = {watch.place: watch.seen.tolist() for watch in watches}
    expected = {"before_update": 0.8, "after_update": 0.75, "after_retention": 0.6}
    for place, value in (expected | {"after_rounding": 0.5}).items():
        assert seen[place] == pytest.approx([value, value]), place
    assert all(watch.before.tolist() == [0.5, 0.5] for watch in watches)
    assert sorted(layer.weight.flatten().tolist()) == [0.5, 1.0]  # one device is stuck


def test_effects_of_a_place_act_in_the_order_given() -> None:
    def doubled(w: Tensor, before: Tensor) -> None:
        w *= 2

    def raised(w: Tensor, before: Tensor) -> Tensor:
        return w.add_(1)  # the same tensor: changed in place

    layer = nn.Linear(1, 1, bias=False)
    for effects, expected in (([doubled, raised], 3.0), ([raised, doubled], 4.0)):
        layer.weight.data.fill_(1.0)
        attached(layer, clip=False, effects=effects).step()
        assert layer.weight.item() == expected


def test_before_is_what_the_last_step_left_and_stuck_devices_stay_stuck() -> None:
    class Erase(Effect):
        place = "after_rounding"

        def __call__(self, w: Tensor, before: Tensor) -> None:
            assert torch.equal(before, expected)
            w.zero_()

    layer = nn.Linear(10, 10, bias=False)
    layer.weight.data.fill_(0.25)
    constraint = attached(layer, stuck_at_max=0.5, effects=[Erase()])
    expected = torch.full((100,), 0.25)
    for _ in range(3):
        constraint.step()
        expected = layer.weight.detach().reshape(-1).clone()
        assert expected.sum() == 50
        layer.weight.data.add_(0.5)


def test_initial_programming_runs_no_effect() -> None:
    class Never(Effect):
        def __call__(self, w: Tensor, before: Tensor) -> None:
            raise AssertionError

    plain, ours = small_net(), small_net()
    attached(plain, **NO_FLAWS)
    attached(ours, **NO_FLAWS, effects=[Never()])
    assert all(map(torch.equal, plain.parameters(), ours.parameters()))


def test_a_mask_on_the_update_is_not_counted_as_rounded_away() -> None:
    class Freeze(Effect):
        place = "before_update"

        def __call__(self, w: Tensor, before: Tensor) -> None:
            w[: len(w) // 2] = before[: len(w) // 2]

    layer = nn.Linear(10, 10, bias=False)
    layer.weight.data.fill_(0.1)
    limits = {**SEED_LIMITS, "quantize": True, "rounding": "nearest"}
    constraint = attached(layer, **limits, effects=[Freeze()])
    layer.weight.data.add_(0.2)
    constraint.step()
    assert constraint.diagnostics()["share_rounded_away"] == 0


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_an_effect_with_state_goes_on_bit_by_bit(place: str, rounding: str) -> None:
    settings = FLAWS | {"rounding": rounding, "bound_variation": 0.0}

    def start(seed: int) -> tuple[nn.Sequential, DeviceConstraint, AsymmetricSGD]:
        model = small_net(seed)
        constraint = DeviceConstraint(**settings, effects=[Wander(place), Nothing()])
        constraint.attach(model, seed=seed)
        optimizer = AsymmetricSGD(model.parameters(), lr_pos=0.1, lr_neg=0.1, momentum=0.9)
        return model, constraint, optimizer

    model, constraint, optimizer = start(3)
    train_steps(model, optimizer, constraint, 5)
    file = io.BytesIO()
    torch.save([part.state_dict() for part in (model, constraint, optimizer)], file)
    train_steps(model, optimizer, constraint, 5, seed=1)
    file.seek(0)
    other, resumed, its_optimizer = start(8)
    of_model, of_constraint, of_optimizer = torch.load(file, weights_only=True)
    other.load_state_dict(of_model)
    resumed.load_state_dict(of_constraint)
    its_optimizer.load_state_dict(of_optimizer)
    train_steps(other, its_optimizer, resumed, 5, seed=1)
    assert all(map(torch.equal, model.parameters(), other.parameters()))
    assert resumed.diagnostics() == constraint.diagnostics()


def test_states_of_other_effects_are_refused() -> None:
    _, state, _ = trained(1, **NO_FLAWS, effects=[Wander()])
    with pytest.raises(UserError, match=r"constraint\.effects: the saved state has 1 effects"):
        attached(small_net(), **NO_FLAWS).load_state_dict(state)


def test_a_state_without_effects_is_that_of_version_0_1() -> None:
    _, state, _ = trained(1, **NO_FLAWS)
    assert set(state) == {"random", "devices", "before", "tally", "until_sample"}


def test_random_numbers_are_the_runs_and_each_effects_own() -> None:
    def numbers(seed: int) -> list[Tensor]:
        effects = [Nothing(), Nothing()]
        constraint = DeviceConstraint(effects=effects)
        model, before = small_net(), torch.get_rng_state()
        constraint.attach(model, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        return [torch.rand(4, generator=effect.generator) for effect in effects]

    first, second = numbers(0)
    assert torch.equal(first, numbers(0)[0])
    assert not torch.equal(first, second)
    assert not torch.equal(first, numbers(1)[0])
    devices = RandomSource(0, torch.device("cpu")).uniform(4)
    assert not torch.equal(first, devices)


def scale(w: Tensor, before: Tensor, factor: float) -> None:
    """Scale the conductances: a function is an effect too."""
    w *= factor


class Broken(Effect):
    """Raises an error in its second step."""

    count = 0

    def __call__(self, w: Tensor, before: Tensor) -> None:
        self.count += 1
        return {1: None}[self.count]


def test_a_function_with_arguments_is_an_effect_too() -> None:
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(0.25)
    effect: Any = partial(scale, factor=2.0)
    attached(layer, effects=[effect]).step()
    assert layer.weight.item() == 0.5


@pytest.mark.parametrize(
    ("effects", "words"),
    [
        (Nothing(), "constraint.effects=.*: allowed is a list of effects"),
        ([3], r"constraint\.effects\[0\]: int is not an effect; give an object"),
        ([Nothing(), Broken], r"effects\[1\]: .*test_added_effects\.Broken is not an effect"),
        ([Nothing("late")], r"constraint\.effects\[0\]\.place=late: allowed is before_update or"),
    ],
)
def test_what_is_no_effect_is_refused(effects: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        DeviceConstraint(effects=effects)


def test_an_error_inside_an_effect_names_it() -> None:
    constraint = attached(small_net(), effects=[Nothing(), Broken()])
    constraint.step()
    with pytest.raises(RuntimeError) as raised:
        constraint.step()
    module = __name__
    assert str(raised.value) == f"constraint.effects[1] ({module}.Broken): KeyError: 2"
    assert isinstance(raised.value.__cause__, KeyError)

    def refuses(w: Tensor, before: Tensor) -> None:
        raise UserError("too cold")

    effect: Any = refuses
    with pytest.raises(UserError, match=r"^constraint\.effects\[0\] \(.*refuses\): too cold"):
        attached(small_net(), effects=[effect]).step()


def test_conductances_that_are_returned_instead_of_changed_are_refused() -> None:
    effect: Any = lambda w, before: w * 2  # noqa: E731
    with pytest.raises(UserError, match=r"returns a tensor, .*\. Change w in place"):
        attached(small_net(), effects=[effect]).step()


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (
            {"a": [1, {"b": torch.Generator()}]},
            r"state_dict\(\)\['a'\]\[1\]\['b'\] is of type torch",
        ),
        ({"rate": torch.tensor(1.0).numpy()}, r"state_dict\(\)\['rate'\] is of type numpy.ndarray"),
        ([1], r"state_dict\(\) must return a dict"),
    ],
)
def test_a_state_that_no_checkpoint_can_hold_is_refused_before_training(
    state: Any, words: str
) -> None:
    class Keeps(Nothing):
        def state_dict(self) -> dict[str, Any]:
            return state

    with pytest.raises(UserError, match=r"constraint\.effects\[0\] .*" + words):
        attached(small_net(), effects=[Keeps()])


def test_an_effect_that_was_used_can_be_copied_and_used_again() -> None:
    effect = Wander()
    first, _, _ = trained(3, **NO_FLAWS, effects=[copy.deepcopy(effect)])
    again, _, _ = trained(3, **NO_FLAWS, effects=[copy.deepcopy(effect)])
    assert torch.equal(first, again)
    assert effect.steps == 0
