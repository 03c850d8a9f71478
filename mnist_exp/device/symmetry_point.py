"""Symmetry points of devices: conductances at which a pulse up and one down are equally large."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor

from mnist_exp.device.properties import DeviceProperties
from mnist_exp.device.pulse_response import OF_CURVE, build_response
from mnist_exp.device.quantization import level_distance
from mnist_exp.device.random_source import RandomSource
from mnist_exp.device.step_model import StepModel

HALVINGS = 24
EQUAL = 1e-3  # difference of the two pulses, in mean steps, that counts as none


def symmetry_points(
    settings: DeviceProperties, devices: dict[str, Tensor], count: int, random: RandomSource
) -> Tensor:
    """Return every device's symmetry point, by bisection on its mean response.

    In a laboratory pulses up and down in turn lead there: H. Kim et al., "Zero-shifting technique
    for deep neural network training on resistive cross-point arrays", arXiv:1907.10228. A device
    without one between its bounds, such as one with constant steps of two sizes, gets the middle
    of its range; so does one whose pulses are equal everywhere.

    Parameters
    ----------
    settings : DeviceProperties
        Of the devices; noise is left out.
    devices : dict of Tensor
        Their own numbers, from `draw_devices`.
    count : int
        Number of devices.
    random : RandomSource
        Nothing is drawn from it.

    Returns
    -------
    Tensor
        Conductances, float32 [count].
    """
    curve = copy.copy(settings.curve)
    if isinstance(curve, StepModel):
        curve.cycle_spread, curve.write_noise = {}, 0.0
    quiet = replace(settings, curve=curve, write_noise=0.0)
    numbers = {name: n for name, n in devices.items() if name != f"{OF_CURVE}write_offset"}
    response = build_response(quiet, numbers, random)
    D = float(level_distance(settings.W_min, settings.W_max, settings.levels))
    pulse = torch.ones(count, device=random.device)

    def rise(w: Tensor) -> Tensor:
        """Return by how much a pulse up is larger than one down, in mean steps."""
        up, down = w.clone(), w.clone()
        response.respond(up, pulse)
        response.respond(down, -pulse)
        return (up - w - (w - down)) / D

    W_min = torch.as_tensor(devices.get("W_min", settings.W_min), device=random.device)
    W_max = torch.as_tensor(devices.get("W_max", settings.W_max), device=random.device)
    # closer than two steps to a bound, the bound itself cuts pulses off
    margin = torch.clamp((W_max - W_min) / 4, max=2 * D)
    low, high = (W_min + margin).expand(count), (W_max - margin).expand(count)
    middle = (low + high) / 2
    exists = (rise(low) >= -EQUAL) & (rise(high) <= EQUAL)
    for _ in range(HALVINGS):
        point = (low + high) / 2
        found = rise(point)
        low, high = (
            torch.where(found > EQUAL, point, low),
            torch.where(found < -EQUAL, point, high),
        )
    return torch.where(exists, (low + high) / 2, middle)
