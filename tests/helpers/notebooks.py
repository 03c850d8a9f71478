"""Execute the notebooks of docs/notebooks; ``make notebooks`` stores what they print and draw."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from tests.helpers.markdown import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "docs" / "notebooks").glob("*.ipynb"))


def execute(notebook: Path, directory: Path, values: Mapping[str, Any] | None = None) -> Any:
    """Return a notebook, executed in a kernel of its own with ``directory`` as current directory.

    ``values`` replace those of the cell with the tag ``parameters``. The first cell that fails
    raises `nbclient.exceptions.CellExecutionError`.
    """
    book = nbformat.read(notebook, as_version=4)
    if values is not None:
        cells = [cell for cell in book.cells if "parameters" in cell.metadata.get("tags", ())]
        assert len(cells) == 1, f"{notebook.name} needs one cell with the tag parameters"
        cells[0].source += "".join(f"\n{name} = {value!r}" for name, value in values.items())
    client = NotebookClient(
        book,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(directory)}},
    )
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    client.execute(env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    book.metadata.pop("language_info", None)  # the version of Python would differ by machine
    return book


def main(names: list[str]) -> None:
    """Execute notebooks with their own settings, and store the outputs in them."""
    for notebook in NOTEBOOKS:
        if names and notebook.stem not in names:
            continue
        print(notebook.relative_to(REPOSITORY), flush=True)
        with tempfile.TemporaryDirectory() as directory:
            nbformat.write(execute(notebook, Path(directory)), notebook)


if __name__ == "__main__":
    main(sys.argv[1:])
