"""Networks on devices after training, against weights computed one by one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mnist_exp.device.programmed import DeviceEvaluation, PowerLawDrift, ProgrammedNetwork
from mnist_exp.device.programmed.arrays import (
    IN_PAIRS,
    as_trained,
    holds_physical_devices,
    in_pairs,
)
from mnist_exp.device.programmed.batch_norm import reestimate_batch_norm
from mnist_exp.device.reading.array_reading import ArrayReading
from mnist_exp.device.reading.layers import reading_on
from mnist_exp.errors import UserError
from mnist_exp.experiment.device_evaluation import held_by_devices
from mnist_exp.models import CNN20k
from mnist_exp.models.effective_copy import effective_copy
from mnist_exp.models.parametrizations import parametrizations
from tests.helpers.device_nets import SEED_LIMITS, attached, first_layer, small_net, train_steps

HALVING = PowerLawDrift(t0=1.0, nu_mean=1.0, nu_spread=0.0)  # at 1 s half is left


def programmed(net: nn.Module, new: bool = True, **settings: object) -> ProgrammedNetwork:
    """Program a network, on pairs, once."""
    evaluation = DeviceEvaluation(**settings)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    devices = ProgrammedNetwork(net, in_pairs(net), evaluation, new, generator)
    devices.program()
    return devices


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.named_parameters()}


def test_ideal_devices_hold_the_weights() -> None:
    net = small_net()
    before = weights(net)
    programmed(net).age(1e9)
    for name, value in weights(net).items():
        assert value.allclose(before[name], atol=1e-7)


def test_a_pair_has_one_device_at_zero_and_the_largest_weight_at_g_max() -> None:
    net = small_net()
    for array in in_pairs(net):
        weight = net.get_parameter(array.name)
        scale = weight.abs().max().item()
        for w, plus, minus in zip(
            weight.flatten().tolist(), *(g.flatten().tolist() for g in array.targets), strict=True
        ):
            assert (plus, minus) == pytest.approx((max(w, 0) / scale, max(-w, 0) / scale))
        assert max(g.max().item() for g in array.targets) == 1


def test_drift_without_and_with_compensation() -> None:
    net = small_net()
    before = weights(net)
    programmed(net, drift=HALVING).age(1.0)
    for name, value in weights(net).items():
        factor = 0.5 if name.endswith("weight") else 1.0  # biases are digital
        assert value.allclose(factor * before[name])
    net = small_net()
    programmed(net, drift=HALVING, compensation="global").age(1.0)
    for name, value in weights(net).items():
        assert value.allclose(before[name], atol=1e-6)


def test_one_factor_a_layer_makes_up_for_what_the_sum_lost() -> None:
    spread = PowerLawDrift(t0=1.0, nu_mean=0.5, nu_spread=0.3)
    nets = [small_net(), small_net()]
    for net, compensation in zip(nets, ("none", "global"), strict=True):
        programmed(net, drift=spread, compensation=compensation).age(100.0)
    for name in ("1.weight", "3.weight"):
        original = small_net().get_parameter(name).abs().sum()
        plain, made_up = (net.get_parameter(name) for net in nets)
        assert made_up.allclose(plain * (original / plain.abs().sum()))
        assert made_up.abs().sum().item() == pytest.approx(original.item(), rel=1e-5)


def test_stuck_devices_stay_where_they_are() -> None:
    layer = nn.Linear(200, 200)
    net = nn.Sequential(layer)
    scale = layer.weight.abs().max().item()
    devices = programmed(net, stuck_at_zero=0.25, stuck_at_max=0.5, drift=HALVING)
    devices.age(1e9)  # all others are at 0 by then
    found = (layer.weight / scale).round(decimals=3)
    shares = {value: (found == value).float().mean().item() for value in (-1, 0, 1)}
    assert shares[1] == pytest.approx(0.25, abs=0.02)  # plus at the maximum, minus not
    assert shares[-1] == pytest.approx(0.25, abs=0.02)
    assert shares[0] == pytest.approx(0.5, abs=0.02)


def test_the_same_seed_gives_the_same_devices() -> None:
    first, second = small_net(), small_net()
    for net in (first, second):
        devices = programmed(net, stuck_at_zero=0.5)
        devices.age(1.0)
    assert all(a.equal(b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("mapping", ["differential", "reference"])
def test_a_run_on_devices_keeps_its_conductances(mapping: str) -> None:
    net = small_net()
    constraint = attached(net, mapping=mapping, **SEED_LIMITS, quantize=True)
    train_steps(net, torch.optim.SGD(net.parameters(), lr=0.1), constraint, 3)
    arrays, words = as_trained(net, constraint)
    assert words == f"as trained on devices, mapping={mapping}, g = G / W_max"
    effective = effective_copy(net)
    evaluation = DeviceEvaluation(drift=HALVING)
    devices = ProgrammedNetwork(
        effective, arrays, evaluation, False, torch.Generator().manual_seed(0)
    )
    devices.program()
    devices.age(0.0)
    aged = effective.get_parameter("1.weight")
    assert aged.allclose(first_layer(net).weight, atol=1e-6)
    devices.age(1.0)
    (behind,) = parametrizations(first_layer(net)).values()
    conductances = [p.detach() for p in behind.parameters()]
    middle = (0.1 + 0.51) / 2
    expected = conductances[0] / 2 - (middle if mapping == "reference" else conductances[1] / 2)
    assert aged.allclose(expected, atol=1e-6)


def test_conductances_counted_from_below_zero_drift_to_their_lowest() -> None:
    net = small_net()
    constraint = attached(net, mapping="differential", W_min=-1.0, W_max=1.0)
    arrays, words = as_trained(net, constraint)
    assert words.endswith("g = (G - W_min) / (W_max - W_min)")
    low = [torch.zeros_like(g) for g in arrays[0].targets]
    assert arrays[0].weight(*low).abs().max() == 0
    assert arrays[0].weight(torch.ones_like(low[0]), low[1]).unique().tolist() == [2]


def test_what_no_device_can_hold_is_programmed_or_refused() -> None:
    net = small_net()
    constraint = attached(net, mapping="direct", W_min=-1.0, W_max=1.0)
    assert not holds_physical_devices(constraint)
    with pytest.raises(UserError, match=r"mapping=direct and W_min=-1\.0, below 0"):
        as_trained(net, constraint)
    with pytest.raises(UserError, match="the run has no devices"):
        as_trained(net, None)


def test_converters_see_currents_before_the_compensation() -> None:
    nets = [small_net(), small_net()]
    inputs = torch.randn(5, 12)
    devices = [programmed(net, drift=HALVING, compensation="global") for net in nets]
    exact = ArrayReading(input_bits=None, output_bits=None, output_range=None, output_noise=0)
    with torch.no_grad():
        devices[0].age(3.0)
        expected = nets[0](inputs)
        with reading_on(nets[1], exact, seed=0) as readers:
            devices[1].age(3.0, readers)
            assert readers["1"].output_scale == pytest.approx(4.0)
            assert nets[1](inputs).allclose(expected, atol=1e-6)
    fresh = small_net().get_parameter("1.weight")
    assert nets[1].get_parameter("1.weight").allclose(fresh / 4, atol=1e-7)


def test_layers_that_share_a_weight_are_compensated_alike() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    net[1].weight = net[0].weight
    inputs, expected = torch.randn(5, 4), None
    exact = ArrayReading(input_bits=None, output_bits=None, output_range=None, output_noise=0)
    with torch.no_grad():
        expected = net(inputs)
        devices = programmed(net, drift=HALVING, compensation="global")
        with reading_on(net, exact, seed=0) as readers:
            devices.age(3.0, readers)
            assert net(inputs).allclose(expected, atol=1e-6)


def test_conductances_below_zero_are_programmed_anew_or_refused() -> None:
    net = small_net()
    constraint = attached(net, mapping="differential", W_min=0.0, W_max=0.02, clip=False)
    assert held_by_devices(DeviceEvaluation(), net, constraint)[2] == IN_PAIRS
    with pytest.raises(UserError, match="conductances below 0, down to -"):
        held_by_devices(DeviceEvaluation(program=False), net, constraint)


def test_a_users_own_drift() -> None:
    class Lost:
        def start(self, programmed: Tensor, target: Tensor, generator: object) -> object:
            return lambda seconds: programmed * 0.25

    net = small_net()
    before = weights(net)
    programmed(net, drift=Lost()).age(1.0)
    assert net.get_parameter("1.weight").allclose(before["1.weight"] / 4)


def test_batch_norm_takes_the_statistics_of_all_batches() -> None:
    torch.manual_seed(0)
    net = CNN20k().eval()
    batches = [torch.randn(6, 1, 28, 28), torch.randn(6, 1, 28, 28) + 1]
    reestimate_batch_norm(net, batches)
    convolution = net.get_submodule("features.0.0")
    norm = net.get_submodule("features.0.1")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert not norm.training
    with torch.no_grad():
        outputs = [convolution(batch).transpose(0, 1).flatten(1) for batch in batches]
    expected = torch.stack([output.mean(1) for output in outputs]).mean(0)
    assert norm.running_mean.allclose(expected, atol=1e-6)
    variances = torch.stack([output.var(1) for output in outputs]).mean(0)
    assert norm.running_var.allclose(variances, rtol=1e-4)
    assert norm.momentum == 0.1


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(UserError, match="together at most 1"):
        DeviceEvaluation(stuck_at_zero=0.6, stuck_at_max=0.6)
    with pytest.raises(UserError, match=r"evaluation.drift: function has no start"):
        DeviceEvaluation(drift=lambda g: g)  # type: ignore[arg-type]


@pytest.mark.parametrize("mapping", ["differential", "reference"])
def test_wires_carry_the_currents_of_both_kept_devices(mapping: str) -> None:
    reading = ArrayReading(wire_resistance=1e-2, output_noise=0.0)
    net, inputs = small_net(), torch.rand(5, 12)
    constraint = attached(net, mapping=mapping, W_min=0.1, W_max=0.6, gain=2.0, read=reading)
    with torch.no_grad():
        in_situ = net.eval()(inputs)
    arrays, _ = as_trained(net, constraint)
    network = effective_copy(net).eval()
    generator = torch.Generator().manual_seed(0)
    devices = ProgrammedNetwork(network, arrays, DeviceEvaluation(), False, generator)
    devices.program()
    ranges = dict.fromkeys(("1", "3"), 2.0 * (0.5 if mapping == "differential" else 0.25))
    with reading_on(network, reading, 0, ranges) as readers, torch.no_grad():
        devices.age(1.0, readers)
        torch.testing.assert_close(network(inputs), in_situ)
        for reader in readers.values():
            reader.pair = None
        assert not network(inputs).allclose(in_situ, atol=1e-3)
