"""A running job of a sweep: the configuration it trains, and its record."""

from __future__ import annotations

import contextlib
import copy
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncherConf
from hydra.conf import HydraConf
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mnist_exp.app.sweep.jobs import fix_threads, json_values, without_run_keys
from mnist_exp.app.sweep.pace import pace_of
from mnist_exp.callbacks.sweep_place import SweepPlace
from mnist_exp.errors import UserError
from mnist_exp.run.config_differences import PLACES, differences, flat
from mnist_exp.run.objective import Objective, objective_column, score
from mnist_exp.run.results import COMPLETED, finished_results, read_results
from mnist_exp.run.saved_config import (
    RUN_KEYS,
    as_typed,
    bring_up_to_date,
    has_hash,
    hash_config,
    key_of,
    load_config,
    training_config,
    without_old_behaviour,
)
from mnist_exp.run.sweep_jobs import Row, row_of
from mnist_exp.run.sweep_record import JobRecord, is_directory_name, read_job, read_sweep, write_job
from mnist_exp.run.sweep_table import job_line

SHOWN = 8  # differences in a message


class SweepJob:
    """The record of a running job.

    Parameters
    ----------
    hydra : HydraConf
        Hydra's part of the job's configuration.
    directory : Path
        The job's directory.
    """

    def __init__(self, hydra: HydraConf, directory: Path) -> None:
        self.sweep_dir = Path(hydra.sweep.dir)
        self.directory = directory
        self.resumed = False  # whether the sweep was resumed; its directory may be untrusted
        number = int(hydra.job.num)
        self.place = SweepPlace(number, alone=hydra.launcher._target_ == BasicLauncherConf._target_)
        self.place.jobs = _trials(hydra.sweeper)
        self.pace = pace_of(self.sweep_dir)
        self._fixed: set[str] = set()  # overrides that other jobs have too
        before = None
        with contextlib.suppress(UserError):  # damaged: rewritten
            before = read_job(self.sweep_dir, number)
        self.record = JobRecord(
            number=number,
            overrides=without_run_keys(as_typed(hydra.overrides.task)),
            directory=_relative(directory, self.sweep_dir),
            config_hash=None if before is None else before.config_hash,
        )

    def as_asked(self, config: DictConfig) -> DictConfig:
        """Return the configuration to train: the job's when the sweep began.

        Keys added to ``conf/`` since then are left out, so that all jobs of a sweep train alike.

        Raises
        ------
        UserError
            If the job's settings have changed, or its directory lies outside the sweep's or holds
            the results of another configuration.
        """
        self._check_directory()
        sweep = read_sweep(self.sweep_dir)
        self.resumed = sweep.resumed
        self.place.alone &= not sweep.resumed  # the bar's time left would count those as trained
        self._fixed = sweep.fixed
        if sweep.jobs is not None:
            self.place.jobs = len(sweep.jobs)
        fix_threads(config, sweep.threads)
        if sweep.resumed and sweep.jobs is not None:
            # on the first start, values may still depend on the machine that runs the job
            asked = sweep.jobs[self.record.number].config
            if asked is not None:
                config = restore_config(config, asked, f"job {self.record.number}")
        trained = _hash_of_results(self.directory)
        if trained is None or has_hash(training_config(config), trained):
            return config
        try:
            saved = training_config(load_config(self.directory, "sweep.resume"))
        except (UserError, OmegaConfBaseException):
            saved = {}
        if not has_hash(saved, trained):  # the saved configuration is not that of the results
            raise UserError(
                f"{self.directory}: holds the results of another configuration than job "
                f"{self.record.number} has; they stay as they are. Start a sweep in a new "
                "directory, or move them away."
            )
        return restore_config(config, saved, str(self.directory))

    def begin(self, config: DictConfig) -> None:
        """Record the hash of ``config``, or that of the results if the job is finished."""
        finished = finished_results(self.directory)  # an older version may hash differently
        if finished is None:
            self.pace.begin(self.place)
        trains = hash_config(training_config(config))
        self.record.config_hash = trains if finished is None else finished["config_hash"]
        self._write()

    def refuse(self, error: UserError) -> None:
        """Set the record to refused, with the reason; `end` writes it."""
        self.record.status, self.record.error = "refused", str(error)

    def end(self) -> None:
        """Write how the job ended to its record."""
        self.row: Row = row_of(self.sweep_dir, self.record)
        if self.record.status == "running":
            self.record.status, self.record.error = self.row.status, self.row.error
        self._write()

    def line(self) -> str:
        """Return the line about the job that `end` recorded, and how long the others will take."""
        swept = [key_of(text) for text in self.record.overrides if text not in self._fixed]
        line = f"{self.place} {job_line(self.row, swept)}"
        # in a resumed sweep some of the others are finished, which takes no time
        left = None if self.resumed else self.pace.left(self.place)
        return line if left is None else f"{line} | {left}"

    def objective(self, config: DictConfig) -> float | None:
        """Return the objective of the job that `end` recorded; None unless it is completed."""
        results = finished_results(self.directory) if self.record.status == COMPLETED else None
        if results is None:
            return None
        found = score(results, Objective(objective_column(config.sweep)))
        return None if found is None else float(found.value)

    def _check_directory(self) -> None:
        inside = self.directory.resolve().is_relative_to(self.sweep_dir.resolve())
        if not inside or not is_directory_name(_relative(self.directory, self.sweep_dir)):
            raise UserError(
                f"{self.directory}: lies outside of the sweep {self.sweep_dir}, or is taken. "
                "Change hydra.sweep.subdir, or remove the link that leads there."
            )

    def _write(self) -> None:
        try:
            write_job(self.sweep_dir, self.record)
        except OSError as error:
            print(f"warning: the record of {self.directory} is not up to date: {error}",
                  file=sys.stderr)  # fmt: skip


def restore_config(config: DictConfig, before: dict[str, Any], name: str) -> DictConfig:
    """Return ``config`` reduced to the keys of an earlier configuration.

    Raises
    ------
    UserError
        If the value of one of these keys has changed.
    """
    before = without_old_behaviour(before)
    config = _in_places(config, before)
    now = json_values(training_config(config))
    shared = _restricted(now, before)
    changed = {k: both for k, both in differences(before, shared).items() if k not in PLACES}
    if changed:
        sentences = [f"{key} was {was} and is {now} now" for key, (was, now) in changed.items()]
        raise UserError(
            f"{name} was started with other settings: {'; '.join(sentences[:SHOWN])}"
            + (f"; and {len(sentences) - SHOWN} more" if len(sentences) > SHOWN else "")
            + ". Go on with the files and the environment the sweep was started with, or start a "
            "new one."
        )
    new = differences(shared, now)
    if not new:
        return config
    print(f"{name}: goes on as it was started, without {', '.join(new)}", file=sys.stderr)
    run_keys = {key: config[key] for key in RUN_KEYS if key in config}
    restored = OmegaConf.create({**before, **run_keys})
    bring_up_to_date(restored)
    OmegaConf.set_struct(restored, True)
    return restored


def _in_places(config: DictConfig, before: Mapping[str, Any]) -> DictConfig:
    """Return ``config`` with the earlier data places, if these were recorded as absolute paths."""
    for key in PLACES:
        place = flat(before).get(key)
        if isinstance(place, str) and os.path.isabs(place):
            config = copy.deepcopy(config)
            OmegaConf.update(config, key, place)
    return config


def _restricted(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _restricted(value, before[key])
        if isinstance(value, dict) and isinstance(before[key], dict) and before[key]
        else value
        for key, value in now.items()
        if key in before
    }


def _trials(sweeper: Any) -> int | None:
    """Return how many jobs a search has; None if it may end before, or says nothing of it."""
    return None if sweeper.get("sampler") == "grid" else sweeper.get("n_trials")


def _hash_of_results(directory: Path) -> str | None:
    try:
        results = read_results(directory)
    except UserError:  # damaged: the checkpoints record what was trained
        return None
    return None if results is None else results.get("config_hash")


def _relative(directory: Path, sweep_dir: Path) -> str:
    return Path(os.path.relpath(directory, sweep_dir)).as_posix()
