"""Execute the notebooks of docs/notebooks; ``make notebooks`` stores what they print and draw."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

from tests.helpers.markdown import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "docs" / "notebooks").glob("*.ipynb"))


@contextlib.contextmanager
def kernel() -> Iterator[KernelManager]:
    """Start a kernel for several notebooks: to import torch takes longer than a small notebook."""
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    try:
        yield manager
    finally:
        manager.shutdown_kernel(now=True)


def execute(
    manager: KernelManager, notebook: Path, directory: Path, values: Mapping[str, Any] | None = None
) -> Any:
    """Return a notebook, executed without what others defined, in ``directory``.

    ``values`` replace those of the cell with the tag ``parameters``. The first cell that fails
    raises `nbclient.exceptions.CellExecutionError`.
    """
    book = nbformat.read(notebook, as_version=4)
    if values is not None:
        cells = [cell for cell in book.cells if "parameters" in cell.metadata.get("tags", ())]
        assert len(cells) == 1, f"{notebook.name} needs one cell with the tag parameters"
        cells[0].source += "".join(f"\n{name} = {value!r}" for name, value in values.items())
    client = NotebookClient(
        book, km=manager, timeout=600, record_timing=False, coalesce_streams=True
    )
    with client.setup_kernel():
        _run(client, f"import os\nos.chdir({str(directory)!r})\n%reset -f")
        try:
            for index, cell in enumerate(book.cells):
                client.execute_cell(cell, index)
        finally:
            _run(client, "import os\nos.chdir(os.sep)")  # the directory will be removed
    for count, cell in enumerate((c for c in book.cells if c.cell_type == "code"), start=1):
        cell.execution_count = count
    return book


def _run(client: NotebookClient, source: str) -> None:
    client.execute_cell(nbformat.v4.new_code_cell(source), 0, store_history=False)


def main(names: list[str]) -> None:
    """Execute notebooks with their own settings, and store the outputs in them."""
    for notebook in NOTEBOOKS:
        if names and notebook.stem not in names:
            continue
        print(notebook.relative_to(REPOSITORY), flush=True)
        with tempfile.TemporaryDirectory() as directory, kernel() as own:
            nbformat.write(execute(own, notebook, Path(directory)), notebook)


if __name__ == "__main__":
    main(sys.argv[1:])
