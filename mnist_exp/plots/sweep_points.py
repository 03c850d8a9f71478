"""What the pictures of a sweep share: the means they draw, and the words at their axes.

Plain numbers and words, which pages use too; loads no matplotlib.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, prod

from mnist_exp.run.objective import MINIMIZE, Ranking
from mnist_exp.run.over_seeds import SEED, over_seeds
from mnist_exp.run.sweep_jobs import OPTIMISTIC, Row, ranking_of, value_of
from mnist_exp.run.text_table import Share, shown_number
from mnist_exp.wording import counted

COLOURS = "viridis"
MOST_ANNOTATED = 12  # largest number of values along an axis that are all written out
LONGEST_LABEL = 24  # characters of a value at an axis
LETTER = 0.085  # inches, about the width of a letter
RATIO = 20  # of the largest to the smallest value from which an axis is logarithmic
SPOKEN = {
    "lr": "learning rate",
    "lr_pos": "rate of potentiation",
    "lr_neg": "rate of depression",
    "subset": "training images",
}


@dataclass(frozen=True)
class Point:
    """Mean over the jobs that differ only in the seed.

    Attributes
    ----------
    accuracy : float or None
        Mean test accuracy over the jobs; None if no job has one.
    std : float or None
        Sample standard deviation over the jobs; where no seed was swept, over a job's folds.
    status : str
        Status of the first job without an accuracy, shown in place of a missing mean.
    jobs, asked : int
        Number of jobs in the mean, and number requested.
    score : float or None
        Mean of the objective of the jobs.
    place : float or None
        The lower, the better by the objective; None: nothing may be called best.
    """

    accuracy: float | None
    std: float | None
    status: str
    jobs: int = 1
    asked: int = 1
    score: float | None = None
    place: float | None = None

    @property
    def missing(self) -> str:
        """Label of an incomplete mean, such as "n 2 of 3"; empty otherwise."""
        return f"n {self.jobs} of {self.asked}" if 0 < self.jobs < self.asked else ""


Points = dict[tuple[str, ...], Point]  # keyed by the value on each axis


def gather_points(rows: Sequence[Row], names: Sequence[str]) -> Points:
    """Average the jobs that agree in the settings ``names``."""
    ranking = None if list(names) == [SEED] else ranking_of(rows)  # no seed is the best
    groups = over_seeds(rows, names)
    seeds = any(len(group.asked) > 1 for group in groups)
    points = {}
    for group in groups:
        mean, std = group.over(lambda row: row.accuracy)
        score = None if ranking is None else group.over(value_of).mean
        points[tuple(group.settings.values())] = Point(
            mean,
            std if seeds else group.asked[0].std,
            next((row.status for row in group.missing), ""),
            jobs=len(group.jobs),
            asked=len(group.asked),
            score=score,
            place=None if ranking is None or score is None else ranking.place(score),
        )
    return points


def best_of(points: Points) -> list[tuple[str, ...]]:
    """Return the keys of the best points, several if equally good; none if nothing ranks them."""
    places = {key: point.place for key, point in points.items() if point.place is not None}
    best = min(places.values(), default=None)
    return [key for key, place in places.items() if place == best]


def best_words(points: Points, names: Sequence[str], ranking: Ranking | None) -> str:
    """Say which point is the best, by what, and on which images; empty if nothing ranks them."""
    best = best_of(points)
    if ranking is None or not best:
        return ""
    point = points[best[0]]
    texts = zip(names, map(short_value, best[0]), strict=True)
    settings = ", ".join(f"{name}={value}" for name, value in texts)
    missing = f" ({point.missing})" if point.missing else ""
    images = f"({OPTIMISTIC})" if ranking.held_out else "on test images"
    objective = ""
    if ranking.value != "accuracy":
        lowest = "lowest, " * (ranking.direction == MINIMIZE)
        objective = f" ({lowest}{shown_number(point.score)})"
    accuracy = shown_number(Share(point.accuracy or 0.0))
    return f"best by {ranking}{objective}: {accuracy}{missing} {images} with {settings}"


def accuracy_label(rows: Sequence[Row], points: Points) -> str:
    """Name the accuracy drawn, and what its mean and its ± are over: seeds or folds."""
    folds = {row.folds for row in rows if row.accuracy is not None}
    of_folds = max((n for n in folds if n is not None), default=1)
    most = max((point.jobs for point in points.values()), default=0)
    images = "held-out accuracy" if of_folds > 1 else "test accuracy"
    spread = "mean ± sample std over"
    up_to = "up to " * (len({point.jobs for point in points.values() if point.jobs}) > 1)
    if most > 1:
        each = f" of {counted(of_folds, 'fold')} each" if of_folds > 1 else ""
        return f"{images}\n({spread} {up_to}{counted(most, 'seed')}{each})"
    if of_folds > 1:
        return f"{images}\n({spread} {'up to ' * (len(folds) > 1)}{counted(of_folds, 'fold')})"
    return images


def is_numeric(values: Sequence[str]) -> bool:
    """Return whether all values are finite numbers."""
    try:
        return all(isfinite(float(value)) for value in values)
    except ValueError:
        return False


def is_logarithmic(numbers: Sequence[float]) -> bool:
    """Return whether an axis over these numbers is logarithmic."""
    return min(numbers) > 0 and max(numbers) >= RATIO * min(numbers)


def is_scattered(points: Points, values: dict[str, list[str]]) -> bool:
    """Whether jobs fill less than half of the grid of their settings, two of them numbers."""
    numeric = [name for name, texts in values.items() if is_numeric(texts)]
    return len(numeric) > 1 and 2 * len(points) < prod(map(len, values.values()))


def sorted_values(rows: Sequence[Row], name: str) -> list[str]:
    """Return the values of a setting, sorted if numeric, else in job order."""
    in_job_order = sorted(rows, key=lambda row: (len(row.job), row.job))
    values = list(dict.fromkeys(row.overrides.get(name, "") for row in in_job_order))
    return sorted(values, key=float) if is_numeric(values) else values


def short_labels(values: Sequence[str]) -> list[str]:
    """Return tick labels: numbers of over 7 characters and long words shortened, none twice."""
    if is_numeric(values):
        return [*map(short_value, values)]
    for length in range(LONGEST_LABEL, max(map(len, values)), 4):
        labels = [_shortened(value, length) for value in values]
        if len({*labels}) == len({*values}):
            return labels
    return [value or "default" for value in values]


def short_value(text: str) -> str:
    """Return a setting as typed; a number of over 7 characters, as a search proposes, rounded."""
    return f"{float(text):g}" if len(text) > 7 and is_numeric([text]) else text


def _shortened(value: str, length: int) -> str:
    """Replace the middle of a long word by an ellipsis."""
    if len(value) <= length:
        return value or "default"
    tail = length // 2
    return f"{value[: length - tail - 1]}…{value[-tail:]}"


def axis_label(key: str, inches: float) -> str:
    """Name a setting as a person reads it, with its key: ``batch size (training.batch_size)``.

    ``inches`` is the room along the axis; a label that is longer goes on a second line.
    """
    word = key.rpartition(".")[2]
    spoken = SPOKEN.get(word) or _words(word)
    if spoken == key:
        return key
    whole = f"{spoken} ({key})"
    return whole if len(whole) * LETTER <= inches else wrapped(f"{spoken}\n({key})", inches)


def wrapped(text: str, inches: float) -> str:
    """Break lines that are longer than the room for them, but no word."""
    width = max(int(inches / LETTER), 1)
    return "\n".join(
        textwrap.fill(line, width, break_long_words=False) for line in text.splitlines()
    )


def _words(name: str) -> str:
    """Write ``batch_size`` as two words; keep names with symbols, such as ``W_min``."""
    parts = name.split("_")
    return " ".join(parts) if all(len(part) > 3 and part.islower() for part in parts) else name
