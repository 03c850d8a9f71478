"""Files of rows: reserved at full size, then filled row by row."""

from __future__ import annotations

import zipfile
from pathlib import Path

from mnist_exp.gradients.array_files import PtFile


def test_dense_files_are_reserved_without_being_held_or_allocated(tmp_path: Path) -> None:
    """Reserves a sparse 100 GB file whose zip archive is readable at once."""
    file = PtFile(tmp_path / "g.pt", num_rows=60_000, row_shape=(512, 784), dtype="float32")
    file.discard()
    status = (tmp_path / "g.pt").stat()
    assert status.st_size > 60_000 * 512 * 784 * 4
    assert status.st_blocks * 512 < 1 << 20
    with zipfile.ZipFile(tmp_path / "g.pt") as archive:
        assert any(name.endswith("/data/0") for name in archive.namelist())
