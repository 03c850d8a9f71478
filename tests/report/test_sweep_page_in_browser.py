"""The page of a sweep in a real browser: hundreds of jobs, sorted, filtered, clicked."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from mnist_exp.report.sweep_page import write_sweep_report
from tests.helpers.finished_sweeps import results_of, write_finished_sweep
from tests.report.conftest import Browser

HOSTILE = '<img src="x" onerror=alert(1)>'
ERROR = f"{HOSTILE} is not finite" + " and more of it" * 10
RATES = ("0.001234567890123", "0.1", "1")  # the first is rounded in the table
JOBS, EACH = 180, 10  # jobs for each combination of settings but the seed


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page of 180 jobs: 3 rates, 2 texts, 3 sizes, 10 seeds; every 20th failed."""
    jobs = [
        [f"optimizer.lr={rate}", f"extra.name={name}", f"training.batch_size={size}",
         f"seed={seed}"]
        for rate in RATES for name in (HOSTILE, "plain") for size in (16, 32, 64)
        for seed in range(EACH)
    ]  # fmt: skip
    chance = random.Random(0)

    def results(number: int) -> dict[str, Any]:
        if number % 20 == 7:
            return {"status": "failed", "error": ERROR}
        return results_of([0.9 - 0.1 * abs(number // 60 - 1) + chance.random() / 100], epochs=1)

    directory = write_finished_sweep(tmp_path_factory.mktemp("swept"), jobs, results)
    return write_sweep_report(directory)


def column(page: Any, title: str) -> list[str]:
    """Return the cells drawn of a column."""
    cells: list[str] = page.evaluate(
        """(title) => {
            const place = [...document.querySelectorAll("[data-table] th")]
                .findIndex((header) => header.innerText === title);
            return [...document.querySelectorAll(`[data-table] td:nth-child(${place + 1})`)]
                .map((cell) => cell.textContent);
        }""",
        title,
    )
    return cells


def counts(page: Any, filters: list[str]) -> list[str]:
    """Return what the page says of its rows for each text of the filter."""
    said: list[str] = page.evaluate(
        """(filters) => filters.map((text) => {
            const box = document.querySelector("[data-table] input");
            box.value = text;
            box.dispatchEvent(new Event("input"));
            return document.querySelector("[data-table] output").textContent;
        })""",
        filters,
    )
    return said


def test_jobs_are_sorted_filtered_and_averaged(browser: Browser, swept: Path) -> None:
    assert swept.stat().st_size < 1_300_000
    page = browser.open(swept)
    assert counts(page, [""]) == ["180 rows"]
    assert 0 < page.locator("[data-table] tbody tr").count() < JOBS  # the rest as one scrolls
    page.get_by_role("columnheader", name="job").click()
    assert column(page, "job")[:3] == ["0", "1", "2"]
    page.get_by_role("columnheader", name="lr").dblclick()
    assert column(page, "lr")[0] == "1"
    expected = {
        "lr>0.1 batch_size=16": 20,
        "optimizer.lr<=2e-3": 60,
        "status=failed": 9,
        'status!=failed seed=8 name="<img src=x onerror=alert(1)>"': 9,
        '"<img src=x onerror=alert(1)>" seed=8': 9,
        "PLAIN lr=0.1": 30,
    }
    assert counts(page, [*expected]) == [f"{n} of {JOBS} rows" for n in expected.values()]
    assert counts(page, ["seed="]) == ["180 rows"]  # still being typed
    counts(page, ["accuracy>=90%"])
    assert min(float(cell.strip("%")) for cell in column(page, "test accuracy")) >= 90
    (said,) = counts(page, ["speed>3"])
    assert "no column speed; columns are job, status, optimizer.lr" in said
    assert page.get_by_label("filter").get_attribute("aria-invalid") == "true"
    counts(page, ["status=failed"])
    page.locator("td details summary").first.click()
    assert page.locator("td details").first.inner_text().count("and more of it") > 10
    assert page.locator("td img").count() == 0
    page.get_by_role("button", name="mean over seeds").click()
    assert counts(page, [""]) == ["18 rows"]
    assert {*column(page, "seeds")} == {"10", "9 of 10"}
    assert "±" in column(page, "test accuracy ± std over seeds")[0]


def test_charts_are_drawn_in_the_dark_and_a_click_shows_the_jobs_of_a_line(
    browser: Browser, swept: Path
) -> None:
    page = browser.open(swept, width=390, dark=True)
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.evaluate("drawAll()")
    lines = page.locator('[data-chart="across"] svg .mark-line path')
    assert lines.count() == 18
    page.wait_for_selector('[data-chart="against-0"] svg')
    lines.last.dispatch_event("click")
    found = page.get_by_label("filter").input_value()
    assert found.startswith("optimizer.lr=0.1 training.batch_size=")
    rows = page.evaluate("""readJson("chart-across").data.values""")
    finds = [row["find"] for row in rows if "find" in row]
    assert counts(page, [found, *finds]) == [f"{EACH} of {JOBS} rows"] * 19
