"""What the charts of a sweep draw: means over the jobs that differ in their seed alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mnist_exp.plots.sweep_points import (
    Points,
    accuracy_label,
    best_of,
    gather_points,
    is_numeric,
    short_value,
    sorted_values,
)
from mnist_exp.report.sweep_tables import short_names
from mnist_exp.run.over_seeds import SEED, over_seeds
from mnist_exp.run.sweep_jobs import Row, swept_settings
from mnist_exp.run.text_table import shown_accuracy, shown_number
from mnist_exp.terminal import printable


@dataclass(frozen=True)
class Swept:
    """What the charts of a sweep draw: means over the jobs that differ in the seed alone.

    Attributes
    ----------
    rows : sequence of Row
        The jobs.
    """

    rows: Sequence[Row]

    @cached_property
    def names(self) -> list[str]:
        """The settings that are drawn: numbers first; the seed only if nothing else was swept."""
        swept = swept_settings(self.rows)
        names = [name for name in swept if name != SEED] or swept
        return sorted(names, key=lambda name: not is_numeric(sorted_values(self.rows, name)))

    @cached_property
    def values(self) -> dict[str, list[str]]:
        """The values of each setting that is drawn."""
        return {name: sorted_values(self.rows, name) for name in self.names}

    @cached_property
    def points(self) -> Points:
        """The means, by the values of `names`."""
        return gather_points(self.rows, self.names)

    @cached_property
    def label(self) -> str:
        """What the accuracy is of, and its mean and ± over."""
        return " ".join(accuracy_label(self.rows, self.points).split())

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """A row for each point: place, accuracy, words for its tooltip, filter of the table.

        ``v0``, ``v1`` ... are the values of `names`, ``y`` the accuracy, ``low`` and ``high`` its
        deviation, ``s`` what ranks the jobs.
        """
        best = best_of(self.points)
        jobs = {tuple(group.settings.values()): group.asked
                for group in over_seeds(self.rows, self.names)}  # fmt: skip
        short = short_names(self.names)
        records = []
        for key, point in self.points.items():
            texts = [short_value(value) for value in key]
            named = zip((short[name] for name in self.names), texts, strict=True)
            settings = ", ".join(f"{name} = {value or 'default'}" for name, value in named)
            shown = shown_accuracy(point.accuracy, point.std, " ± ") or point.status
            objective = "" if point.score is None else shown_number(self.kind(point.score))
            asked = jobs[key]
            low_high = (
                {} if point.accuracy is None or point.std is None
                else {"low": point.accuracy - point.std, "high": point.accuracy + point.std}
            )  # fmt: skip
            records.append({
                **{f"v{n}": value for n, value in enumerate(key)},
                "y": point.accuracy, "s": point.score, **low_high,
                "settings": settings, "shown": shown, "objective": objective,
                "status": point.status, "n": point.missing, "best": key in best,
                "find": condition("job", asked[0].job) if len(asked) == 1
                else self._conditions(key),
            })  # fmt: skip
        return records

    @cached_property
    def kind(self) -> type[float]:
        """How the objective is read: a share in per cent."""
        return type(next((row.score.value for row in self.rows if row.score is not None), 0.0))

    def _conditions(self, key: Sequence[str]) -> str:
        return " ".join(map(condition, self.names, map(short_value, key)))


def condition(column: str, cell: str) -> str:
    """Return what the table's filter finds a cell by.

    Quotes hold the words of a condition together; the filter ignores those of cells.
    """
    text = printable(cell).replace('"', "") or "null"
    plain = re.fullmatch(r"[^\s=<>]+", text)
    return f"{column}={text}" if plain else f'{column}="{text}"'


def with_settings(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the jobs without those whose settings are unknown, since their record is damaged."""
    return [row for row in rows if row.overrides] or rows
