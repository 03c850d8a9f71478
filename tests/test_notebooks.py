"""The notebooks of docs/notebooks run, and carry what they print and draw."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.markdown import REPOSITORY, anchors

nbformat = pytest.importorskip("nbformat", reason="reads notebooks: pip install 'mnist_exp[dev]'")

NOTEBOOKS = REPOSITORY / "docs" / "notebooks"
LARGEST = 400_000  # bytes of a notebook
FEW = ["data.subset=400", "cv.validation=100", "cv.test=500", "training.epochs=1"]
# Values of the cell with the tag "parameters", with which a notebook takes seconds.
SMALL: dict[str, dict[str, Any]] = {
    "memristor_from_measurement": {"settings": FEW, "repetitions": 2},
    "one_epoch_training": {"settings": FEW},
    "per_sample_gradients": {
        "settings": ["data.subset=400", "training.epochs=2", "gradients.max_samples=300"]
    },
    "sweep_with_pandas": {"settings": FEW, "levels": [16, 64], "seeds": [0, 1]},
}
# an absolute path, or the address of an object
PLACE = re.compile(
    r"(?<![\w.])/(home|root|tmp|Users|private|usr|var|opt|mnt|work)/|[A-Z]:\\|\b0x\w{6}"
)
each_notebook = pytest.mark.parametrize("name", SMALL)


def test_every_notebook_has_small_values() -> None:
    assert [path.stem for path in sorted(NOTEBOOKS.glob("*.ipynb"))] == sorted(SMALL)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Any]:
    for package in ("nbclient", "ipykernel", "pandas"):
        pytest.importorskip(package, reason="runs notebooks: pip install 'mnist_exp[dev]'")
    from tests.helpers import notebooks

    with notebooks.kernel() as started:
        yield started


@pytest.mark.pages
@pytest.mark.slow
@each_notebook
def test_a_notebook_runs_without_warnings(name: str, kernel: Any, tmp_path: Path) -> None:
    from tests.helpers.notebooks import execute

    book = execute(kernel, NOTEBOOKS / f"{name}.ipynb", tmp_path, SMALL[name])
    assert warnings_in(book) == []


@each_notebook
def test_a_notebook_carries_its_outputs(name: str) -> None:
    path = NOTEBOOKS / f"{name}.ipynb"
    book = nbformat.read(path, as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]  # make notebooks
    assert any("image/png" in output.get("data", {}) for output in outputs(book))
    assert warnings_in(book) == []
    assert path.stat().st_size < LARGEST


@each_notebook
def test_outputs_name_no_place_of_the_machine_that_made_them(name: str) -> None:
    book = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    texts = [text for output in outputs(book) for text in texts_of(output)]
    assert texts
    for text in texts:
        assert not PLACE.search(text), text


def outputs(book: Any) -> Iterator[Mapping[str, Any]]:
    for cell in book.cells:
        yield from cell.get("outputs", ())


def texts_of(output: Mapping[str, Any]) -> list[str]:
    """Return what an output shows as text, HTML included."""
    shown = {"text/": output.get("text", ""), **output.get("data", {})}
    return [text for kind, text in shown.items() if kind.startswith("text/")]


def warnings_in(book: Any) -> list[str]:
    """Return what the cells wrote to stderr, and errors."""
    return [
        output.get("text") or output["evalue"]
        for output in outputs(book)
        if output["output_type"] == "error" or output.get("name") == "stderr"
    ]


@each_notebook
def test_links_of_a_notebook_lead_somewhere(name: str) -> None:
    book = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    prose = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    targets = re.findall(r"\]\(([^)\s]+)\)", prose)
    assert targets
    for target in targets:
        file, _, anchor = target.partition("#")
        page = (NOTEBOOKS / file).resolve()
        assert page.is_file(), target
        assert not anchor or anchor in anchors(page), target
