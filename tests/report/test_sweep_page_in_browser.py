"""The page of a sweep in a real browser: a thousand jobs, sorted, filtered, clicked."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from mnist_exp.report.sweep_page import write_sweep_report
from tests.helpers.finished_sweeps import results_of, write_finished_sweep
from tests.report.conftest import Browser

HOSTILE = "<img src=x onerror=alert(1)>"
ERROR = f"{HOSTILE} is not finite" + " and more of it" * 10
RATES = ("0.001", "0.01", "0.1", "1", "10")


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page of 1,000 jobs: 5 rates, 2 texts, 4 sizes, 25 seeds; every 50th failed."""
    jobs = [
        [f"optimizer.lr={rate}", f"extra.name={name}", f"training.batch_size={size}",
         f"seed={seed}"]
        for rate in RATES for name in (HOSTILE, "plain") for size in (16, 32, 64, 128)
        for seed in range(25)
    ]  # fmt: skip
    chance = random.Random(0)

    def results(number: int) -> dict[str, Any]:
        if number % 50 == 7:
            return {"status": "failed", "error": ERROR}
        return results_of([0.9 - 0.1 * abs(number // 200 - 2) + chance.random() / 100], epochs=1)

    directory = write_finished_sweep(tmp_path_factory.mktemp("thousand"), jobs, results)
    return write_sweep_report(directory)


def column(page: Any, title: str) -> list[str]:
    place = page.locator("[data-table] th").all_inner_texts().index(title)
    cells: list[str] = page.locator(f"[data-table] td:nth-child({place + 1})").all_inner_texts()
    return cells


def count(page: Any) -> str:
    return str(page.locator("[data-table] output").inner_text())


def test_a_thousand_jobs_are_sorted_filtered_and_averaged(browser: Browser, thousand: Path) -> None:
    assert thousand.stat().st_size < 2_500_000
    page = browser.open(thousand)
    assert count(page) == "1,000 rows"
    drawn = page.locator("[data-table] tbody tr").count()
    assert 0 < drawn < 400  # the rest as one scrolls
    page.get_by_role("columnheader", name="job").click()
    assert column(page, "job")[:3] == ["0", "1", "2"]
    page.get_by_role("columnheader", name="lr").click()
    page.get_by_role("columnheader", name="lr").click()
    assert column(page, "lr")[0] == "10"
    box = page.get_by_label("filter")
    for text, rows in {
        "lr>0.1 batch_size=16": 100,
        "optimizer.lr<=1.0e-3": 200,
        "status=failed": 20,
        'status!=failed seed=7 name="<img src=x onerror=alert(1)>"': 10,
        "PLAIN lr=0.1": 100,
        "accuracy>=90%": None,
        "seed=": 1000,
    }.items():
        box.fill(text)
        if rows is None:
            assert all(float(cell.strip("%")) >= 90 for cell in column(page, "test accuracy"))
        else:
            assert count(page).startswith(f"{rows:,} "), text
    box.fill("speed>3")
    assert "no column speed; columns are job, status, optimizer.lr" in count(page)
    assert box.get_attribute("aria-invalid") == "true"
    box.fill("status=failed")
    page.locator("td details summary").first.click()
    assert page.locator("td details").first.inner_text().count("and more of it") > 10
    assert page.locator("td img").count() == 0
    box.fill("")
    page.get_by_role("button", name="mean over seeds").click()
    assert count(page) == "40 rows"
    assert column(page, "seeds")[0].startswith("2")
    assert "±" in column(page, "test accuracy ± std over seeds")[0]


def test_charts_are_drawn_in_the_dark_and_a_click_shows_the_jobs_of_a_line(
    browser: Browser, thousand: Path
) -> None:
    page = browser.open(thousand, width=390, dark=True)
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.evaluate("drawAll()")
    page.wait_for_selector('[data-chart="across"] svg .mark-line path')
    lines = page.locator('[data-chart="across"] svg .mark-line path')
    assert lines.count() == 40
    page.wait_for_selector('[data-chart="against-0"] svg')
    lines.last.dispatch_event("click")
    found = page.get_by_label("filter").input_value()
    assert found.startswith("optimizer.lr=0.1 training.batch_size=")
    assert count(page).startswith("25 of 1,000")
