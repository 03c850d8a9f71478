"""predictions.npz: read back as it was written, and refused where it is damaged."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnist_exp.errors import UserError
from mnist_exp.run.predictions import (
    NAME,
    Predictions,
    joined,
    read_predictions,
    write_predictions,
)


def some(images: int = 6, classes: int = 3) -> Predictions:
    shares = np.random.default_rng(0).dirichlet(np.ones(classes), images).astype(np.float32)
    rows = np.arange(images)
    half = images // 2
    return joined(
        (fold, part, part % classes, shares[part])
        for fold, part in ((1, rows[:half]), (2, rows[half:]))
    )


def archive(**arrays: Any) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def test_predictions_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert read_predictions(tmp_path, 3) is None
    written = some()
    write_predictions(tmp_path, written)
    found = read_predictions(tmp_path, 3)
    assert found is not None
    for name, values in vars(written).items():
        np.testing.assert_array_equal(getattr(found, name), values)
        assert getattr(found, name).dtype == values.dtype
    assert found.fold.tolist() == [1, 1, 1, 2, 2, 2]
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize(
    "change",
    [
        {"label": np.array([0, 1, 2, 0, 1, 3], np.int16)},  # no such class
        {"index": np.arange(5)},
        {"index": np.arange(6) - 1},
        {"fold": np.zeros(6, np.int16)},
        {"probabilities": np.full((6, 3), np.nan, np.float32)},
        {"probabilities": np.ones((6, 4), np.float32)},
        {"label": np.array([None] * 6)},  # objects are pickles
    ],
)
def test_other_content_is_refused(tmp_path: Path, change: dict[str, np.ndarray]) -> None:
    (tmp_path / NAME).write_bytes(archive(**{**vars(some()), **change}))
    with pytest.raises(UserError, match=r"predictions\.npz: is damaged"):
        read_predictions(tmp_path, 3)


@pytest.mark.parametrize("content", [b"", b"PK", pickle.dumps([1]), archive(label=np.arange(3))])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        read_predictions(tmp_path, 3)
    write_predictions(tmp_path, some())
    whole = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="is damaged"):
        read_predictions(tmp_path, 3)


def test_an_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_exp.run.predictions.LARGEST", 20_000)
    content = io.BytesIO()
    np.savez_compressed(content, label=np.zeros(100_000))
    assert len(content.getvalue()) < 20_000
    (tmp_path / NAME).write_bytes(content.getvalue())
    with pytest.raises(UserError, match="at most 20,000"):
        read_predictions(tmp_path, 3)


def test_what_could_not_be_read_again_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mnist_exp.run.predictions.LARGEST", 20_000)
    write_predictions(tmp_path, some(300))
    read_predictions(tmp_path, 3)
    (tmp_path / NAME).unlink()
    write_predictions(tmp_path, some(1000))
    assert "predictions.npz is not written" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []
