"""Output without a reader is dropped, and nothing else changes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mnist_exp.terminal import DroppingFile, outlive_readers
from tests.helpers.fault_injection import KFOLD, command, few_images, outcome, status


def no_reader() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    for descriptor in (1, 2):
        os.dup2(writer, descriptor)


def full_disk() -> None:
    for descriptor in (1, 2):
        os.dup2(os.open("/dev/full", os.O_WRONLY), descriptor)


def closed() -> None:
    for descriptor in range(3):
        os.close(descriptor)
    sys.stdin = sys.stdout = sys.stderr = None


def leaves_after_a_line() -> None:
    reader, writer = os.pipe()
    os.dup2(writer, 1)
    os.close(writer)
    if os.fork() == 0:
        os.close(1)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)


LOST = [no_reader, full_disk, closed, leaves_after_a_line]


@pytest.mark.slow
@pytest.mark.parametrize("lose", LOST)
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_outlives_its_reader(tmp_path: Path, lose: Callable[[], None], jobs: int) -> None:
    arguments = (*few_images(), *KFOLD, f"cv.n_jobs={jobs}", "hydra.run.dir=run")
    assert command(*arguments, cwd=tmp_path, prepare=lose)[0] == 0
    outcome(tmp_path / "run")
    again = command("resume=run", cwd=tmp_path, prepare=lose)[0]
    assert again == 0
    refused = command("resume=run", "seed=3", cwd=tmp_path, prepare=lose)[0]
    assert refused == 2


@pytest.mark.slow
@pytest.mark.parametrize("lose", LOST)
def test_a_sweep_outlives_its_reader_and_says_how_it_ended(
    tmp_path: Path, lose: Callable[[], None]
) -> None:
    arguments = ("--multirun", *few_images(), *KFOLD, "training.epochs=1")
    good = command(*arguments, "seed=1,2", "hydra.sweep.dir=good", cwd=tmp_path, prepare=lose)[0]
    assert good == 0
    assert [status(tmp_path / "good" / job)[0] for job in "01"] == ["completed"] * 2
    bad = (*arguments, "data.subset=3", "seed=1,2", "hydra.sweep.dir=bad")
    assert command(*bad, cwd=tmp_path, prepare=lose)[0] == 1
    assert [status(tmp_path / "bad" / job)[0] for job in "01"] == ["failed"] * 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "module",
    [
        ["mnist_exp", "--cfg", "job"],
        ["mnist_exp", "--help"],
        ["mnist_exp", "view-results", "."],
    ],
)
@pytest.mark.parametrize("redirection", ["| true", ">&-", ">/dev/full", "<&-"])
def test_the_interpreter_ends_in_silence(
    tmp_path: Path, module: list[str], redirection: str
) -> None:
    line = f"set -o pipefail; {sys.executable} -m {' '.join(module)} {redirection}"
    ended = subprocess.run(
        ["bash", "-c", line],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.fixture
def streams() -> Iterator[None]:
    before = sys.stdout, sys.stderr
    yield
    sys.stdout, sys.stderr = before


@pytest.mark.usefixtures("streams")
@pytest.mark.parametrize("buffering", [0, -1])
def test_what_the_encoding_lacks_is_written_as_an_escape(tmp_path: Path, buffering: int) -> None:
    file = open(tmp_path / "out", "wb", buffering)  # noqa: SIM115
    sys.stdout = io.TextIOWrapper(file, encoding="ascii", write_through=buffering == 0)
    print("before")
    outlive_readers()
    print("97.0 ± 0.1 % of 零, run_\udcff")
    sys.stdout.flush()
    sent = (tmp_path / "out").read_bytes()
    assert sent == b"before\n97.0 \\xb1 0.1 % of \\u96f6, run_\\udcff\n"


@pytest.mark.usefixtures("streams")
def test_a_stream_replaced_by_other_code_stays() -> None:
    sys.stdout = kept = io.StringIO()
    outlive_readers()
    assert sys.stdout is kept


def test_a_slow_reader_gets_all_even_where_writes_do_not_wait() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    received = []

    def read() -> None:
        with open(reader, "rb") as file:
            received.append(file.read())

    thread = threading.Thread(target=read)
    with DroppingFile(writer, "w") as file:
        timer = threading.Timer(0.05, thread.start)
        timer.start()
        assert file.write(bytes(1_000_000)) == 1_000_000
    timer.join()
    thread.join()
    assert received == [bytes(1_000_000)]
