"""``sweep.dry_run=true``: the jobs of a sweep, checked and printed; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mnist_exp import schema
from mnist_exp.app.composition import user_directories
from mnist_exp.app.hints import hint
from mnist_exp.app.search.settings import OPTUNA, check_search
from mnist_exp.app.search.space import Choice, Range, read_space
from mnist_exp.app.sweep.grid import check_grid
from mnist_exp.app.sweep.jobs import fix_order
from mnist_exp.app.sweep.start import checked_jobs, warn_of_engine
from mnist_exp.run.saved_config import as_typed, key_of, own_part, values_by_key
from mnist_exp.run.sweep_record import AskedJob
from mnist_exp.run.text_table import table_lines
from mnist_exp.terminal import printable
from mnist_exp.wording import counted


def list_jobs(config: DictConfig) -> None:
    """Print what a sweep would train, after the checks that it would begin with.

    Raises
    ------
    UserError
        As `start_sweep`, but for the directory, which may be taken by then.
    """
    check_grid(config)
    check_search(config)
    fix_order(config)
    jobs = checked_jobs(config)
    if jobs is None:
        _print_search(config)
        return
    warn_of_engine(config, jobs)
    print("\n".join(table_lines(_rows(jobs))))
    unknown = sum(job.config is None for job in jobs)
    but = f", but for {unknown} that only their machine can resolve" if unknown else ""
    directory = printable(str(Path(config.hydra.sweep.dir)))
    print(f"dry run of {counted(len(jobs), 'job')} in {directory}: all settings are allowed{but}")


def _rows(jobs: list[AskedJob]) -> list[list[str]]:
    """Return a heading and a row a job: number, directory, and what differs between the jobs."""
    settings = [values_by_key(job.overrides) for job in jobs]
    keys = dict.fromkeys(key for values in settings for key in values)
    differing = [key for key in keys if len({values.get(key) for values in settings}) > 1]
    shown = differing or [*keys]  # a single job: everything
    rows = [["job", "directory", *shown]]
    for job, values in zip(jobs, settings, strict=True):
        rows.append([str(job.number), job.directory, *(values.get(key, "") for key in shown)])
    return rows


def _print_search(config: DictConfig) -> None:
    schema.check(own_part(config), partial(hint, directories=user_directories(config)))
    settings: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
    if settings["_target_"] == OPTUNA:
        space = read_space(as_typed(config.hydra.overrides.task), settings["params"])
        print("\n".join(search_lines(space.ranges)))
    number = f"{counted(settings['n_trials'], 'job')} of " if "n_trials" in settings else ""
    print(f"dry run: {number}a search, which chooses the settings of each from earlier results")


def search_lines(ranges: Mapping[str, Range]) -> list[str]:
    """Return a line for each setting that is searched, with the values it may have."""
    return table_lines([[key_of(key), _words(found)] for key, found in ranges.items()])


def _words(found: Range) -> str:
    if isinstance(found, Choice):
        return " or ".join(found.values)
    step = "" if found.step in (None, 1) else f" in steps of {found.step}"
    return f"{found.low} to {found.high}{step}{', evenly in its logarithm' if found.log else ''}"
