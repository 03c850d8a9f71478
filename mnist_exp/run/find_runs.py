"""Find runs below directories: those on their own, and every job of a sweep, also one not run."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mnist_exp.errors import UserError
from mnist_exp.run.overview import DAMAGED, RunOverview, read_overview
from mnist_exp.run.results import COMPLETED
from mnist_exp.run.results import NAME as RESULTS
from mnist_exp.run.run_settings import RunSettings, read_choices, read_settings
from mnist_exp.run.saved_config import config_file, values_by_key
from mnist_exp.run.sweep_jobs import Outcome, read_outcomes
from mnist_exp.run.sweep_record import SWEEP_FILE


@dataclass(frozen=True)
class FoundRun(RunOverview):
    """A run in a list.

    Attributes
    ----------
    sweep : Path or None
        Directory of the sweep it is a job of.
    requested : RunSettings or None
        Settings of a job that has no results of its own, as its sweep recorded them.
    """

    sweep: Path | None = None
    requested: RunSettings | None = field(default=None, repr=False)

    @functools.cached_property
    def settings(self) -> RunSettings:
        """Its settings, read when first asked for."""
        return read_settings(self.directory) if self.requested is None else self.requested

    @functools.cached_property
    def overrides(self) -> Mapping[str, str]:
        """What its results depend on, by key; a run whose settings are unknown is like no other."""
        return self.settings.effective or {"directory": str(self.directory)}


def find_runs(*roots: Path) -> Iterator[FoundRun]:
    """Yield every run below ``roots`` once; directories in order, 2 before 10."""
    seen: set[Path] = set()
    for root in roots:
        for run in _runs_below(root):
            place = run.directory.resolve()
            if place not in seen:
                seen.add(place)
                yield run


def without_repeats(runs: Iterable[FoundRun]) -> tuple[list[FoundRun], list[FoundRun]]:
    """Return one run of each settings, seed included, and the others.

    The first completed one stays, or the first if none is completed. A damaged one is no repeat.
    """
    kept: dict[frozenset[tuple[str, str]], FoundRun] = {}
    others = []
    for run in runs:
        damaged = {"directory": str(run.directory)}
        key = frozenset((damaged if run.status == DAMAGED else run.overrides).items())
        before = kept.setdefault(key, run)
        if before is run:
            continue
        if run.status == COMPLETED != before.status:
            kept[key] = run
            others.append(before)
        else:
            others.append(run)
    return list(kept.values()), others


def _runs_below(root: Path) -> Iterator[FoundRun]:
    jobs: set[Path] = set()
    for path, directories, files in os.walk(root):
        directory = Path(path)
        directories.sort(key=lambda name: (len(name), name))
        if directory in jobs:
            directories.clear()  # no run lies inside another
            continue
        if SWEEP_FILE in files:
            for job in _jobs_of(directory):
                jobs.add(job.directory)
                yield job
            jobs.discard(directory)  # a sweep whose record is damaged
        if RESULTS in files or os.path.isfile(config_file(directory)):
            directories.clear()
            yield FoundRun(**vars(read_overview(directory)))


def _jobs_of(sweep_dir: Path) -> list[FoundRun]:
    """Return the jobs of a sweep; if its record is damaged, a row that says so."""
    try:
        outcomes = read_outcomes(sweep_dir)
    except UserError as error:
        return [FoundRun(sweep_dir, DAMAGED, str(error), begun=False)]
    recorded = {
        _chosen(outcome): outcome.run.directory
        for outcome in reversed(outcomes) if _is_own(outcome)
    }  # fmt: skip
    choices = functools.cache(read_choices)
    runs = []
    for outcome in outcomes:
        requested = None
        if not _is_own(outcome):
            options = _chosen(outcome)  # the same ones lead to the same options of all groups
            chosen = choices(recorded[options]) if options in recorded else dict(options)
            given = values_by_key(outcome.overrides)
            requested = RunSettings(outcome.config or given, chosen, outcome.overrides)
        runs.append(FoundRun(**vars(outcome.run), sweep=sweep_dir, requested=requested))
    return runs


def _is_own(outcome: Outcome) -> bool:
    """Whether the files in a job's directory are its own."""
    return outcome.run.changed > 0


def _chosen(outcome: Outcome) -> frozenset[tuple[str, str]]:
    """Return the groups and options that a job was given."""
    config = outcome.config or {}
    return frozenset(
        (key, value) for key, value in values_by_key(outcome.overrides).items()
        if "." not in key and isinstance(config.get(key, {}), Mapping)
    )  # fmt: skip
