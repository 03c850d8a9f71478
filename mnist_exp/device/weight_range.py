"""Warnings for device ranges far too narrow or far too wide for the initial weights."""

from __future__ import annotations

from torch import Tensor

from mnist_exp.device.properties import DeviceProperties
from mnist_exp.device.quantization import level_distance

MOST_OUTSIDE = 1 / 3  # share of initial weights out of range; above it the range is too narrow
COARSEST = 10  # level distance over spread of the initial weights; above it the range is too wide
ROOM = 4  # suggested range over the largest initial weight; weights grow in training
NEAR = 4  # a range within this factor of the suggested one stays


def range_warnings(settings: DeviceProperties, conductances: Tensor) -> list[str]:
    """Return a warning, with better settings, if the range does not suit the weights.

    Parameters
    ----------
    settings : DeviceProperties
        Bounds matter where conductances are clipped or quantized.
    conductances : Tensor
        [devices], of the initial weights before programming; may lie beyond the bounds.
    """
    if not (settings.clip or settings.quantize):
        return []
    W_min, W_max = settings.W_min, settings.W_max
    direct, paired = settings.mapping == "direct", settings.mapping == "differential"
    # weight per unit of conductance away from the middle of the range, where the weight is 0
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
            f"{distance / spread:.0f} times the spread of the initial ones, {spread:.2g}: the "
            "devices cannot tell most of them apart, and the network is likely to stay at chance."
        )
        return [f"{sentence} {_fitting(settings, largest)}"]
    return []


def _fitting(settings: DeviceProperties, largest: float) -> str:
    """Return a sentence with settings that give the weights enough room.

    Bounds are scaled (the unit of conductance is arbitrary) and the gain is set to 1, because
    learning rates act on weights times gain squared, but on free biases unscaled.
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
