"""Picture of a measured device: readings, the fitted curve, and what it leaves."""

from __future__ import annotations

from mnist_exp.device.measurement.fits import Fit
from mnist_exp.plots.figures import BLUE, VERMILION, Axes, Figure, in_percent
from mnist_exp.wording import counted

DIRECTIONS = (("potentiation", True), ("depression", False))


def fit_figure(fit: Fit, name: str) -> Figure:
    """Draw readings and fit of both directions, and the residuals below them."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    panels = figure.subplots(2, 2, sharex="col", sharey="row", height_ratios=(2, 1))
    for (word, up), above, below in zip(DIRECTIONS, panels[0], panels[1], strict=True):
        _draw_readings(above, fit, up)
        _draw_residuals(below, fit, up)
        quality = fit.quality(up)
        shown = f"{word}: R² {quality.r_squared:.3f}, RMS residual {quality.rms:.1%} of the range"
        above.set_title(shown, fontsize=9, loc="right")  # left, there may be a power of ten
        for axis in (above, below):
            axis.grid(alpha=0.3)
    panels[0][0].set_ylabel("conductance, unit of the file")
    panels[1][0].set_ylabel("residual, share of range")
    panels[1][0].yaxis.set_major_formatter(in_percent)
    panels[0][0].legend(fontsize=9)
    panels[1][0].legend(fontsize=9)
    readings = counted(len(fit.measurement.up.conductances), "cycle")
    curve = fit.curve.replace("_", " ")
    if fit.labels is not None:
        curve += " curves with labels {:.2f} and {:.2f}".format(*fit.labels)
    noise = f"cycle noise {fit.noise.cycle:.1%} of the range"
    figure.suptitle(f"{name}: {readings}, {curve}, {noise}", fontsize=11)
    return figure


def _draw_readings(axis: Axes, fit: Fit, up: bool) -> None:
    ramps = fit.measurement.up if up else fit.measurement.down
    for number, ramp in enumerate(ramps.conductances):
        label = None if number else "readings"
        axis.plot(ramps.pulses, ramp, ".", color=BLUE, markersize=3, alpha=0.35, label=label)
    axis.plot(ramps.pulses, fit.path(up), color=VERMILION, linewidth=1.8, label="fit")


def _draw_residuals(axis: Axes, fit: Fit, up: bool) -> None:
    ramps = fit.measurement.up if up else fit.measurement.down
    residuals = fit.residuals(up)
    for residual in residuals:
        axis.plot(ramps.pulses, residual, ".", color=BLUE, markersize=3, alpha=0.35)
    mean = residuals.mean(axis=0)
    axis.plot(ramps.pulses, mean, color="black", linewidth=1.0, label="mean over cycles")
    axis.axhline(0.0, color=VERMILION, linewidth=1.0)
    axis.set_xlabel("pulses")
