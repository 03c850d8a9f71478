"""The page that compares runs: what it takes in, what it names them, what it draws."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mnist_exp.errors import UserError
from mnist_exp.report import comparison_page
from mnist_exp.report.comparison_page import write_comparison
from mnist_exp.run.results import finished_results
from tests.helpers.finished_sweeps import results_of, write_finished_sweep, write_run
from tests.report.conftest import Browser

HOSTILE = "</script><img src=x onerror=alert(1)>"


def config(lr: float, seed: int = 0, name: str = "") -> dict[str, Any]:
    return {"seed": seed, "training": {"epochs": 3}, "optimizer": {"lr": lr}, "extra": {"x": name}}


def run(directory: Path, lr: float, seed: int = 0, name: str = "", folds: int = 1) -> Path:
    overrides = [f"optimizer.lr={lr}", f"seed={seed}", f"extra.x={name}"]
    results = results_of([0.9 + fold / 100 - lr for fold in range(folds)])
    return write_run(directory, results, config(lr, seed, name), overrides)


def data(page: Path, name: str) -> Any:
    text = page.read_text(encoding="utf-8")
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', text)
    assert found is not None
    return json.loads(found[1])


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Compare two runs, one of k-fold, a copy, and a sweep of three jobs, one of which failed."""
    run(tmp_path / "a", 0.01)
    run(tmp_path / "b", 0.1, name=HOSTILE, folds=3)
    run(tmp_path / "copy", 0.01)
    jobs = [["optimizer.lr=0.02", f"seed={seed}"] for seed in range(3)]
    sweep = write_finished_sweep(
        tmp_path / "sweep", jobs,
        lambda n: results_of([0.8]) if n < 2 else {"status": "failed", "error": HOSTILE},
    )  # fmt: skip
    for seed in range(3):
        (sweep / str(seed) / "config.yaml").write_text(json.dumps(config(0.02, seed)))
    names = ("a", "b", "copy", "sweep")
    return write_comparison([tmp_path / name for name in names], tmp_path / "comparison.html")


def test_a_damaged_run_is_named_and_is_no_repeat(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [run(tmp_path / "a", 0.01), run(tmp_path / "b", 0.01, folds=2)]
    (paths[1] / "results.json").write_text('{"a":')
    page = write_comparison(paths, tmp_path / "comparison.html")
    assert f"warning: {paths[1] / 'results.json'}: " in capsys.readouterr().err
    columns = {column["key"]: column for column in data(page, "data-runs")["views"][0]["columns"]}
    assert columns["status"]["texts"] == ["completed", "damaged"]


def test_runs_tested_on_other_numbers_of_images_are_said_not_to_compare(tmp_path: Path) -> None:
    paths = [run(tmp_path / name, 0.01 + n / 100, folds=1 + n) for n, name in enumerate("ab")]
    text = write_comparison(paths, tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert "their accuracies do not compare directly" in text
    text = write_comparison(paths[:1], tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert "compare directly" not in text


def test_runs_and_the_jobs_of_sweeps_are_compared_without_repeats(page: Path) -> None:
    views = data(page, "data-runs")["views"]
    assert [view["name"] for view in views] == ["each run", "mean over seeds"]
    columns = {column["key"]: column for column in views[0]["columns"]}
    directories = [Path(text).relative_to(page.parent) for text in columns["directory"]["texts"]]
    assert [path.as_posix() for path in directories] == ["a", "b", "sweep/0", "sweep/1", "sweep/2"]
    assert columns["optimizer.lr"]["numbers"] == [0.01, 0.1, 0.02, 0.02, 0.02]
    assert columns["test_accuracy"]["texts"][1] == "81.00% ± 1.00%"
    assert "parameters" not in columns  # alike
    assert columns["error"]["texts"][4] == HOSTILE
    text = page.read_text(encoding="utf-8")
    assert HOSTILE not in text
    assert re.search(r"<li>[^<]*copy</li>", text)
    band = data(page, "chart-train_accuracy")["data"]["values"]
    (label,) = {row["run"] for row in band if "low" in row}
    assert label == f"lr=0.1, x={HOSTILE}, seed=0"
    assert len(data(page, "chart-times")["data"]["values"]) == 4


def test_the_comparison_works_in_a_browser(browser: Browser, page: Path) -> None:
    opened = browser.open(page)
    opened.evaluate("drawAll()")
    opened.wait_for_selector('[data-chart="times"] svg')
    assert opened.locator('[data-chart="validation_loss"] svg .mark-line path').count() == 3
    opened.locator('[data-chart="train_loss"]').scroll_into_view_if_needed()
    opened.locator('[data-chart="train_loss"] svg.marks').hover(position={"x": 200, "y": 80})
    opened.wait_for_selector("#vg-tooltip-element.visible")
    assert "epoch" in opened.locator("#vg-tooltip-element").inner_text()
    opened.get_by_label("filter").fill("lr=0.02 status=completed")
    assert opened.locator("[data-table] tbody tr").count() == 2
    assert opened.locator("img").count() == 0


def test_only_the_runs_that_are_drawn_are_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def noted(directory: Path) -> dict[str, Any] | None:
        read.append(directory.name)
        return finished_results(directory)

    monkeypatch.setattr(comparison_page, "finished_results", noted)
    monkeypatch.setattr(comparison_page, "MOST_DRAWN", 2)
    for number in range(4):
        run(tmp_path / str(number), lr=number / 10)
    page = write_comparison([tmp_path], tmp_path / "page.html")
    assert read == ["0", "1"]  # the best
    assert len(data(page, "chart-times")["data"]["values"]) == 2
    assert "2 more" in page.read_text(encoding="utf-8")


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none", "no such directory"), (tmp_path, "holds no run")):
        with pytest.raises(UserError, match=reason):
            write_comparison([path], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
