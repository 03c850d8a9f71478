"""Plots are drawn under any ``MPLBACKEND``, and leave it unchanged."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mnist_exp


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
