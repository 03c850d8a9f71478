"""What other systems do differently, imitated here: no forks, no replacing of open files."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

import pytest

from mnist_exp.app import run_directories
from mnist_exp.cpu import fork_server
from mnist_exp.experiment.run import run_experiment
from mnist_exp.files import atomic
from mnist_exp.run.command_line import override
from mnist_exp.run.lock import is_locked
from tests.conftest import Compose

WINDOWS = SimpleNamespace(platform="win32")


def test_a_file_that_another_program_reads_is_replaced_when_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, tries = tmp_path / "results.json", []
    replace = Path.replace

    def as_on_windows(source: Path, target: Path) -> Path:
        tries.append(target)
        if len(tries) < 3:
            raise PermissionError(13, "Access is denied", str(target))
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", as_on_windows)
    with pytest.raises(PermissionError):  # elsewhere it says what it says
        atomic.write_atomic(path, b"new")
    assert list(tmp_path.iterdir()) == []
    tries.clear()
    monkeypatch.setattr(atomic, "REPLACE_SECONDS", 60.0)
    atomic.write_atomic(path, b"new")
    assert (path.read_bytes(), len(tries)) == (b"new", 3)
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_is_given_back_where_no_open_file_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink

    def as_on_windows(path: Path, missing_ok: bool = False) -> None:
        if is_locked(path.parent):
            raise PermissionError(13, "used by another process", str(path))
        unlink(path, missing_ok)

    claim = run_directories.claim_directory(tmp_path / "outputs" / "run", "run", named=True)
    assert is_locked(claim.directory)
    monkeypatch.setattr(Path, "unlink", as_on_windows)
    monkeypatch.setattr(run_directories, "sys", WINDOWS)
    assert claim.give_back()
    assert list(tmp_path.iterdir()) == []


def test_printed_paths_of_windows_have_slashes_and_no_quotes() -> None:
    assert override("resume", PureWindowsPath(r"outputs\2026-11-26\run")) == (
        "resume=outputs/2026-11-26/run"
    )


@pytest.mark.slow
@pytest.mark.engines
@pytest.mark.each_push
def test_folds_train_side_by_side_to_the_same_weights_without_forks(
    tmp_path: Path, compose_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setattr(fork_server, "sys", WINDOWS)
    small = ("model=mlp100", "cv.n_splits=2", "data.subset=100", "training.epochs=1", "threads=1")

    def weights(jobs: int) -> list[str]:
        config = compose_config(*small, "plots.enabled=false", f"cv.n_jobs={jobs}")
        folds = run_experiment(config, tmp_path / str(jobs))["folds"]
        return [fold["weights_sha256"] for fold in folds]

    assert weights(2) == weights(1)
