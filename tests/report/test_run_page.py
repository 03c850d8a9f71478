"""The page of a run, in a browser and as text."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mnist_exp.app.commands import run as run_command
from mnist_exp.data import Dataset
from mnist_exp.errors import UserError
from mnist_exp.experiment.run import run_experiment
from mnist_exp.experiment.sweep_defaults import keeps_predictions, reports
from mnist_exp.interruption import Interrupted
from mnist_exp.report.faults import only_warned
from mnist_exp.report.images import RunImages
from mnist_exp.report.run_facts import facts
from mnist_exp.report.run_files import read_run
from mnist_exp.report.run_page import run_page
from mnist_exp.report.tables import link
from mnist_exp.run.config_sources import config_flags
from mnist_exp.run.predictions import NAME as PREDICTIONS
from mnist_exp.run.predictions import read_predictions
from mnist_exp.run.report import summary_lines
from mnist_exp.run.results import read_results, write_results
from mnist_exp.run.saved_config import training_config
from tests.conftest import Compose
from tests.report.conftest import Browser

OLD_RUNS = Path(__file__).parents[1] / "old_runs"
OVERRIDES = (
    "model=mlp100", "constraint=memristor", "gradients=epoch", "training.epochs=2",
    "data=npz", "cv.n_splits=2", "augmentation=light", "plots.enabled=false",
)  # fmt: skip
HOSTILE = "<script>window.harmed=1</script>&amp;"


def embedded(page: str, name: str) -> Any:
    """Return what a page holds for its scripts."""
    return json.loads(page.partition(f'id="data-{name}">')[2].partition("</script>")[0])


def as_hydra_leaves(directory: Path, overrides: tuple[str, ...], **choices: str) -> None:
    (directory / ".hydra").mkdir(exist_ok=True)
    (directory / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([*overrides]))
    hydra = {"hydra": {"runtime": {"choices": choices}}}
    (directory / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump(hydra))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, compose_config: Compose, mnist: Dataset) -> Path:
    """Two folds on memristors with collected gradients; the page is written again from disk."""
    directory = tmp_path_factory.mktemp("report")
    images, labels = mnist.images[:400].numpy(), mnist.labels[:400].numpy()
    file = directory / "few.npz"
    np.savez(
        file, x_train=images[:300], y_train=labels[:300], x_test=images[300:], y_test=labels[300:]
    )
    run_experiment(compose_config(*OVERRIDES, f"data.file={file}"), directory / "run")
    page = (directory / "run" / "report.html").read_text()
    assert "evaluation after epochs" in page  # so the page of a run that just ended knows its time
    curves = embedded(page, "curves")
    choices = {"model": "mlp100", "constraint": "memristor", "optimizer": "_recipe_memristor"}
    as_hydra_leaves(directory / "run", OVERRIDES, **choices)
    assert run_command("report", str(directory / "run")) == 0
    again = (directory / "run" / "report.html").read_text()
    assert embedded(again, "curves") == curves != {"epochs": [], "steps": []}
    return directory / "run"


@pytest.fixture(scope="module")
def page(run: Path, chromium: Any) -> Iterator[Any]:
    """The run's page with every chart drawn, for several tests."""
    browser = Browser(chromium)
    opened = browser.open(run / "report.html")
    opened.evaluate("drawAll()")
    yield opened
    browser.close()


@pytest.fixture
def changed(run: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be changed."""
    return Path(shutil.copytree(run, tmp_path / "run"))


def rewrite(directory: Path, **entries: Any) -> None:
    results = read_results(directory)
    assert results is not None
    write_results(directory, {**results, **entries})


def text_of(directory: Path) -> str:
    """Return what a page shows before its scripts run, without tags."""
    body = run_page(read_run(directory)).partition("<body>")[2].partition("<script")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def test_cells_show_their_misclassified_images(run: Path, page: Any) -> None:
    predictions = read_predictions(run, 10)
    assert predictions is not None
    predicted = predictions.predicted
    cells = np.zeros((10, 10), int)
    np.add.at(cells, (predictions.label, predicted), 1)
    np.fill_diagonal(cells, 0)
    true, guess = np.unravel_index(cells.argmax(), cells.shape)
    page.locator("#matrix tbody tr").nth(0).locator("button").first.click()
    page.locator("#matrix tbody tr").nth(int(true)).locator("td").nth(int(guess)).click()
    assert page.locator("#cell h3").inner_text() == (
        f"true {true}, predicted {guess}: {cells.max()}"
    )
    figures = page.locator("#cell figure")
    assert figures.count() == min(20, cells.max())
    own = np.flatnonzero((predictions.label == true) & (predicted == guess))
    for caption in figures.locator("figcaption").all_inner_texts():
        label, given, share, _, number = caption.split("\n")
        assert (label, given) == (f"label {true}", f"predicted {guess}")
        (row,) = [i for i in own if predictions.index[i] == int(number.removeprefix("no. "))]
        assert abs(float(share[4:-1]) / 100 - predictions.confidence[row]) < 1e-3
    page.wait_for_selector("#cell canvas[data-drawn]")
    bright = page.evaluate(
        "(() => { const c = document.querySelector('#cell canvas');"
        "return Math.max(...c.getContext('2d').getImageData(0, 0, c.width, c.height).data"
        ".filter((_, i) => i % 4 < 3)) })()"
    )
    assert bright > 128
    total = page.locator("#matrix tbody td").all_inner_texts()
    page.select_option("#matrix-fold", "2")
    of_fold = page.locator("#matrix tbody td").all_inner_texts()
    assert sum(map(int, total)) == 400
    assert sum(map(int, of_fold)) == 200


def test_the_reader_chooses_curves_copies_and_searches(page: Any) -> None:
    assert page.locator(".chart svg.marks").count() == page.locator(".chart").count() >= 8
    first = page.locator("#curves .columns > div").first
    first.locator("select").select_option(label="share of updates rounded away")
    page.wait_for_function(
        "document.querySelector('#curves .chart').textContent.includes('rounded away')"
    )
    assert "fold 2" in first.locator(".chart").inner_text()
    page.select_option("#curve-fold", "1")
    page.wait_for_function("!document.querySelector('#curves .chart').textContent.includes('fold')")
    page.locator("#repeat button.copy").first.click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "python -m mnist_exp " + " ".join(OVERRIDES)
    visible = "#config li:not(:has(li)):visible"
    everything = page.locator(visible).count()
    page.fill("#config-search", "lr_pos")
    assert page.locator(visible).all_inner_texts() == ["lr_pos 0.12"]
    page.fill("#config-search", "")
    page.check("#config-marked")
    marked = page.locator(visible).all_inner_texts()
    assert 5 < len(marked) < everything / 2
    assert "epochs 2 default 10" in marked
    assert "label_smoothing 0.1 default 0.0" in marked
    headers = page.locator("#confusion th", has_text="recall")
    headers.click()
    shown = page.locator("#confusion table.sortable td:nth-child(3)").all_inner_texts()
    shares = [float(text.rstrip("%")) for text in shown]
    assert shares == sorted(shares)


def test_it_fits_a_phone_in_the_dark(run: Path, browser: Browser) -> None:
    page = browser.open(run / "report.html", width=390, dark=True)
    page.evaluate("drawAll()")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    colour = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(colour)
    assert before != "rgb(255, 255, 255)"
    page.click("#theme")
    assert page.evaluate(colour) == "rgb(255, 255, 255)"


def hovered(page: Any, chart: str) -> str:
    """Return what the cursor reads in the middle of a chart."""
    container = page.locator(f'[data-chart="{chart}"]').first
    container.scroll_into_view_if_needed()
    page.wait_for_selector(f'[data-chart="{chart}"][data-drawn] svg')
    box = container.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.5)
    page.mouse.move(box["x"] + box["width"] * 0.31, box["y"] + box["height"] * 0.5)
    page.wait_for_selector("#vg-tooltip-element.visible")
    return str(page.locator("#vg-tooltip-element").inner_text())


def test_names_and_errors_show_as_text(changed: Path, browser: Browser) -> None:
    names = [HOSTILE, "St. Bernard", "a[b", "women's", *"456789"]
    rewrite(changed, model=HOSTILE, class_names=names, status="failed", error=HOSTILE)
    as_hydra_leaves(changed, (f"model.name={HOSTILE}",), model=HOSTILE)
    assert run_command("report", str(changed)) == 0
    page = browser.open(changed / "report.html")
    assert page.locator("h1").inner_text().startswith(HOSTILE)
    assert page.locator("pre.error").inner_text() == HOSTILE
    assert page.locator("#matrix tbody th").first.inner_text() == HOSTILE
    assert HOSTILE in page.locator("#confusion table.sortable td").first.inner_text()
    assert page.evaluate("window.harmed") is None
    tooltip = hovered(page, "norms-by-class")
    for name in names[1:4]:  # Vega takes such characters in the name of a field for a path
        assert re.search(rf"{re.escape(name)}\s*\t\s*\d", tooltip)
    tooltip = hovered(page, "epochs")
    assert len(re.findall(r"fold \d, \w+\s*\t\s*\d", tooltip)) == 4


def test_without_predictions_the_page_says_how_to_get_them(changed: Path) -> None:
    assert "test images 400 " in text_of(changed)
    (changed / PREDICTIONS).unlink()
    text = text_of(changed)
    assert "report.predictions=true" in text
    assert "tests of an image 400 " in text  # folds may share images


def test_images_that_several_folds_test_count_once(run: Path) -> None:
    files = read_run(run)
    assert files.predictions is not None
    twice = replace(files.predictions, index=files.predictions.index // 2)
    overview = facts(replace(files, predictions=twice))["overview"]
    assert dict(overview)["test images"] == "200 (400 tests)"


@pytest.mark.parametrize("size", [48, 128])
def test_too_many_images_leave_out_those_of_cells_first(run: Path, size: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 3, size, size), np.uint8)
    files = read_run(run)
    plain = run_page(files)
    taken = {one["row"] for name in ("predictions", "mistakes") for one in embedded(plain, name)}
    others = np.array(sorted({*range(400)} - taken))
    page = run_page(files, RunImages(noise, np.arange(400) % 10, others))
    count = embedded(page, "sprite")["count"]
    assert embedded(page, "predictions")[0]["tile"] == 0
    cells = embedded(page, "cells")["tile"]
    assert max(cells) >= count > max(one["tile"] for one in embedded(page, "predictions")[:9])
    assert '<section id="predictions">' in page
    samples = any(one["tile"] < count for one in embedded(page, "samples"))
    assert ('<section id="samples">' in page) == samples == (size == 48)


def test_damaged_files_are_left_out_with_a_reason(
    changed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (changed / PREDICTIONS).write_bytes(b"PK")
    assert run_command("report", str(changed)) == 0
    warnings = capsys.readouterr().err.splitlines()
    assert warnings[0].startswith(f"warning: {changed / PREDICTIONS}: is damaged (")
    assert warnings[0].endswith(" The page leaves it out.")
    (changed / "metrics.jsonl").write_text("{\n")
    (changed / "steps.jsonl").write_text(f'{{"step": {"[" * 60}{"]" * 60}}}\n')
    (changed / "device_evaluation.json").write_text('{"times": 1}')
    next(changed.glob("fold_1/gradients/epoch_1/gradient_stats.json")).write_text("{}")
    text = text_of(changed)
    for name in (
        PREDICTIONS,
        "metrics.jsonl",
        "steps.jsonl",
        "device_evaluation.json",
        "gradient_stats.json",
    ):
        assert re.search(rf"Left out: \S*{name}", text)
    results = json.loads((changed / "results.json").read_text())
    (changed / "results.json").write_text(json.dumps({**results, "seed": 1}))
    with pytest.raises(UserError, match="checksum"):
        read_run(changed)


@pytest.mark.parametrize("name", ["finished", "interrupted"])
def test_old_runs_have_a_page(name: str, browser: Browser, tmp_path: Path) -> None:
    page_file = tmp_path / "old.html"
    assert run_command("report", str(OLD_RUNS / name), "--output", str(page_file)) == 0
    page = browser.open(page_file)
    if name == "finished":
        page.evaluate("drawAll()")
        assert page.locator("#matrix span").count() == 100
        assert page.locator("#matrix button, #predictions").count() == 0
    shown = page.locator("header").inner_text()
    assert ("55.41%" in shown) == (name == "finished")
    assert ("was interrupted" in shown) == (name == "interrupted")
    assert (page.locator("#repeat").inner_text().count("resume=") == 1) == (name == "interrupted")


def test_a_run_names_its_page_at_its_end(run: Path) -> None:
    results = read_results(run)
    assert results is not None
    assert f"report: {run / 'report.html'}" in summary_lines(results, run)


def test_page_of_a_run_is_small(run: Path) -> None:
    assert (run / "report.html").stat().st_size < 2_000_000


def test_the_command_says_what_is_wrong(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("report", str(tmp_path / "none")) == 2
    assert "none: there is no such directory" in capsys.readouterr().err
    assert run_command("report", str(tmp_path)) == 2
    assert "there is no run in it" in capsys.readouterr().err
    assert run_command("report", str(run), "--output", str(tmp_path)) == 2
    assert "is a directory; name a file" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []
    assert run_command("report", str(run / "results.json")) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"


def test_without_its_data_the_page_has_no_images(changed: Path) -> None:
    rewrite(changed, data_sha256="0" * 64)
    assert run_command("report", str(changed)) == 0
    page = (changed / "report.html").read_text()
    assert "is no longer the data of the run" in page
    assert 'id="data-sprite">null' in page


def test_jobs_of_a_sweep_write_neither_unless_asked(compose_config: Compose) -> None:
    plain, asked = compose_config(), compose_config("report.predictions=true")
    assert (reports(plain, True), keeps_predictions(plain, True)) == (False, False)
    assert (reports(plain, False), keeps_predictions(plain, False)) == (True, True)
    assert (reports(asked, True), keeps_predictions(asked, True)) == (False, True)
    none = compose_config("report.enabled=false")
    assert (reports(none, False), keeps_predictions(none, False)) == (False, False)
    assert training_config(asked) == training_config(plain)  # a run resumes with either


def test_a_page_that_cannot_be_written_is_no_failure_but_predictions_are(
    tmp_path: Path, compose_config: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = (
        "model=mlp100", "cv=holdout", "cv.validation=50", "cv.test=100", "data.subset=200",
        "training.epochs=2", "plots.enabled=false", "constraint=memristor", "gradients=epoch",
    )  # fmt: skip
    config, without = compose_config(*overrides), compose_config(*overrides, "report.enabled=false")
    for name in ("report.html", PREDICTIONS):
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=r"predictions\.npz.*: Is a directory"):
        run_experiment(config, tmp_path)
    failed = read_results(tmp_path)
    assert failed is not None
    assert failed["status"] == "failed"
    (tmp_path / PREDICTIONS).rmdir()
    assert run_experiment(config, tmp_path)["status"] == "completed"
    (warning,) = capsys.readouterr().err.splitlines()[-1:]
    assert warning.startswith(f"warning: the page of {tmp_path} is not up to date: IsADirectory")
    assert warning.endswith(f"python -m mnist_exp report {tmp_path}")
    (tmp_path / "report.html").rmdir()
    assert not [*tmp_path.glob(".*.tmp")]
    assert run_command("report", str(tmp_path)) == 0
    for name in ("report.html", PREDICTIONS):
        (tmp_path / name).unlink()
    run_experiment(without, tmp_path)
    assert not {"report.html", PREDICTIONS} & {path.name for path in tmp_path.iterdir()}


def test_a_bug_in_a_page_only_warns_but_a_stop_is_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with only_warned(tmp_path):
        raise KeyError("a\nbug")
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(Interrupted), only_warned(tmp_path):
        raise Interrupted(15)


def test_names_that_are_no_unicode_have_a_page(changed: Path) -> None:
    directory = changed.rename(changed.with_name(os.fsdecode(b"run\xff")))
    rewrite(directory, class_names=["\ud800", *"123456789"])
    assert run_command("report", str(directory)) == 0
    page = directory / "report.html"
    page.read_text(encoding="utf-8")
    assert link(page, directory.parent) == "./run%FF/report.html"


@pytest.mark.parametrize(
    ("sources", "flags"),
    [
        ([("main", "file", "/gone/mnist_exp/conf"), ("schema", "structured", "")], []),
        ([("main", "file", "HERE")], ["--config-path=HERE"]),
        ([("command-line", "file", "HERE")], ["--config-dir=HERE"]),
        ([("command-line", "file", "HERE/gone")], None),
        ([("hydra.searchpath in main", "file", "HERE")], None),
    ],
)
def test_the_command_finds_options_of_the_users_own(
    tmp_path: Path, sources: list[tuple[str, str, str]], flags: list[str] | None
) -> None:
    def here(text: str) -> str:
        return text.replace("HERE", str(tmp_path))

    given = [dict(zip(("provider", "schema", "path"), map(here, s), strict=True)) for s in sources]
    hydra = {"job": {"config_name": "config"}, "runtime": {"config_sources": given, "cwd": "/"}}
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump({"hydra": hydra}))
    assert config_flags(tmp_path) == (None if flags is None else [*map(here, flags)])
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    assert ("Train the same" in text_of(tmp_path)) == (flags is not None)
