"""The list of runs: sorted, robust to damage, and free of heavy imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_exp.app.commands.view_results import best, find_runs, latest, main
from mnist_exp.run.results import write_results


def test_the_table_sorts_and_survives_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, accuracy in {"old": 0.9, "best": 0.99, "new": 0.5}.items():
        numbers = {"mean": accuracy, "std": None, "n": 1}
        results = {"status": "completed", "model": "m", "accuracy": numbers}
        write_results(tmp_path / "day" / name, results)
        stamp = 1000 + len(name) if name == "old" else 2000 + len(name)
        os.utime(tmp_path / "day" / name / "results.json", (stamp, stamp))
    (tmp_path / "multirun" / "0").mkdir(parents=True)
    (tmp_path / "multirun" / "0" / "results.json").write_text("{")
    entries = list(find_runs(tmp_path))
    assert [e.directory.name for e in best(entries)] == ["best", "old", "new", "0"]
    assert [e.directory.name for e in latest(entries)] == ["0", "best", "new", "old"]
    assert main([str(tmp_path), "--sort", "accuracy", "--limit", "1"]) == 0
    shown = capsys.readouterr().out
    assert "99.00%" in shown
    assert "90.00%" not in shown
    assert "multirun/0: damaged (" in shown


def test_the_table_needs_no_heavy_package() -> None:
    heavy = "{'torch', 'matplotlib', 'numpy'}"
    code = f"import sys, mnist_exp.app.commands.view_results; print({heavy} & {{*sys.modules}})"
    root = Path(__file__).parents[3]
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert shown.stdout == "set()\n"
