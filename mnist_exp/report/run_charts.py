"""Charts of a run: curves whose quantity the reader chooses, devices, gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mnist_exp.report.charts import Rows, axis, chart, layers, lines
from mnist_exp.report.page import Chart
from mnist_exp.report.quantities import rounded
from mnist_exp.report.run_files import CollectedEpoch, Row

LOW = 190  # pixels: height of charts that stand side by side
LOG = {"type": "log"}
DASHES = {"train": [1, 0], "validation": [6, 3], "test": [2, 2], "": [1, 0]}
SHARES = {
    "share_rounded_away": "updates rounded away",
    "share_at_min": "conductances at W_min",
    "share_at_max": "conductances at W_max",
}


def curves(x: str) -> Chart:
    """Return lines over ``x`` without data, which the page's script fills in.

    Rows have ``x``, ``y``, ``id`` (of the line), ``colour`` and ``part``.
    """
    encoding = {
        "x": {"field": "x", **axis(x, axis={"tickMinStep": 1, "format": "d"})},
        "y": {"field": "y", **axis("")},
        "detail": {"field": "id", "type": "nominal"},
        "color": {"field": "colour", "type": "nominal", "title": None, "sort": None},
        "strokeDash": {
            "field": "part", "type": "nominal", "title": None, "sort": None,
            "scale": {"domain": list(DASHES), "range": list(DASHES.values())},
        },
    }  # fmt: skip
    return chart([], layer=layers(encoding, []))


def device_shares(rows: Sequence[Row], folds: Sequence[int]) -> dict[str, Chart]:
    """Return a chart a share of updates or conductances over epochs, by fold."""
    if len({row["epoch"] for row in rows}) < 2:
        return {}
    found = {}
    for column, title in SHARES.items():
        points = [
            {"epoch": row["epoch"], "share": rounded(row[column]), "fold": f"fold {row['fold']}"}
            for row in rows
            if isinstance(row.get(column), float)
        ]
        if points:
            spec = lines(points, "epoch", "share", "fold", "epoch", title, ".3~%")
            found[column.replace("_", "-")] = _over_few_epochs(spec, points, len(folds))
    return found


def levels(first: Row, last: Row) -> Chart:
    """Return the number of devices at each level after the first and the last epoch of a fold."""
    points = []
    for row in [last] if first is last else [first, last]:
        histogram = row["level_histogram"]
        points += [
            {"level": rounded(level), "devices": count, "after": f"after epoch {row['epoch']}"}
            for level, count in zip(histogram["levels"], histogram["counts"], strict=True)
            if count
        ]
    return chart(
        points,
        mark={"type": "line", "interpolate": "step"},
        encoding={
            "x": {"field": "level", **axis("conductance")},
            "y": {"field": "devices", **axis("devices", scale=LOG, axis={"format": "~s"})},
            "color": {"field": "after", "type": "nominal", "title": None, "sort": None},
            "tooltip": [{"field": name} for name in ("level", "devices", "after")],
        },
        height=LOW,
    )


def over_time(found: dict[str, Any]) -> Chart:
    """Return the accuracy on devices over time with a band of one standard deviation."""
    points = [_at_time(row) for row in found["times"]]
    labels = " : ".join(f"datum.value == {p['seconds']!r} ? {p['time']!r}" for p in points)
    ticks = {"values": [p["seconds"] for p in points], "labelExpr": f"{labels} : ''"}
    x = {"field": "seconds", **axis("time after programming", scale=LOG, axis=ticks)}
    y = axis("test accuracy", axis={"format": ".3~%"})
    tooltip = [
        {"field": "time"},
        {"field": "mean", "format": ".2%", "title": "accuracy"},
        {"field": "std", "format": ".2%", "title": "standard deviation"},
    ]
    return chart(
        points,
        layer=[
            {
                "mark": {"type": "area", "opacity": 0.2},
                "encoding": {"x": x, "y": {"field": "low", **y}, "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "line", "point": {"size": 60}},
                "encoding": {"x": x, "y": {"field": "mean", **y}, "tooltip": tooltip},
            },
            {
                "data": {"values": [{"as_trained": found["as_trained"]["mean"]}]},
                "mark": {"type": "rule", "strokeDash": [5, 4], "color": "#d55e00"},
                "encoding": {"y": {"field": "as_trained", **y}},
            },
        ],
    )


def _at_time(row: Row) -> Row:
    mean, std = row["accuracy"]["mean"], row["accuracy"]["std"] or 0.0
    return {
        "seconds": row["seconds"], "time": row["time"], "mean": rounded(mean),
        "low": rounded(mean - std), "high": rounded(mean + std), "std": rounded(std),
    }  # fmt: skip


def norms_by_class(epochs: Sequence[CollectedEpoch], names: Sequence[str]) -> Chart:
    """Return the samples' gradient norms by class: medians over epochs, or one's quartiles."""
    points = [
        {
            "epoch": one.epoch, "class": names[int(label)],
            "median": rounded(norm["p50"]),
            "low": rounded(norm["p25"]), "high": rounded(norm["p75"]),
        }
        for one in epochs
        for label, found in one.statistics["classes"].items()
        if label.isdecimal() and int(label) < len(names)
        if all((norm := found["norm"]).get(key) is not None for key in ("p25", "p50", "p75"))
    ]  # fmt: skip
    if len(epochs) == 1:
        return _quartiles(points)
    spec = lines(points, "epoch", "median", "class", "epoch", "median gradient norm")
    spec = _over_few_epochs(spec, points, len(names))
    return {**spec, "height": 320} if len(names) > 10 else spec  # room for the legend


def _quartiles(points: Rows) -> Chart:
    tooltip = [{"field": name} for name in ("class", "low", "median", "high")]
    x = axis("norm of a sample's gradient: quartiles and median", scale=LOG)
    y = {"field": "class", "type": "nominal", "sort": None, "title": None}
    bars = {"x": {"field": "low", **x}, "x2": {"field": "high"}, "y": y, "tooltip": tooltip}
    dots = {"x": {"field": "median", **x}, "y": y, "tooltip": tooltip}
    return chart(
        points,
        layer=[
            {"mark": {"type": "bar", "size": 6, "opacity": 0.5}, "encoding": bars},
            {"mark": {"type": "point", "filled": True, "size": 60}, "encoding": dots},
        ],
        height={"step": 20},
    )


def norms_over_epochs(epochs: Sequence[CollectedEpoch]) -> Chart:
    """Return quantiles of the samples' gradient norms, and the mean gradient's, over epochs."""
    points = []
    for one in epochs:
        norm, mean = one.statistics["total"]["norm"], one.statistics["total"]["mean_gradient_norm"]
        named = {"5 % of samples below": "p5", "median sample": "p50", "95 % below": "p95"}
        found = {name: norm[key] for name, key in named.items()} | {"mean gradient": mean}
        points += [
            {"epoch": one.epoch, "norm": rounded(value), "what": what}
            for what, value in found.items()
            if value
        ]
    spec = lines(points, "epoch", "norm", "what", "epoch", "gradient norm")
    for layer in spec["layer"][:2]:
        layer["encoding"]["y"]["scale"] = LOG
    return _over_few_epochs(spec, points, 4)


def _over_few_epochs(spec: Chart, points: Rows, series: int) -> Chart:
    """Show whole epochs, points where there are few, and no legend for a single line."""
    epochs = {point["epoch"] for point in points}
    for layer in spec["layer"]:
        layer["encoding"]["x"]["axis"] = {"tickMinStep": 1, "format": "d"}
        if series == 1 and "color" in layer["encoding"]:
            layer["encoding"]["color"]["legend"] = None
    if series == 1:
        del spec["layer"][0]["params"]
        for layer in spec["layer"][:2]:
            del layer["encoding"]["opacity"]
    spec["layer"][0]["mark"]["point"] = len(epochs) <= 20
    spec["height"] = LOW
    return spec
