"""What was measured over epochs and over steps, as lines for charts."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

Row = dict[str, Any]
PARTS = ("train", "validation", "test")
TITLES = {
    "lr": "learning rate",
    "seconds": "seconds of the epoch's training",
    "samples_per_second": "training images per second",
    "share_rounded_away": "share of updates rounded away",
    "share_at_min": "share of conductances at W_min",
    "share_at_max": "share of conductances at W_max",
    "distinct_levels": "levels in use",
    "mean_drift": "mean drift of conductances",
    "gradient_norms": "gradient norm of the first layer, every batch",
    "gradient_snr": "signal-to-noise ratio of gradients",
    "gradient_seconds": "seconds of collecting gradients",
    "mean_gradient_norm": "norm of the mean gradient",
    "gradient_norm_mean": "gradient norm of a sample, mean",
    "gradient_norm_median": "gradient norm of a sample, median",
    "gradient_norm_max": "gradient norm of a sample, largest",
}
FIRST = ("loss", "accuracy")
NO_QUANTITY = ("fold", "epoch", "step")
MOST_POINTS = 3000  # of a line's kind, over all folds
FEWEST = 40  # of a line, however many folds there are
DIGITS = 5


def over_epochs(rows: Sequence[Row], percent: Collection[str] = ()) -> list[dict[str, Any]]:
    """Return every quantity of metrics.jsonl over epochs.

    Parameters
    ----------
    rows : sequence of dict
        With ``fold`` and ``epoch``.
    percent : collection of str
        Metrics that people read in per cent, besides accuracies and shares.

    Returns
    -------
    list of dict
        ``key``, ``title``, ``percent``, and ``lines``: ``fold``, ``part`` (train, validation, test
        or empty), ``x`` and ``y``. Loss and accuracy come first.
    """
    return _quantities(rows, "epoch", percent, _kept)


def over_steps(rows: Sequence[Row], epochs: Sequence[Row]) -> list[dict[str, Any]]:
    """Return every quantity of steps.jsonl over steps, as `over_epochs`.

    Where there are too many steps, each point is the mean of several. Gradient norms of every
    batch, which ``epochs`` may hold, are among them.
    """
    return _quantities([*rows, *_batches(epochs)], "step", (), _means)


def _batches(epochs: Sequence[Row]) -> Iterator[Row]:
    """Yield a row a batch from the lists in the rows of epochs."""
    steps: dict[int, int] = {}
    for row in epochs:
        norms = row.get("gradient_norms")
        for norm in norms if isinstance(norms, list) else ():
            steps[row["fold"]] = step = steps.get(row["fold"], 0) + 1
            yield {"fold": row["fold"], "step": step, "gradient_norms": norm}


def _quantities(rows: Sequence[Row], x: str, percent: Collection[str], thin: Any) -> list[Any]:
    lines: dict[str, dict[tuple[int, str], list[tuple[float, float]]]] = {}
    for row in rows:
        for column, value in row.items():
            if column not in NO_QUANTITY and _is_number(value):
                part, _, name = column.partition("_")
                key, part = (name, part) if part in PARTS and name else (column, "")
                points = lines.setdefault(key, {}).setdefault((row["fold"], part), [])
                points.append((row[x], value))
    most = max(FEWEST, MOST_POINTS // max(1, len({row["fold"] for row in rows})))
    ordered = sorted(
        lines, key=lambda key: (key not in FIRST, FIRST.index(key) if key in FIRST else 0)
    )
    return [
        {
            "key": key,
            "title": TITLES.get(key, key.replace("_", " ")),
            "percent": key == "accuracy"
            or key.startswith("share_")
            or key.partition(".")[0] in percent,
            "lines": [
                {"fold": fold, "part": part, **_columns(thin(points, most))}
                for (fold, part), points in sorted(lines[key].items(), key=_by_fold_and_part)
            ],
        }
        for key in ordered
    ]


def _by_fold_and_part(line: tuple[tuple[int, str], Any]) -> tuple[int, int]:
    (fold, part), _ = line
    return fold, PARTS.index(part) if part else -1


def _columns(points: Sequence[tuple[float, float]]) -> dict[str, list[float]]:
    return {"x": [rounded(x) for x, _ in points], "y": [rounded(y) for _, y in points]}


def _kept(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """Keep every n-th point, and the last."""
    every = math.ceil(len(points) / most)
    return [*points[:-1:every], points[-1]]


def _means(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """Average groups of neighbouring points."""
    size = math.ceil(len(points) / most)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], math.fsum(y for _, y in group) / len(group)) for group in groups]


def rounded(value: float) -> float:
    """Return a number with `DIGITS` significant digits, which is shorter to write."""
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
