"""Import of matplotlib for the plots, independent of ``MPLBACKEND``.

Plots need no window: matplotlib's Agg writes them to files. But importing matplotlib fails if
``MPLBACKEND`` names a backend that is not installed, such as a notebook's.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path

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

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

__all__ = ["Axes", "Figure", "Normalize", "PercentFormatter", "Rectangle", "ScalarMappable"]


def write_png(path: Path, figure: Figure, dpi: int) -> None:
    """Draw a figure into a PNG file."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=dpi)
    write_atomic(path, png.getvalue())
