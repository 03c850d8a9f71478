"""The page of a sweep: what it says of running, failed and damaged jobs, and when it is written."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from mnist_exp.app.sweep.launching import report
from mnist_exp.app.sweep.pace import Pace, has_page, write_page
from mnist_exp.report.importance import groups_of, importance
from mnist_exp.report.parallel_coordinates import Axis
from mnist_exp.report.sweep_page import write_sweep_report
from mnist_exp.run.lock import DirectoryLock
from mnist_exp.run.sweep_jobs import read_jobs
from mnist_exp.run.sweep_record import JobRecord, write_job
from tests.helpers.finished_sweeps import results_of, write_finished_sweep

LRS = ("0.01", "0.1", "1")
HOSTILE = "<script>alert(1)</script>"


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def data(page: Path, name: str) -> Any:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', read(page))
    assert found is not None
    return json.loads(found[1])


def words(page: Path) -> str:
    """Return the text of a page without its scripts."""
    body = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", read(page), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def sweep(directory: Path, *names: str, failed: int | None = None, **record: Any) -> Path:
    """Write a sweep over these settings, three values each; job n has test accuracy n / 100."""
    jobs: list[list[str]] = [[]]
    for name in names:
        jobs = [[*job, f"{name}={value}"] for job in jobs for value in LRS]

    def results(number: int) -> dict[str, Any]:
        if number == failed:
            return {"status": "failed", "error": f"{HOSTILE} is not finite"}
        return results_of([number / 100])

    return write_finished_sweep(directory, jobs, results, **record)


def marks(chart: dict[str, Any]) -> str:
    return json.dumps(chart.get("layer", chart))


@pytest.mark.parametrize(
    ("names", "mark", "charts"),
    [
        (("optimizer.lr",), '"errorbar"', ["accuracy"]),
        (("optimizer.lr", "model"), '"rect"', ["accuracy"]),
        (("a.lr", "b.lr", "model"), '"hovered"', ["across", "against-0", "against-1", "against-2"]),
    ],
)
def test_the_chart_follows_from_how_many_settings_were_swept(
    tmp_path: Path, names: tuple[str, ...], mark: str, charts: list[str]
) -> None:
    page = write_sweep_report(sweep(tmp_path / "s", *names, "seed"))
    assert re.findall(r'data-chart="([^"]+)"', read(page)) == charts
    drawn = data(page, f"chart-{charts[0]}")
    if mark == '"errorbar"':
        rows = sorted(drawn["data"]["values"], key=lambda row: row["x"])
        assert [row["x"] for row in rows] == [0.01, 0.1, 1]
        assert [row["y"] for row in rows] == pytest.approx([0.01, 0.04, 0.07])  # over seeds
        assert rows[2]["best"]
        assert not rows[0]["best"]
        assert rows[2]["find"] == "optimizer.lr=1"
    else:
        assert mark in marks(drawn)
    views = data(page, "data-jobs")["views"]
    assert [view["name"] for view in views] == ["each job", "mean over seeds"]
    assert "best by validation accuracy" in words(page).lower()


def test_a_failed_job_has_its_error_as_text_and_the_sweep_a_command_to_go_on(
    tmp_path: Path,
) -> None:
    directory = sweep(tmp_path / "s", "optimizer.lr", f"x.{HOSTILE}", failed=2,
                      overrides=[f"x.y={HOSTILE}", "optimizer.lr=0.01,0.1,1"])  # fmt: skip
    page = write_sweep_report(directory)
    assert HOSTILE not in read(page)
    shown = words(page)
    assert "9 jobs: 8 completed, 1 failed" in shown
    assert "sweep.resume=" in shown
    assert "python -m mnist_exp -m" in shown
    columns = {c["title"]: c for c in data(page, "data-jobs")["views"][0]["columns"]}
    assert f"{HOSTILE} is not finite" in columns["error"]["texts"]
    assert "failed" in columns["status"]["texts"]


def test_a_running_sweep_says_so_and_how_long_it_takes(tmp_path: Path) -> None:
    directory = sweep(tmp_path / "s", "optimizer.lr")
    (directory / ".jobs" / "2.json").unlink()
    (directory / "2" / "results.json").unlink()
    started = (directory / "sweep.json").stat().st_mtime
    for number in (0, 1):
        os.utime(directory / ".jobs" / f"{number}.json", (0, started + 60 * (number + 1)))
    with DirectoryLock(directory):
        shown = words(write_sweep_report(directory))
        assert "The sweep is running" in shown
        assert "60 s a job, about 60 s left" in shown
        assert "sweep.resume" not in shown
        assert "is running" not in words(write_sweep_report(directory, ended=True))
    shown = words(write_sweep_report(directory))
    assert "is running" not in shown
    assert "sweep.resume=" in shown


def test_a_search_and_damaged_jobs_have_a_page(tmp_path: Path) -> None:
    jobs = [[f"optimizer.lr={0.001 * 1.4**n}", f"training.batch_size={10 + n}"] for n in range(20)]
    directory = write_finished_sweep(
        tmp_path / "s", jobs, lambda n: results_of([0.5 + n / 100]), listed=False
    )
    (directory / "3" / "results.json").write_text("{")
    (directory / ".jobs" / "5.json").write_text("[")
    write_job(directory, JobRecord(20, ["optimizer.lr=1", "training.batch_size=9"], "20"))
    page = write_sweep_report(directory)
    assert "21 jobs: 18 completed, 2 failed, 1 interrupted" in words(page)
    axes = data(page, "chart-across")["encoding"]["x"]["sort"]
    assert axes == ["lr", "batch_size", "validation accuracy"]
    assert "Kelley 1935" in words(page)


def test_jobs_with_a_page_of_their_own_are_linked_whatever_their_directory_is_called(
    tmp_path: Path,
) -> None:
    directory = write_finished_sweep(
        tmp_path / "s", [["seed=0"], ["seed=1"]], lambda n: results_of([0.5])
    )
    (directory / "1" / "report.html").touch()
    job = data(write_sweep_report(directory), "data-jobs")["views"][0]["columns"][0]
    assert dict(zip(job["texts"], job["links"], strict=True)) == {"0": None, "1": "./1/report.html"}


def test_the_page_is_rewritten_when_the_last_one_is_ten_seconds_old_and_at_the_end(
    tmp_path: Path,
) -> None:
    """By the file's time, which the processes of a sweep share."""
    directory = sweep(tmp_path / "s", "optimizer.lr")
    page = directory / "report.html"

    def written_after(seconds: float) -> bool:
        page.write_text("old")
        os.utime(page, (0, time.time() - seconds))
        Pace().update(directory, page=True)
        return read(page) != "old"

    Pace().update(directory, page=False)
    assert not page.exists()
    Pace().update(directory, page=True)
    assert page.exists()
    assert [written_after(seconds) for seconds in (5, 11, -60)] == [False, True, True]
    busy = Pace(due=time.monotonic() + 60)
    page.unlink()
    busy.update(directory, page=True)
    assert not page.exists()
    page.write_text("old")
    report(directory, OmegaConf.create({}))  # of a version without report.enabled
    assert read(page) != "old"
    enabled = [OmegaConf.create({"report": {"enabled": value}}) for value in (True, None, False)]
    assert [*map(has_page, enabled)] == [True, True, False]


def test_an_error_of_the_page_stops_no_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = sweep(tmp_path / "s", "optimizer.lr")
    (directory / "report.html").mkdir()
    write_page(directory, read_jobs(directory))
    assert "is not up to date" in capsys.readouterr().err


def test_importance_is_the_share_of_variance_beyond_chance() -> None:
    settings = {"a": ["1", "2"] * 4, "b": ["x", "x", "y", "y"] * 2, "alike": ["1"] * 8}
    values = [0.0, 1.0, 0.1, 1.1, 0.0, 1.0, 0.1, 1.1]
    found = dict(importance(settings, values))
    # of 2.02 in total, a explains 2 and b 0.02: 1 - (1 - 2 / 2.02) 7 / 6, and less than chance
    assert found["a"] == pytest.approx(1 - (0.02 / 2.02) * 7 / 6)
    assert (found["b"], found["alike"]) == (0.0, None)
    assert importance(settings, values[:7]) == []
    groups = groups_of([str(n) for n in range(10)])
    assert groups == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert groups_of(["1"] * 6 + [str(n) for n in range(2, 7)])[:6] == [0] * 6


def test_an_axis_of_parallel_coordinates_places_and_labels_its_values() -> None:
    rates = Axis("lr", ["0.0001", "0.01", "1"])
    assert rates.places == pytest.approx({"0.0001": 0, "0.01": 0.5, "1": 1})
    assert Axis("model", ["a", "b", ""]).ticks() == [(0, "a"), (0.5, "b"), (1, "default")]
    many = Axis("n", [str(n) for n in range(1, 16)])
    assert many.ticks() == [(0, "1"), (0.5, "8"), (1, "15")]
    assert Axis("one", ["3"]).places == {"3": 0.5}


def test_pages_load_neither_torch_nor_matplotlib() -> None:
    code = "import mnist_exp.report.sweep_page, mnist_exp.report.comparison_page, sys; "
    code += "sys.exit(bool({'torch', 'matplotlib', 'sklearn'} & {*sys.modules}))"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0
