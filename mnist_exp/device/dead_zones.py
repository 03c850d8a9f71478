"""Dead zones: settings under which rounding cancels updates or drift."""

from __future__ import annotations

from torch import Tensor

from mnist_exp.device.quantization import level_distance
from mnist_exp.device.settings import DeviceSettings


def dead_zone_warnings(
    settings: DeviceSettings, learning_rate: float, gradients: Tensor | None
) -> list[str]:
    """Return a warning, with numbers, for each dead zone of the settings.

    Parameters
    ----------
    settings : DeviceSettings
        Only rounding to the nearest level or pulse has dead zones.
    learning_rate : float
        Rate of plain gradient descent; the larger one if there are two.
    gradients : Tensor or None
        Gradients of the conductances on one batch; adds the share lost to the warning.
    """
    distance = float(level_distance(settings.W_min, settings.W_max, settings.levels))
    rounds = settings.quantize and settings.rounding == "nearest"
    warnings = []
    direct = settings.update == "direct"  # schemes ask for changes of other sizes
    if direct and (rounds or settings.pulse_rounding == "nearest"):
        smallest = distance / 2 / learning_rate
        sentence = (
            f"Nearest rounding deletes every update below half a level: with D = (W_max - W_min) "
            f"/ (levels - 1) = {distance:.3g} and learning rate {learning_rate:g}, all gradients "
            f"with |g| < D / (2 lr) = {smallest:.3g}"
        )
        if gradients is not None and settings.apply_to == "batch":  # a sample's share is smaller
            lost = (gradients.abs() < smallest).float().mean().item()
            typical = gradients.abs().median().item()
            sentence += (
                f"; on the first batch that is {lost:.2%} of them (median |g| {typical:.2g})"
            )
        warnings.append(sentence + ". Stochastic rounding or accumulate keeps them.")
    reach = max(abs(settings.W_max - settings.resting), abs(settings.W_min - settings.resting))
    if rounds and settings.retain and settings.retention_rate * reach < distance / 2:
        warnings.append(
            f"Nearest rounding deletes retention altogether: a step's drift is at most retention "
            f"times the distance to the target = {settings.retention_rate:.3g} x {reach:.3g}, "
            f"below half a level, {distance / 2:.3g}; drift acts only if retention >= "
            f"{distance / 2 / reach:.3g}. Stochastic rounding or accumulate keeps it."
        )
    return warnings
