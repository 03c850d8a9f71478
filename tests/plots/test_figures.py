"""Plots are drawn under any ``MPLBACKEND``, which they leave unchanged, as any kind of file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mnist_exp
from mnist_exp.plots.figures import Figure, write_picture


@pytest.mark.slow
@pytest.mark.parametrize(
    "named", ["module://nowhere", "module://matplotlib_inline.backend_inline", "nonsense", "pdf"]
)
def test_pictures_need_no_backend_and_set_none(tmp_path: Path, named: str) -> None:
    code = (
        "import os\n"
        "from mnist_exp.plots.figures import Figure\n"
        "figure = Figure(layout='constrained')\n"
        "figure.subplots().plot([1, 2])\n"
        "figure.savefig('a.png')\n"
        "import matplotlib\n"
        "print(os.environ['MPLBACKEND'], matplotlib.rcParams._get_backend_or_none())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "MPLBACKEND": named},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    environment, backend = ended.stdout.split()
    assert environment == named
    assert backend == named or (backend == "None" and named not in ("module://nowhere", "pdf"))
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_nothing_else_imports_matplotlib() -> None:
    package = Path(mnist_exp.__file__).parent
    found = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"^\s*(import|from) matplotlib", path.read_text(), re.MULTILINE)
    ]
    assert found == ["plots/figures.py"]


class Counting(Figure):
    """A figure that counts how often it is drawn."""

    draws = 0

    def draw(self, renderer: Any) -> None:
        """Draw, and count."""
        self.draws += 1
        super().draw(renderer)


def example(layout: Any) -> Counting:
    figure = Counting(figsize=(3, 2), layout=layout)
    figure.subplots().plot([1, 2, 1000])
    figure.suptitle("a title")
    return figure


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_a_png_file_is_drawn_once_and_shows_what_savefig_would(
    tmp_path: Path, layout: str | None
) -> None:
    figure = example(layout)
    write_picture(tmp_path / "ours.png", figure, dpi=70)
    assert figure.draws == 1
    example(layout).savefig(tmp_path / "theirs.png", dpi=70)
    ours, theirs = (Image.open(tmp_path / f"{name}.png") for name in ("ours", "theirs"))
    assert ours.size == (210, 140)
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


@pytest.mark.parametrize(
    ("kind", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")]
)
def test_a_picture_is_of_the_kind_that_its_name_ends_with(
    tmp_path: Path, kind: str, start: bytes
) -> None:
    path = tmp_path / f"picture.{kind}"
    write_picture(path, example(None), dpi=70)
    assert path.read_bytes().startswith(start)
