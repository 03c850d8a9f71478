"""The option of the group ``constraint`` that a fit becomes."""

from __future__ import annotations

import time
from typing import Any

from mnist_exp import device
from mnist_exp.device.measurement.curves import LinearChange, TableChange
from mnist_exp.device.measurement.fits import Fit
from mnist_exp.terminal import printable
from mnist_exp.wording import counted

WRITTEN_BY = "fitted by mnist_exp fit-device"
# What every option says; {comment} has a line or more, {settings} begins with mapping.
OPTION = """\
# @package _global_
{comment}
defaults:
  - /constraint/_device
  - override /optimizer: _recipe_measured_device
  - _self_
constraint:
{settings}
"""
COMMENTS = {
    "mapping": "one conductance against a reference column",
    "gain": "weights span [-1, 1]",
    "W_min": "lowest conductance; the range is the unit",
    "W_max": "highest conductance",
    "levels": "conductance states",
    "pulse_rounding": "updates in whole pulses",
    "nonlinearity_ltp": "label of the potentiation curve",
    "nonlinearity_ltd": "label of the depression curve",
    "write_noise": "cycle to cycle, share of the range",
    "origin": "conductance at which pulses have the size D",
    "conductance": "of the entries of the table",
    "up": "size of a pulse in units of D = (W_max - W_min) / (levels - 1)",
    "down": "the same of depression",
    "cycle_spread": "std of a pulse, in units of D",
}
TARGETS = {"soft_bounds": "SoftBounds", "table": "TableStep"}


def constraint_settings(fit: Fit) -> dict[str, Any]:
    """Return the settings of the constraint that differ from an ideal device's.

    Conductances are in units of the range, so that the gain is 2 and learning rates mean the same
    for every device. A step model is a group ``curve`` with its ``_target_``.
    """
    low, high = fit.measurement.bounds
    lowest, extent, levels = low / (high - low), 1.0, fit.measurement.pulses + 1
    curve: dict[str, Any] = {}
    if fit.curve == "soft_bounds":
        assert isinstance(fit.change, LinearChange)
        extent = fit.change.target_up - fit.change.target_down
        D = fit.change.rate_up * (fit.change.target_up - fit.change.origin)
        levels = max(round(extent / D), 1) + 1
        lowest = (lowest + fit.change.target_down) / extent
        origin = (fit.change.origin - fit.change.target_down) / extent
        curve = {"origin": _short(_short(lowest) + origin)}
    elif fit.curve == "table":
        assert isinstance(fit.change, TableChange)
        per_D = levels - 1
        curve = {
            "conductance": [_short(_short(lowest) + float(knot)) for knot in fit.change.knots],
            "up": [_short(float(size) * per_D, 3) for size in fit.change.up],
            "down": [_short(float(size) * per_D, 3) for size in fit.change.down],
        }
    settings = {
        "mapping": "reference",
        "gain": 2.0,
        "W_min": _short(lowest),
        "W_max": _short(_short(lowest) + 1),
        "levels": levels,
        "pulse_rounding": "stochastic",
    }
    noise = _short(fit.noise.cycle / extent, 5)
    if fit.labels is not None:
        labels = dict(zip(("nonlinearity_ltp", "nonlinearity_ltd"), fit.labels, strict=True))
        return settings | labels | {"write_noise": noise}
    target = {"_target_": f"mnist_exp.device.{TARGETS[fit.curve]}"}
    spread = {"cycle_spread": {"offset": _short(noise * (levels - 1))}}
    return settings | {"curve": target | curve | spread}


def option_text(fit: Fit, name: str, source: str) -> str:
    """Return the YAML file of an option.

    Parameters
    ----------
    fit : Fit
        The device.
    name, source : str
        The option's name, and that of the file with the readings, for the comment.

    Raises
    ------
    UserError
        If no such device can be.
    """
    settings = constraint_settings(fit)
    _check(settings)
    comment = "\n".join(f"# {printable(line)}" for line in _comment(fit, name, source))
    return OPTION.format(comment=comment, settings="\n".join(_lines(settings, "  ")))


def _check(settings: dict[str, Any]) -> None:
    curve = dict(settings.get("curve", {}))
    if curve:
        step_model = getattr(device, curve.pop("_target_").rpartition(".")[2])
        settings = settings | {"curve": step_model(**curve)}
    device.DeviceSettings(**settings)


def _comment(fit: Fit, name: str, source: str) -> list[str]:
    low, high = fit.measurement.bounds
    up, down = fit.measurement.up, fit.measurement.down
    cycles = counted(len(up.conductances), "cycle")
    lines = [
        f"{name}, {WRITTEN_BY} on {time.strftime('%Y-%m-%d')} to {source}:",
        f"{cycles} of {up.pulses[-1]} pulses up and {down.pulses[-1]} down, conductances from "
        f"{low:.4g} to {high:.4g} there.",
    ]
    if fit.measurement.mirrored:
        lines.append("One direction was measured; the other is its mirror image.")
    lines += [f"{fit.curve}, {line}" for line in quality_lines(fit)]
    if fit.noise.read > 0:
        lines.append(f"Read noise of {fit.noise.read:.2%} of the range is left out.")
    return lines


def quality_lines(fit: Fit) -> list[str]:
    """Return a line for each direction that says how well the curve follows the readings."""
    found = []
    for word, up in (("up", True), ("down", False)):
        quality = fit.quality(up)
        found.append(
            f"{word}: R^2 {quality.r_squared:.4f}, RMS residual {quality.rms:.2%} of the range, "
            f"of the mean over cycles {quality.rms_of_mean:.2%}"
        )
    return found


def _lines(settings: dict[str, Any], indent: str) -> list[str]:
    stated = [(key, value) for key, value in settings.items() if key != "curve"]
    width = max(len(f"{key}: {_shown(value)}") for key, value in stated)
    lines = []
    for key, value in stated:
        text = f"{key}: {_shown(value)}"
        comment = COMMENTS.get(key)
        lines.append(f"{indent}{text:<{min(width, 30)}}  # {comment}" if comment else indent + text)
    if "curve" in settings:
        lines += [f"{indent}curve:", *_lines(settings["curve"], indent + "  ")]
    return lines


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shown(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return str(value)


def _short(number: float, digits: int = 4) -> float:
    return round(float(number), digits)
