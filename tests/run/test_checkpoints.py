"""Checkpoints: damage is detected, the previous one is used, and no code in one is run."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnist_exp.errors import UserError
from mnist_exp.run.checkpoints import (
    DamagedCheckpoint,
    epoch_checkpoint,
    load_checkpoint,
    load_newest,
    remove_old_checkpoints,
    save_checkpoint,
)

CONTENT: dict[str, Any] = {
    "epoch": 3,
    "weights": torch.arange(12.0).view(3, 4),
    "rows": [{"loss": 0.5}],
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "checkpoint.pt"
    save_checkpoint(path, CONTENT)
    return path.read_bytes()


def with_checksum(archive: bytes) -> bytes:
    """Append a valid checksum to any archive, as a forger would."""
    comment = b"sha256:" + hashlib.sha256(archive).hexdigest().encode()
    return archive[:-2] + struct.pack("<H", len(comment)) + comment


def saved_by_torch(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def test_a_checkpoint_comes_back_and_plain_torch_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, CONTENT)
    for loaded in (load_checkpoint(path), torch.load(path, weights_only=True)):
        assert torch.equal(loaded["weights"], CONTENT["weights"])
        assert (loaded["epoch"], loaded["rows"]) == (3, [{"loss": 0.5}])


@given(data=st.data())
def test_a_truncated_checkpoint_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, sound: bytes, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "truncated.pt"
    path.write_bytes(sound[: data.draw(st.integers(0, len(sound) - 1))])
    with pytest.raises(DamagedCheckpoint, match=r"truncated\.pt: the content does not match"):
        load_checkpoint(path)


def test_a_flipped_bit_is_noticed_in_every_region(tmp_path: Path, sound: bytes) -> None:
    path = tmp_path / "flipped.pt"
    for position in (*range(0, len(sound), 13), *range(len(sound) - 100, len(sound))):
        changed = bytearray(sound)
        changed[position] ^= 1 << (position % 8)
        path.write_bytes(changed)
        with pytest.raises(DamagedCheckpoint):
            load_checkpoint(path)


@given(content=st.binary(max_size=300))
def test_any_bytes_with_a_right_checksum_are_refused_with_a_message(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "forged.pt"
    path.write_bytes(with_checksum(content + b"\0\0"))
    with pytest.raises(UserError, match=r"forged\.pt"):
        load_checkpoint(path)


@given(data=st.data())
def test_a_damaged_archive_with_a_right_checksum_is_refused_or_loads(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    archive = bytearray(saved_by_torch({"schema_version": 1, **CONTENT}))
    position = data.draw(st.integers(0, len(archive) - 3))
    archive[position] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "forged.pt"
    path.write_bytes(with_checksum(bytes(archive)))
    with contextlib.suppress(UserError):  # but no other exception
        load_checkpoint(path)


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("write", [saved_by_torch, pickle.dumps])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path, write: Any) -> None:
    path, target = tmp_path / "checkpoint.pt", tmp_path / "executed"
    path.write_bytes(with_checksum(write({"schema_version": 1, "x": Malicious(target)}) + b""))
    with pytest.raises(UserError, match=r"checkpoint\.pt"):
        load_checkpoint(path)
    assert not target.exists()


@pytest.mark.parametrize("content", [{"schema_version": 2}, {}, [1, 2]])
def test_another_schema_version_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(with_checksum(saved_by_torch(content)))
    with pytest.raises(UserError, match=r"has schema version (2|None), this mnist_exp reads 1"):
        load_checkpoint(path)


def test_the_newest_sound_checkpoint_is_loaded_and_damaged_ones_are_reported_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [(1, False), (2, False), (3, False), (3, True)]
    for epoch, partial in names:
        save_checkpoint(epoch_checkpoint(tmp_path, epoch, partial), {"name": (epoch, partial)})
    found = load_newest(tmp_path)
    assert found is not None
    assert found[1]["name"] == (3, True)
    for name in ("epoch_00003_partial.pt", "epoch_00003.pt"):
        (tmp_path / name).write_bytes(b"damaged")
    found = load_newest(tmp_path)
    assert found is not None
    assert found[1]["name"] == (2, False)
    told = capsys.readouterr().err
    assert told.count("warning:") == 2
    assert "epoch_00003.pt: the content does not match its checksum" in told
    load_newest(tmp_path)
    assert capsys.readouterr().err == ""
    for path in tmp_path.glob("epoch*"):
        path.write_bytes(b"")
    assert load_newest(tmp_path) is None
    assert load_newest(tmp_path / "nothing here") is None


def test_the_newest_epochs_stay_and_no_partial_one_inside_them(tmp_path: Path) -> None:
    for epoch in range(1, 9):
        (tmp_path / f"epoch_{epoch:05d}.pt").touch()
    for epoch in (0, 5, 8):
        (tmp_path / f"epoch_{epoch:05d}_partial.pt").touch()
    remove_old_checkpoints(tmp_path, keep=3)
    left = sorted(path.stem for path in tmp_path.iterdir())
    assert left == ["epoch_00006", "epoch_00007", "epoch_00008", "epoch_00008_partial"]
