"""What the plots share: colours, number formats, and matplotlib independent of ``MPLBACKEND``.

Plots need no window: matplotlib's Agg writes them to files. But importing matplotlib fails if
``MPLBACKEND`` names a backend that is not installed, such as a notebook's.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import Any

from mnist_exp.files.atomic import write_atomic

if "matplotlib" not in sys.modules:
    _named = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if _named is not None:
            os.environ["MPLBACKEND"] = _named
    if _named:
        with contextlib.suppress(ValueError):  # the user's own figures use it
            matplotlib.rcParams["backend"] = _named

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogFormatterSciNotation, MaxNLocator

__all__ = ["Axes", "Figure", "Line2D", "Normalize", "PowerNorm", "Rectangle", "ScalarMappable"]

# Colours that people with any kind of colour blindness can tell apart: the first are Okabe and
# Ito's, the others Paul Tol's "muted", and black.
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
DISTINCT = (
    "#CC6677", "#332288", "#DDCC77", "#117733", "#88CCEE",
    "#882255", "#44AA99", "#999933", "#AA4499", "#000000",
)  # fmt: skip

SLANTED: dict[str, Any] = {
    "rotation": 45,
    "ha": "right",
    "rotation_mode": "anchor",
}  # tick labels that are long


def colours_of(count: int) -> list[str]:
    """Return a colour for each of several folds or classes; many run from dark to light."""
    if count <= len(DISTINCT):
        return list(DISTINCT[:count])
    return [to_hex(colormaps["viridis"](number / (count - 1))) for number in range(count)]


def add_fold_legend(figure: Figure, count: int, *others: Line2D) -> None:
    """Name the folds' colours below the axes; of many folds, only the first and the last.

    Without a layout engine, the figure has to have room for that.
    """
    colours = colours_of(count)
    shown = range(count) if count <= len(DISTINCT) else (0, count - 1)
    lines = [Line2D([], [], color=colours[n], label=f"fold {n + 1}") for n in shown]
    outside = "" if figure.get_layout_engine() is None else "outside "
    place: dict[str, Any] = {"loc": f"{outside}lower center", "ncols": len(DISTINCT) + 1}
    figure.legend(handles=[*lines, *others], fontsize=8, **place)


def in_percent(share: float, position: float | None = None) -> str:
    """Format a share as a percentage (also a tick formatter of matplotlib)."""
    return f"{100 * share:.4g}%"


class PlainLogFormatter(LogFormatterSciNotation):
    """Label the ticks of a log axis with plain numbers: 0.3, not 3 x 10^-1."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Format a tick; empty where the axis would be crowded."""
        return f"{x:g}" if super().__call__(x, pos) else ""


def whole_ticks(axis: Axes) -> None:
    """Put the ticks of the x axis at whole numbers."""
    axis.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))


def plain_log(axis: Axes, which: str) -> None:
    """Make the ``x`` or ``y`` axis logarithmic, with plain numbers at its ticks."""
    line = {"x": axis.xaxis, "y": axis.yaxis}[which]
    axis.set(**{f"{which}scale": "log"})
    line.set_major_formatter(PlainLogFormatter())
    line.set_minor_formatter(PlainLogFormatter(minor_thresholds=(1, 0.5)))


def picture_of(figure: Figure, dpi: int, kind: str = "png") -> bytes:
    """Draw a figure and return it as the content of a file: ``"png"``, ``"svg"`` or ``"pdf"``."""
    content = io.BytesIO()
    if kind == "png":  # savefig draws everything twice
        figure.set_dpi(dpi)
        FigureCanvasAgg(figure).print_png(content)
    else:
        figure.savefig(content, format=kind, dpi=dpi)
    return content.getvalue()


def write_picture(path: Path, figure: Figure, dpi: int) -> None:
    """Draw a figure into a file of the kind that its name ends with."""
    write_atomic(path, picture_of(figure, dpi, path.suffix[1:]))
