"""``python -m mnist_exp report``: the page of a sweep, and of several directories compared."""

from __future__ import annotations

import html
from pathlib import Path

import pytest

from mnist_exp.app import commands
from tests.helpers.finished_sweeps import results_of, write_finished_sweep, write_run


def write_sweep(directory: Path) -> Path:
    jobs = [["optimizer.lr=0.1"], ["optimizer.lr=1"]]
    return write_finished_sweep(directory, jobs, lambda n: results_of([0.5 + n / 10]))


def test_a_sweep_gets_its_page_in_its_directory_and_nowhere_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write_sweep(tmp_path / "sweep")
    assert commands.run("report", str(sweep)) == 0
    page = sweep / "report.html"
    assert capsys.readouterr().out == f"{page}\n"
    assert "2 jobs: 2 completed" in page.read_text(encoding="utf-8")
    page.unlink()
    assert commands.run("report", str(sweep), "--output", str(tmp_path / "x.html")) == 2
    assert f"it goes to {sweep}" in capsys.readouterr().err
    assert not page.exists()
    assert not (tmp_path / "x.html").exists()


def test_several_are_compared_in_a_file_that_names_the_command_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(Path("run"), results_of([0.9]), {"seed": 0}, ["seed=0"])
    write_sweep(Path("sweep"))
    assert commands.run("report", "run", "sweep", "--output", "pages/x 1.html") == 0
    assert commands.run("report", "run", "sweep") == 0
    assert capsys.readouterr().out.split("\n") == ["pages/x 1.html", "comparison.html", ""]
    pages = [
        Path(name).read_text(encoding="utf-8") for name in ("pages/x 1.html", "comparison.html")
    ]
    assert all("Comparison of 3 runs" in page for page in pages)
    written = "python -m mnist_exp report run sweep"
    assert f"{written} --output 'pages/x 1.html'<" in html.unescape(pages[0])
    assert f"{written}<" in html.unescape(pages[1])
