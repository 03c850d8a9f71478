"""report.html: the page of a run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnist_exp.report import confusion, quantities, run_charts, run_facts
from mnist_exp.report.configuration import config_tree
from mnist_exp.report.images import SAMPLES, RunImages, Sprite
from mnist_exp.report.page import Chart, render, write_page
from mnist_exp.report.run_files import CollectedEpoch, Ended, RunFiles, read_run
from mnist_exp.terminal import printable

NAME = "report.html"
AUGMENTED_ROWS = 5
MOST_LEVELS = 1000  # of a histogram that is drawn


@dataclass
class Content:
    """What the template gets: charts, data for scripts, values."""

    charts: dict[str, Chart] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


def write_run_report(
    directory: Path,
    images: RunImages | None = None,
    *,
    ended: Ended | None = None,
    no_images: str = "",
    output: Path | None = None,
) -> Path:
    """Write the page of a run and return its file; warn of files that it leaves out.

    Parameters
    ----------
    directory : Path
        The run directory; what it lacks, the page leaves out.
    images : RunImages or None
        The data set's; without them the page shows no images.
    ended : Ended or None
        What a run that is just ending knows; None: read from its files.
    no_images : str
        Why there are no images, for the page.
    output : Path or None
        The file; None: report.html in ``directory``.

    Raises
    ------
    UserError
        If results.json is damaged.
    OSError
        If the file cannot be written.
    """
    path, run = output or directory / NAME, read_run(directory, ended)
    for problem in run.problems:
        print(printable(f"warning: {problem} The page leaves it out."), file=sys.stderr)
    write_page(path, run_page(run, images, no_images))
    return path


def run_page(run: RunFiles, images: RunImages | None = None, no_images: str = "") -> str:
    """Return the HTML of a run's page; parameters as in `write_run_report`."""
    content, sprite = Content(), Sprite(images)
    content.values |= run_facts.facts(run) | {"no_images": no_images, "run": run}
    _add_curves(content, run)
    _add_devices(content, run)
    # images that come first stay if there are too many; cells have the most by far
    _add_predictions(content, run, sprite)
    _add_samples(content, sprite)
    _add_gradients(content, run, sprite)
    _add_augmented(content, sprite)
    _add_confusion(content, run, sprite)
    content.values["tree_nodes"] = config_tree(run.settings)
    content.data |= {"sprite": sprite.content(), "names": run.class_names}
    _leave_out_sections_without_images(content)
    return render(
        "run.html",
        run_facts.title(run),
        content.charts,
        content.data,
        scripts=["run.js"],
        styles=["run.css"],
        **content.values,
    )


def _add_curves(content: Content, run: RunFiles) -> None:
    percent = {
        name for name, found in run.results.get("metrics", {}).items() if found.get("percent")
    }
    content.data["curves"] = {
        "epochs": quantities.over_epochs(run.rows, percent),
        "steps": quantities.over_steps(run.steps, run.rows),
    }
    content.data["folds"] = run.folds
    for x in ("epochs", "steps"):
        content.charts[x] = run_charts.curves(x.removesuffix("s"))
    one_epoch = len({row["epoch"] for row in run.rows}) < 2
    content.values["curves"] = {
        x: found
        for x, found in content.data["curves"].items()
        if found and not (x == "epochs" and one_epoch)  # nothing to see: a point of each
    }


def _add_confusion(content: Content, run: RunFiles, sprite: Sprite) -> None:
    names = run.class_names
    known = "confusion_matrix" in run.results and bool(names)
    drawn = known and len(names) <= confusion.MOST_CLASSES
    content.values |= {"classes": [], "matrix": drawn, "matrix_folds": []}
    content.values["cell_images"] = run.predictions is not None
    if not known:
        return
    matrices = confusion.matrices(run.results)
    content.values["classes"] = confusion.class_rows(matrices["all"], names)
    if not drawn:
        return
    content.data["matrices"] = matrices
    content.values["matrix_folds"] = [*matrices["folds"]]
    if run.predictions is not None:
        content.data["cells"] = confusion.shown_images(run.predictions, sprite)


def _add_predictions(content: Content, run: RunFiles, sprite: Sprite) -> None:
    if run.predictions is None:
        return
    rows = confusion.sample_rows(run.predictions, SAMPLES)
    worst = confusion.confident_mistakes(run.predictions, SAMPLES)
    content.data["predictions"] = confusion.described(run.predictions, rows, sprite)
    content.data["mistakes"] = confusion.described(run.predictions, worst, sprite)


def _add_samples(content: Content, sprite: Sprite) -> None:
    images = sprite.images
    if images is None:
        return
    content.data["samples"] = [
        {"row": int(row), "true": int(images.labels[row]), "tile": sprite.row(int(row))}
        for row in images.train[:SAMPLES]
    ]


def _add_augmented(content: Content, sprite: Sprite) -> None:
    if sprite.images is not None and sprite.images.augmented is not None:
        rows = sprite.images.augmented[:AUGMENTED_ROWS]
        content.data["augmented"] = [[{"tile": sprite.add(image)} for image in row] for row in rows]


def _leave_out_sections_without_images(content: Content) -> None:
    """Keep of the sections of images, by name, those that have any on the page."""
    drawn = content.data["sprite"]["count"] if content.data["sprite"] else 0

    def is_drawn(one: dict[str, Any]) -> bool:
        return bool(0 <= one["tile"] < drawn)

    for name in ("predictions", "mistakes", "samples"):
        content.values[name] = any(map(is_drawn, content.data.get(name, ())))
    rows = content.data.get("augmented", ())
    content.values["augmented"] = any(all(map(is_drawn, row)) for row in rows)


def _add_devices(content: Content, run: RunFiles) -> None:
    shares = run_charts.device_shares(run.rows, run.folds)
    content.charts |= shares
    content.values |= {"shares": list(shares), "levels": False, "over_time": False}
    own = [
        row for row in run.rows
        if row["fold"] == run.folds[0] and _has_histogram(row.get("level_histogram"))
    ]  # fmt: skip
    if own:
        content.charts["levels"] = run_charts.levels(own[0], own[-1])
        content.values["levels"] = True
    if run.device_evaluation is not None and run.device_evaluation["times"]:
        content.charts["over-time"] = run_charts.over_time(run.device_evaluation)
        content.values["over_time"] = True


def _has_histogram(found: Any) -> bool:
    if not isinstance(found, dict):
        return False
    levels, counts = found.get("levels"), found.get("counts")
    return (
        isinstance(levels, list)
        and isinstance(counts, list)
        and 0 < len(levels) == len(counts) <= MOST_LEVELS
        and all(isinstance(number, int | float) for number in (*levels, *counts))
    )


def _add_gradients(content: Content, run: RunFiles, sprite: Sprite) -> None:
    epochs = [one for one in run.gradients if one.fold == run.gradients[0].fold]
    content.values["gradients"] = _gradient_facts(epochs, run.class_names)
    if not epochs:
        return
    content.charts["norms-by-class"] = run_charts.norms_by_class(epochs, run.class_names)
    if len(epochs) > 1:
        content.charts["norms-over-epochs"] = run_charts.norms_over_epochs(epochs)
    content.data["hardest"] = [
        {
            "row": sample["sample_id"], "true": sample["label"],
            "predicted": sample.get("predicted"), "norm": sample["norm"], "loss": sample["loss"],
            "tile": sprite.row(sample["sample_id"]),
        }
        for sample in epochs[-1].statistics["hardest"][:SAMPLES]
        if sample["label"] < len(run.class_names)
    ]  # fmt: skip


def _gradient_facts(
    epochs: Sequence[CollectedEpoch], names: Sequence[str]
) -> dict[str, Any] | None:
    if not epochs or not names:
        return None
    last = epochs[-1]
    return {
        "epoch": last.epoch,
        "epochs": len(epochs),
        "samples": last.statistics["num_samples"],
        "fold": last.fold,
    }
