"""Charts of a comparison: results side by side, curves over epochs, accuracy by class, time."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnist_exp.report.charts import axis, chart, cursor
from mnist_exp.report.page import Chart
from mnist_exp.run.formats import FINITE

BAR = 24  # pixels of a run's line
AROUND = 70  # pixels of a chart's axis and title
COLOURS = 8  # of the pages
ANNOTATED = 14  # runs whose cells of a heat map are written out
LABEL_LIMIT = {"expr": "width < 520 ? 110 : 260"}  # pixels
# Columns of a row of metrics.jsonl, and what they are
CURVES = {
    "validation_accuracy": "validation accuracy",
    "test_accuracy": "test accuracy",
    "train_accuracy": "training accuracy",
    "validation_loss": "validation loss",
    "test_loss": "test loss",
    "train_loss": "training loss",
}


@dataclass(frozen=True)
class Compared:
    """A run of the charts.

    Attributes
    ----------
    label : str
        What tells it from the others; each once.
    results : dict
        The content of its results.json, of a completed run.
    """

    label: str
    results: Mapping[str, Any]

    @property
    def folds(self) -> list[dict[str, Any]]:
        """Its rows of folds."""
        folds: list[dict[str, Any]] = self.results["folds"]
        return folds


def accuracies(runs: Sequence[Compared]) -> Chart:
    """Return test accuracies with their deviation over folds, and a tick for each fold."""
    rows = []
    for run in runs:
        mean, std = run.results["accuracy"]["mean"], run.results["accuracy"]["std"]
        spread = {} if std is None else {"low": mean - std, "high": mean + std}
        shown = f"{mean:.2%}" + ("" if std is None else f" ± {std:.2%} over {len(run.folds)} folds")
        rows.append({"run": run.label, "mean": mean, "shown": shown, **spread})
    ticks = [
        {"run": run.label, "mean": fold["accuracy"], "shown": f"fold {fold['fold']}: "
         f"{fold['accuracy']:.2%}"}
        for run in runs if len(run.folds) > 1 for fold in run.folds
    ]  # fmt: skip
    across = {"field": "mean", **axis("test accuracy", axis={"format": ".1%", "tickCount": 6}),
              "scale": {"zero": False, "padding": 12}}  # fmt: skip
    tooltip = [{"field": "run"}, {"field": "shown", "title": "test accuracy"}]
    return chart(
        rows,
        height=BAR * len(runs) + AROUND,
        encoding={"y": _runs(runs), "x": across, "tooltip": tooltip},
        layer=[
            {
                "data": {"values": ticks},
                "mark": {"type": "tick", "thickness": 1.5, "size": BAR * 0.5, "opacity": 0.5},
            },
            {
                "transform": [{"filter": "isValid(datum.low)"}],
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {"x": {**across, "field": "low"}, "x2": {"field": "high"}},
            },
            {"mark": {"type": "point", "filled": True, "size": 80, "opacity": 1}},
        ],
    )  # fmt: skip


def curves(runs: Sequence[Compared]) -> dict[str, tuple[str, Chart]]:
    """Return what each curve over epochs is and its chart, by column; only columns that runs have.

    A line is a run's mean over folds, its band from the lowest to the highest fold. A cursor reads
    all lines at an epoch; a click on the legend keeps a run alone.
    """
    found = {}
    for column, title in CURVES.items():
        rows = [row for number, run in enumerate(runs) for row in _curve(run, number, column)]
        if rows:
            found[column] = (title, _lines(rows, runs, title))
    return found


def by_class(runs: Sequence[Compared]) -> Chart:
    """Return the accuracy of each class, a line of cells for each run."""
    rows = [
        {"run": run.label, "class": name, "share": share}
        for run in runs
        for name, share in zip(
            run.results["class_names"], run.results["per_class_accuracy"], strict=True
        )
        if share is not None
    ]
    names = [*dict.fromkeys(row["class"] for row in rows)]
    colour = {
        "field": "share", **axis("accuracy"), "scale": {"scheme": "viridis", "zero": False},
        "legend": {"format": ".0%", "orient": "bottom", "direction": "horizontal"},
    }  # fmt: skip
    tooltip = [{"field": "run"}, {"field": "class"},
               {"field": "share", "title": "accuracy", "format": ".2%"}]  # fmt: skip
    cells: list[dict[str, Any]] = [
        {"mark": "rect", "encoding": {"color": colour, "tooltip": tooltip}}
    ]
    if len(runs) <= ANNOTATED and len(names) <= ANNOTATED:
        cells.append(_shares(rows, len(names)))
    return chart(
        rows,
        height=BAR * len(runs) + AROUND + 60,
        encoding={
            "y": _runs(runs),
            "x": {"field": "class", "type": "nominal", "sort": names, "title": None,
                  "axis": {"orient": "top", "labelAngle": {"expr": f"width < {len(names) * 24} || "
                           f"{max(map(len, names), default=0)} > 4 ? -40 : 0"}}},
        },
        layer=cells,
    )  # fmt: skip


def _shares(rows: Sequence[dict[str, Any]], columns: int) -> dict[str, Any]:
    """Return the layer that writes each share in its cell, dark on bright, where there is room."""
    shares = sorted(row["share"] for row in rows) or [0.0]
    bright = shares[0] + 0.6 * (shares[-1] - shares[0])
    text = {"condition": {"test": f"datum.share > {bright}", "value": "black"}, "value": "white"}
    hidden = {"condition": {"test": f"width < {38 * columns}", "value": 0}, "value": 1}
    return {
        "mark": {"type": "text", "fontSize": 11},
        "encoding": {"text": {"field": "share", "format": ".1%"}, "color": text, "opacity": hidden},
    }


def times(runs: Sequence[Compared]) -> Chart:
    """Return the duration of each run in seconds."""
    rows = [{"run": run.label, "seconds": run.results["wall_seconds"]} for run in runs]
    return chart(
        rows,
        height=BAR * len(runs) + AROUND,
        mark={"type": "bar", "height": BAR * 0.6},
        encoding={
            "y": _runs(runs),
            "x": {
                "field": "seconds",
                "type": "quantitative",
                "title": "seconds",
                "axis": {"tickCount": 6},
            },
            "tooltip": [{"field": "run"}, {"field": "seconds", "format": ",.1f"}],
        },
    )


def _runs(runs: Sequence[Compared]) -> dict[str, Any]:
    """Return the encoding of the runs, one below the other."""
    labels = [run.label for run in runs]
    return {"field": "run", "type": "nominal", "sort": labels, "title": None,
            "axis": {"labelLimit": LABEL_LIMIT, "ticks": False}}  # fmt: skip


def _curve(run: Compared, number: int, column: str) -> list[dict[str, Any]]:
    """Return a row for each epoch that every fold of the run has a number for."""
    epochs: dict[int, list[float]] = {}
    for fold in run.folds:
        for row in fold.get("epochs", ()):
            if FINITE.accepts(row.get(column)):
                epochs.setdefault(row["epoch"], []).append(row[column])
    rows = []
    for epoch, values in epochs.items():
        if len(values) == len(run.folds):
            spread = {"low": min(values), "high": max(values)} if len(values) > 1 else {}
            mean = statistics.fmean(values)
            rows.append({"e": epoch, "y": mean, "run": run.label, "id": f"r{number}", **spread})
    return rows


def _lines(rows: Sequence[dict[str, Any]], runs: Sequence[Compared], title: str) -> Chart:
    form = ".1%" if "accuracy" in title else ".3~g"
    drawn = {row["id"] for row in rows}
    ids = [(f"r{n}", run.label) for n, run in enumerate(runs) if f"r{n}" in drawn]
    across = {"field": "e", "type": "quantitative", "title": "epoch",
              "axis": {"tickMinStep": 1, "format": "d"}}  # fmt: skip
    up = axis("", axis={"format": form})
    kept = {"name": "kept", "select": {"type": "point", "fields": ["run"]}, "bind": "legend"}
    shown = {"condition": {"param": "kept", "value": 1}, "value": 0.06}
    tooltip = [{"field": "e", "type": "quantitative", "title": "epoch"}]
    tooltip += [{"field": key, "type": "quantitative", "format": form.replace(".1", ".2"),
                 "title": label} for key, label in ids]  # fmt: skip
    band = {"condition": {"param": "kept", "value": 0.18}, "value": 0.02}
    return chart(
        rows,
        height=260 + 20 * len(ids),
        encoding={"x": across, "color": _colour(runs, [label for _, label in ids])},
        layer=[
            {
                "transform": [{"filter": "isValid(datum.low)"}],
                "mark": "area",
                "encoding": {"y": {"field": "low", **up},
                             "y2": {"field": "high"}, "opacity": band},
            },
            {
                "params": [kept],
                "mark": "line",
                "encoding": {"y": {"field": "y", **up}, "opacity": shown},
            },
            {  # a line of one epoch would not show
                "transform": [
                    {"joinaggregate": [{"op": "count", "as": "epochs"}], "groupby": ["id"]},
                    {"filter": "datum.epochs == 1"},
                ],
                "mark": {"type": "point", "filled": True, "size": 60},
                "encoding": {"y": {"field": "y", **up}, "opacity": shown},
            },
            cursor(across, "y", tooltip, color={"value": "gray"}),
        ],
    )  # fmt: skip


def _colour(runs: Sequence[Compared], labels: Sequence[str]) -> dict[str, Any]:
    """Return the encoding of a run's colour, alike in all charts, with a legend of ``labels``."""
    scheme = {"scheme": "tableau20"} if len(runs) > COLOURS else {}
    return {
        "field": "run", "type": "nominal", "title": None,
        "scale": {"domain": [run.label for run in runs], **scheme},
        "legend": {"values": labels, "labelLimit": 240, "symbolLimit": len(labels),
                   "orient": "bottom", "columns": 1, "symbolOpacity": 1, "symbolType": "stroke",
                   "symbolStrokeWidth": 3},
    }  # fmt: skip
