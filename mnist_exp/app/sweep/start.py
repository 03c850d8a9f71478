"""Start a sweep: claim its directory, list and check its jobs, record it."""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mnist_exp.app.run_directories import claim
from mnist_exp.app.search.settings import check_search, make_storage_absolute
from mnist_exp.app.sweep.grid import check_grid
from mnist_exp.app.sweep.jobs import (
    asked_jobs,
    fix_order,
    number_directories,
    share_directories,
    without_run_keys,
)
from mnist_exp.app.sweep.objective import direction_of
from mnist_exp.cpu.cores import cores
from mnist_exp.errors import UserError
from mnist_exp.files.shipped_config import config_directory
from mnist_exp.run.objective import objective_column
from mnist_exp.run.saved_config import as_typed, key_of
from mnist_exp.run.sweep_record import AskedJob, SweepRecord, write_sweep
from mnist_exp.terminal import printable
from mnist_exp.wording import counted

THREADS = 1  # of a job, unless its settings say otherwise


def start_sweep(config: DictConfig) -> None:
    """Claim a directory, give each job its own inside it, and record the sweep.

    Raises
    ------
    UserError
        If the directory is taken, there are no jobs, one cannot be composed, has a setting that is
        not allowed or would leave the directory, or a search cannot work.
    """
    check_grid(config)
    check_search(config)
    make_storage_absolute(config)
    fix_order(config)
    claimed = claim(config, "sweep")
    try:
        jobs = checked_jobs(config)
        warn_of_engine(config, jobs)
        record = _record(config, jobs)
    except Exception:
        claimed.give_back()
        raise
    write_sweep(claimed.directory, record)
    announce(jobs, claimed.directory)


def checked_jobs(config: DictConfig) -> list[AskedJob] | None:
    """Return the jobs as `asked_jobs`, all checked, each in a directory of its own.

    Raises
    ------
    UserError
        As `asked_jobs`, or if there are none.
    """
    jobs = asked_jobs(config, THREADS, check=True)
    if share_directories(config, jobs):
        number_directories(config)
        jobs = asked_jobs(config, THREADS, check=True)
    if jobs == []:
        raise UserError("a swept setting has no values, so the sweep has no jobs.")
    return jobs


def warn_of_engine(config: DictConfig, jobs: list[AskedJob] | None) -> None:
    """Warn of jobs that leave cores idle, or of more jobs at once than there are cores."""
    launcher = str(config.hydra.launcher._target_).rpartition(".")[2]
    typed = {key_of(text) for text in as_typed(config.hydra.overrides.task)}
    fixed = config.threads is not None or "threads" in typed or "n_jobs" in config.cv  # k-fold's
    if launcher == "BasicLauncher" and cores() > 1 and not fixed:
        print(
            f"note: a job trains on {THREADS} CPU thread, so every engine gives the same results; "
            "threads=N gives it more",
            file=sys.stderr,
        )
    if launcher == "LocalLauncher" and len(jobs or ()) > cores():
        print(
            f"warning: submitit_local starts all {len(jobs or ())} jobs at once, on {cores()} "
            "core(s); hydra/launcher=processes starts one per core",
            file=sys.stderr,
        )


def announce(jobs: list[AskedJob] | None, directory: Path) -> None:
    """Print how many jobs a sweep has, and where."""
    named = "jobs" if jobs is None else counted(len(jobs), "job")
    print(f"sweep of {named} in {printable(directory)}", flush=True)


def _record(config: DictConfig, jobs: list[AskedJob] | None) -> SweepRecord:
    sources = {
        source.provider: source.path
        if source.schema == "file"
        else f"{source.schema}://{source.path}"
        for source in config.hydra.runtime.config_sources
    }
    main = sources.get("main")
    choices = config.hydra.runtime.choices
    return SweepRecord(
        overrides=without_run_keys(as_typed(config.hydra.overrides.task)),
        hydra_overrides=[
            text
            for text in as_typed(config.hydra.overrides.hydra)
            if key_of(text) not in ("hydra.sweep.dir", "hydra.mode")
        ],
        # a preset's sweep appears in no override
        params=OmegaConf.to_container(config.hydra.sweeper.get("params") or OmegaConf.create()),  # type: ignore[arg-type]
        config_dir=sources.get("command-line"),
        config_path=None if main == str(config_directory()) else main,
        config_name=config.hydra.job.config_name,
        launcher=choices.get("hydra/launcher"),
        sweeper=choices.get("hydra/sweeper"),
        jobs=jobs,
        threads=THREADS,
        objective=objective_column(config.sweep),
        direction=direction_of(config),
    )
