"""Devices whose range does not fit the weights they are to hold: far narrower, or far wider."""

from __future__ import annotations

from torch import Tensor

from mnist_exp.device.quantization import level_distance
from mnist_exp.device.settings import DeviceSettings

MOST_OUTSIDE = 1 / 3  # share of the initial weights beyond the range; more: it is too narrow
COARSEST = 10  # levels' distance as a multiple of the spread of the initial weights; more: too wide
ROOM = 4  # range that fits, as a multiple of the largest initial weight: weights grow in training
NEAR = 4  # a range that is right within this factor is left as it is


def range_warnings(settings: DeviceSettings, conductances: Tensor) -> list[str]:
    """Return a sentence, with settings that fit, if the devices' range does not suit the weights.

    Parameters
    ----------
    settings : DeviceSettings
        Bounds matter where conductances are clipped or quantized.
    conductances : Tensor
        [devices], those of the initial weights before they are programmed, so also beyond the
        bounds.
    """
    if not (settings.clip or settings.quantize):
        return []
    W_min, W_max = settings.W_min, settings.W_max
    direct, paired = settings.mapping == "direct", settings.mapping == "differential"
    # weight units for one unit of distance of a conductance from the middle, where the weight is 0
    slope = 1.0 if direct else settings.gain * (2 if paired else 1)
    weights = conductances if direct else (conductances - (W_min + W_max) / 2) * slope
    largest, spread = weights.abs().max().item(), weights.square().mean().sqrt().item()
    outside = ((conductances < W_min) | (conductances > W_max)).float().mean().item()
    reach = slope * (W_max - W_min) / 2
    if outside > MOST_OUTSIDE:
        bounds = f"[{W_min:g}, {W_max:g}]" if direct else f"[{-reach:.3g}, {reach:.3g}]"
        sentence = (
            f"{outside:.0%} of the initial weights, from {weights.min().item():.2g} to "
            f"{weights.max().item():.2g}, lie outside what the devices reach, {bounds}, and are "
            "cut to it: the network is likely to stay at chance."
        )
        return [f"{sentence} {_fitting(settings, largest)}"] if largest else []
    distance = float(level_distance(W_min, W_max, settings.levels)) * slope / (2 if paired else 1)
    in_steps = settings.quantize or settings.pulse_rounding != "none"
    if in_steps and distance > COARSEST * spread > 0 and reach > ROOM * ROOM * largest:
        sentence = (
            f"Two levels of the devices are {distance:.2g} apart in the weights, "
            f"{distance / spread:.0f} times the spread of the initial ones, {spread:.2g}: most of "
            "those are the same to the devices, and the network is likely to stay at chance."
        )
        return [f"{sentence} {_fitting(settings, largest)}"]
    return []


def _fitting(settings: DeviceSettings, largest: float) -> str:
    """Say which settings give the devices room for the weights.

    The unit of conductance is free, so the bounds move and the gain becomes 1: learning rates act
    on weights by the square of the gain, and on free biases as they are.
    """
    changes = []
    if settings.mapping == "direct":
        changes.append("constraint.mapping=differential")
    if settings.gain != 1:
        changes.append("constraint.gain=1")
    reach = (settings.W_max - settings.W_min) / (2 if settings.mapping == "reference" else 1)
    factor = ROOM * largest / reach
    if not 1 / NEAR < factor < NEAR:
        for name in ("W_min", "W_max", "retention_target"):
            if (value := getattr(settings, name)) is not None:
                changes.append(f"constraint.{name}={value * factor:.2g}")
        reach *= factor
    return f"With {' '.join(changes)} the devices reach {reach:.2g} either way."
