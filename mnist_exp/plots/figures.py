"""What the pictures take of matplotlib, imported whatever ``MPLBACKEND`` says.

The pictures are figures without a window, which matplotlib's Agg writes to files. matplotlib itself
cannot be imported where ``MPLBACKEND`` names a backend that is not installed, such as a notebook's.
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
        with contextlib.suppress(ValueError):  # figures of the user's own get the backend asked for
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
