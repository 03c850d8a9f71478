"""IDX files: they round-trip, and malformed ones are refused with the reason."""

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mnist_exp.data.idx import check_md5, read_idx
from mnist_exp.errors import UserError
from mnist_exp.files import regular as regular_files


def idx_bytes(array: np.ndarray, type_code: int = 8) -> bytes:
    header = bytes([0, 0, type_code, array.ndim])
    return header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@given(
    array=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3, max_side=6)),
    compressed=st.booleans(),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, compressed: bool
) -> None:
    path = tmp_path_factory.mktemp("idx") / ("x.gz" if compressed else "x")
    content = idx_bytes(array)
    path.write_bytes(gzip.compress(content) if compressed else content)
    np.testing.assert_array_equal(read_idx(path, array.ndim).numpy(), array)


IMAGES = idx_bytes(np.zeros((2, 28, 28), np.uint8))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty", b"", "not an IDX file.*nothing"),
        ("text", b"P5 28 28 255", "not an IDX file"),
        ("magic", b"\x01" + IMAGES[1:], "not an IDX file"),
        (
            "gzip",
            gzip.compress(IMAGES, mtime=0),
            r"is compressed by gzip; let its name end in \.gz",
        ),
        (
            "floats",
            idx_bytes(np.zeros((2, 28, 28), np.float32), 0x0D),
            r"type 0x0d \(float32\); expected type 0x08 \(uint8\).*\(images \* 255\)",
        ),
        (
            "ints",
            idx_bytes(np.zeros((2, 28, 28), np.int32), 0x0C),
            r"type 0x0c \(int32\); expected .*Convert with \.astype\('uint8'\)",
        ),
        (
            "magic_reversed",
            bytes([3, 8, 0, 0]) + struct.pack("<3I", 2, 28, 28),
            "first four bytes, 03 08 00 00, are in little-endian order; .*big-endian: 00 00 08 03",
        ),
        (
            "sizes_reversed",
            IMAGES[:4] + struct.pack("<3I", 2, 28, 28) + IMAGES[16:],
            r"its sizes are little-endian: \[2, 28, 28\] reads as \[33554432, .*struct\.pack",
        ),
        (
            "labels",
            idx_bytes(np.zeros(2, np.uint8)),
            "1 dimension.*expected 3.*Are images and labels swapped",
        ),
        ("header", IMAGES[:9], "truncated or damaged"),
        ("truncated", IMAGES[:-1], "promises 1568 bytes.*holds 1567"),
        ("longer", IMAGES + b"\0", "promises 1568 bytes.*holds more than 1568"),
        ("cut.gz", gzip.compress(IMAGES, mtime=0)[:-9], "damaged gzip"),  # the same in each worker
        ("not.gz", IMAGES, "damaged gzip"),
    ],
)
def test_malformed_files_are_refused_by_name_and_reason(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    """200 MiB of zeros compressed to 200 KiB, behind a header that declares two images."""
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 28, 28)
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header)
        for _ in range(200):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(UserError, match=r"promises 1568 bytes.*holds more than 1568"):
        read_idx(path, 3)
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["x", "x.gz"])
def test_a_promise_that_nothing_can_keep_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", 4_000_000_000, 28, 28)
    content = header + bytes(1000)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(UserError, match="promises 3136000000000 bytes of values, the file holds"):
        read_idx(tmp_path / name, 3)
    (tmp_path / name).write_bytes(gzip.compress(IMAGES) if name.endswith(".gz") else IMAGES)
    monkeypatch.setattr(regular_files, "available_memory", lambda: 1000)
    with pytest.raises(UserError, match="may take 1,568 bytes of memory, and 1,000 are free"):
        read_idx(tmp_path / name, 3)


def test_missing_file_and_wrong_md5_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_idx(tmp_path / "nowhere", 3)
    with pytest.raises(UserError, match="reinstall"):
        check_md5(tmp_path / "nowhere", "0" * 32)
    (tmp_path / "file").write_bytes(b"altered")
    with pytest.raises(UserError, match="damaged"):
        check_md5(tmp_path / "file", "0" * 32)
