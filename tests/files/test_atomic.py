"""Run files are whole or absent, results carry a checksum, a lock ends with its holder."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_exp.errors import UserError
from mnist_exp.files.atomic import append_json_lines, finite, remove_unfinished, write_atomic
from mnist_exp.run import lock
from mnist_exp.run.lock import DirectoryLock, is_locked
from mnist_exp.run.results import read_results, write_results
from tests.helpers.fault_injection import exit_code, kill_at_file_event, largest_file, start


@pytest.mark.parametrize("event", range(5))
def test_a_file_killed_while_it_is_replaced_is_the_old_or_the_new(
    tmp_path: Path, event: int
) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old" * 1000)

    def work() -> None:
        kill_at_file_event(event, tmp_path)()
        write_atomic(path, b"new" * 1000)

    code = exit_code(start(work))
    assert code == (
        -signal.SIGKILL if event < 4 else 0
    )  # open, rename, delete, flush the directory
    assert path.read_bytes() == (b"old" if event < 2 else b"new") * 1000
    remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names, as POSIX has them")
def test_a_pipe_or_a_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="a pipe or a device, not a file"):
        write_atomic(pipe, b"new")
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.slow
@pytest.mark.parametrize("kill", [False, True])
@settings(max_examples=15)
@given(size=st.integers(0, 2999))
def test_a_write_that_stops_in_the_middle_leaves_the_old_file(
    tmp_path_factory: pytest.TempPathFactory, kill: bool, size: int
) -> None:
    directory = tmp_path_factory.mktemp("write")
    path = directory / "file"
    write_atomic(path, b"old")

    def work() -> None:
        largest_file(size, kill)()
        with pytest.raises(OSError, match="File too large"):
            write_atomic(path, b"new" * 1000)

    assert exit_code(start(work)) == (-signal.SIGXFSZ if kill else 0)
    assert path.read_bytes() == b"old"
    assert kill or [p.name for p in directory.iterdir()] == ["file"]


@settings(max_examples=15)
@given(size=st.integers(27, 38))
def test_a_row_that_does_not_fit_on_the_disk_leaves_the_rows_before(
    tmp_path_factory: pytest.TempPathFactory, size: int
) -> None:
    path = tmp_path_factory.mktemp("rows") / "metrics.jsonl"
    append_json_lines(path, [{"epoch": 1}])  # 13 bytes per row, so the third does not fit

    def work() -> None:
        append_json_lines(path, [{"epoch": 2}])
        largest_file(size, kill=False)()
        with pytest.raises(OSError, match="File too large"):
            append_json_lines(path, [{"epoch": 3}])

    assert exit_code(start(work)) == 0
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [1, 2]


@given(value=st.recursive(st.floats() | st.integers() | st.text(), st.lists))
def test_numbers_that_json_lacks_become_null_and_others_stay(value: object) -> None:
    assert json.loads(json.dumps(finite(value), allow_nan=False)) == finite(value)
    if isinstance(value, float):
        assert finite(value) == (value if math.isfinite(value) else None)


def test_writers_with_the_same_process_number_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on two machines: one writes and ends while the other is about to put its file in place."""
    path = tmp_path / "report.html"
    flush = os.fsync

    def meanwhile(file: int) -> None:
        monkeypatch.setattr(os, "fsync", flush)
        write_atomic(path, b"theirs")
        flush(file)

    monkeypatch.setattr(os, "fsync", meanwhile)
    write_atomic(path, b"own")
    assert path.read_bytes() == b"own"
    assert [*tmp_path.iterdir()] == [path]


def test_only_what_a_writer_left_is_removed(tmp_path: Path) -> None:
    left = (".results.json.4711.tmp", ".results.json.0a1b2c3d.4711.tmp")
    for name in (*left, ".notes.tmp", ".tmp", "run.1.tmp"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".notes.tmp", ".tmp", "run.1.tmp"]


def test_results_come_back_as_they_were(tmp_path: Path) -> None:
    assert read_results(tmp_path) is None
    results = {"status": "completed", "accuracy": {"mean": 0.98765, "std": None, "n": 1}}
    write_results(tmp_path, results)
    assert read_results(tmp_path) == results


def test_results_with_any_byte_changed_or_cut_off_are_refused(tmp_path: Path) -> None:
    results = {"status": "completed", "parameters": 98765, "folds": [1.0, 2]}
    write_results(tmp_path, results)
    path = tmp_path / "results.json"
    sound = path.read_bytes()
    for position in range(len(sound)):
        for damaged in (sound[:position], _flipped(sound, position)):
            path.write_bytes(damaged)
            try:
                assert read_results(tmp_path) == results  # only white space changed
            except UserError:
                continue


def _flipped(content: bytes, position: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 1 << (position % 8)
    return bytes(changed)


def test_results_of_another_schema_version_are_refused(tmp_path: Path) -> None:
    write_results(tmp_path, {"status": "completed"})
    path = tmp_path / "results.json"
    path.write_text(path.read_text().replace('"schema_version": 2', '"schema_version": 9'))
    with pytest.raises(UserError, match="schema version 9"):
        read_results(tmp_path)


def test_a_second_holder_is_refused_with_the_first_ones_process(tmp_path: Path) -> None:
    with DirectoryLock(tmp_path):
        assert is_locked(tmp_path)
        with pytest.raises(UserError, match=f"{tmp_path}: is in use by process {os.getpid()} on"):
            DirectoryLock(tmp_path, wait=0.05)
    assert not is_locked(tmp_path)
    DirectoryLock(tmp_path).release()


def test_a_lock_is_free_once_its_holder_was_killed(tmp_path: Path) -> None:
    def work() -> None:
        with DirectoryLock(tmp_path):
            signal.pause()

    process = start(work)
    message = ""
    while f"process {process} " not in message:  # it writes its id just after locking
        if is_locked(tmp_path):
            with pytest.raises(UserError) as refused:
                DirectoryLock(tmp_path, wait=0)
            message = str(refused.value)
    os.kill(process, signal.SIGKILL)
    assert exit_code(process) == -signal.SIGKILL
    assert not is_locked(tmp_path)
    DirectoryLock(tmp_path).release()


def test_viewers_never_make_a_lock_fail(tmp_path: Path) -> None:
    def view() -> None:
        while True:
            is_locked(tmp_path)

    viewer = start(view)
    try:
        for _ in range(50):
            DirectoryLock(tmp_path).release()
    finally:
        os.kill(viewer, signal.SIGKILL)
        exit_code(viewer)


def test_a_lock_reserves_disk_space_for_the_final_results(tmp_path: Path) -> None:
    held = DirectoryLock(tmp_path)
    file = tmp_path / lock.LOCK_FILE
    assert file.stat().st_blocks * 512 >= lock.RESERVED_BYTES
    held.give_room()
    assert file.stat().st_size <= lock.HOLDER_BYTES
    assert is_locked(tmp_path)


def test_a_directory_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/run: cannot be written to or locked"):
        DirectoryLock(tmp_path / "file" / "run")
