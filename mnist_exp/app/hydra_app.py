"""The Hydra application: ``python -m mnist_exp [KEY=VALUE ...]`` trains, once or as a sweep."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.mnist_exp_grid import GridSweeper
from hydra_plugins.mnist_exp_search import OptunaSweeper
from mnist_exp.app import hydra_callback as launch
from mnist_exp.app.arguments import check_config_path, options_first
from mnist_exp.app.composition import explained
from mnist_exp.app.foreign_targets import judge_targets, own_targets
from mnist_exp.app.launch_mode import launch_mode
from mnist_exp.app.run_directories import Claim, claims, run_claim
from mnist_exp.app.search.job import trial_callbacks
from mnist_exp.app.sweep.job import SweepJob
from mnist_exp.app.sweep.launching import (
    end_early,
    engine_reason,
    in_this_process,
    stop_jobs,
    tied_to_launcher,
)
from mnist_exp.app.sweep.pace import has_page
from mnist_exp.app.sweep.resume import resumed_arguments
from mnist_exp.callbacks.sweep_place import SweepPlace
from mnist_exp.cpu import fork_server
from mnist_exp.cpu.cores import threads_at_most
from mnist_exp.errors import UserError
from mnist_exp.experiment.ignored_settings import keys_of
from mnist_exp.files.shipped_config import config_directory
from mnist_exp.interruption import Interrupted, StopSignals, queue_again
from mnist_exp.run.config_differences import PLACES
from mnist_exp.run.lock import DirectoryLock
from mnist_exp.run.report import summary_lines
from mnist_exp.run.results import finished_results, read_results, write_results
from mnist_exp.run.saved_config import (
    as_typed,
    has_hash,
    key_of,
    make_paths_absolute,
    training_config,
    with_values,
)
from mnist_exp.terminal import printable_lines


def main() -> None:
    """Compose the configuration from the command line, and train."""
    try:
        sys.argv[1:] = resumed_arguments(options_first(sys.argv[1:]))
        check_config_path(sys.argv[1:])
    except UserError as error:
        launch.refuse(error)
    if not {"resume", "reproduce"}.isdisjoint(map(key_of, sys.argv[1:])):
        # ++ since these are keys of that run, perhaps not of this command's own options
        sys.argv = [f"++{a.lstrip('+')}" if key_of(a) in PLACES else a for a in sys.argv]
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises instead of printing
    for sweeper in (GridSweeper, OptunaSweeper):
        Plugins.instance().register(sweeper)  # Hydra finds no plugins of an editable install
    # Hydra copies it for each composition and each group listed; what it returns are copies anyway
    ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]
    # It would compose everything once more, for one value
    Hydra.get_mode = launch_mode  # type: ignore[method-assign,assignment]
    with claims() as claimed:
        try:
            with StopSignals() as signals, signals.at_once(lambda: release_jobs(claimed)):
                run_command()
        except (Interrupted, KeyboardInterrupt) as stop:
            end_stopped(stop, claimed, signals.received)
        except Exception as error:
            # OmegaConf, stopped at the wrong place, raises an AttributeError of its own
            stopped = error.__context__
            if not claimed and isinstance(stopped, (Interrupted, KeyboardInterrupt)):
                end_stopped(stopped, claimed, signals.received)
            if claimed and not isinstance(error, CompactHydraException):
                if claimed[-1].kind == "sweep" and signals.received is not None:
                    # raised inside Ray's C code, ours comes out as a SystemError
                    end_stopped(Interrupted(signals.received), claimed, signals.received)
                if claimed[-1].kind == "sweep":
                    end_failed_sweep(error, claimed[-1])
                raise
            # composing, before anything was made
            given = get_args_parser().parse_args(sys.argv[1:])
            directories = [Path(given.config_dir)] if given.config_dir is not None else []
            launch.refuse(UserError(explained(error, given.overrides, directories)))


@hydra.main(config_path=str(config_directory()), config_name="config", version_base="1.3")
def run_command(config: DictConfig) -> float | None:
    """Run one job: train with ``config`` in the directory Hydra made.

    Returns
    -------
    float or None
        The objective of a sweep's job, for sweepers that search; None if it has none.
    """
    runtime: Any = OmegaConf.to_container(HydraConfig.get().runtime, resolve=False)
    directory = Path(runtime["output_dir"])  # as it is, even with what looks like interpolations
    try:
        with StopSignals() as signals:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                with tied_to_launcher(Path(HydraConfig.get().sweep.dir), signals):
                    return run_sweep_job(config, directory, signals)
            try:
                claim = run_claim()
            except UserError as error:
                launch.refuse(error)
            run_alone(config, directory, signals, claim)
    except Interrupted as stop:
        queue_again(stop)
        raise
    return None


def prepared(config: DictConfig) -> DictConfig:
    """Return the configuration with interpolations resolved and paths absolute."""
    config = with_values(config)
    make_paths_absolute(config, HydraConfig.get().runtime.cwd)
    return config


def release_jobs(claimed: Sequence[Claim]) -> None:
    """Stop the jobs of this process's sweep, before its engine kills them."""
    for claim in claimed:  # one at most
        if claim.kind == "sweep":
            stop_jobs(claim)


def end_stopped(
    stop: Interrupted | KeyboardInterrupt, claimed: Sequence[Claim], received: int | None
) -> NoReturn:
    """Print how to resume the run or sweep, if it began to train, and end the process.

    ``received`` is the signal that this process got; None if only one of its jobs was stopped.
    """
    if isinstance(stop, KeyboardInterrupt):
        stop = Interrupted(signal.SIGINT)
    outcome, code = "", stop.exit_code
    for claim in claimed:  # one at most
        if claim.give_back():
            outcome = " before it began to train"
        elif claim.kind == "sweep":
            if received is None and not in_this_process(claim):
                code = launch.FAILURE_EXIT_CODE
                stopped = f"stopped: a job was stopped by {stop}"
            else:
                stopped = f"stopped by {stop}"
            end_early(claim, stopped)
            sys.exit(code)
        else:
            outcome = f"; continue with: {claim.command_to_go_on()}"
    print(f"stopped by {stop}{outcome}", file=sys.stderr)
    sys.exit(code)


def end_failed_sweep(error: Exception, claim: Claim) -> NoReturn:
    """Print the table and the error of the sweep's engine, and end the process."""
    whole = "".join(traceback.format_exception(error))
    end_early(claim, engine_reason(error, claim.directory, whole))
    sys.exit(launch.FAILURE_EXIT_CODE)


def run_alone(config: DictConfig, directory: Path, signals: StopSignals, claim: Claim) -> None:
    """Run the command's only job; a user's mistake is printed and a new directory removed."""
    results = finished_results(directory)
    try:
        config = prepared(config)
        if results is not None and has_hash(training_config(config), results["config_hash"]):
            print(f"{directory} is finished already; raise training.epochs to train it further")
        else:
            results = run_job(config, directory, signals, claim.lock)
    except UserError as error:
        claim.give_back()
        launch.refuse(error)
    print("\n".join(summary_lines(results, directory)))
    if config.reproduce is not None and not results["reproduction"]["identical"]:
        sys.exit(launch.FAILURE_EXIT_CODE)


def run_sweep_job(config: DictConfig, directory: Path, signals: StopSignals) -> float | None:
    """Run a job of a sweep unless it is finished; a failure does not stop the others.

    Returns
    -------
    float or None
        Its objective (``sweep.objective``); None if it failed.
    """
    job = SweepJob(HydraConfig.get(), directory)
    try:
        with DirectoryLock(directory) as lock:
            config = job.as_asked(prepared(config))
            if job.resumed and config.get("trust") is not True:
                where = f"sweep.resume={job.sweep_dir}"
                judge_targets(config, where, own_targets(HydraConfig.get()))
            job.begin(config)
            if finished_results(directory) is None:
                run_and_record(config, directory, signals, lock, job)
    except UserError as error:
        job.refuse(error)
        print(f"error: {printable_lines(error)}", file=sys.stderr)
    finally:
        job.end()
        job.pace.update(job.sweep_dir, page=has_page(config))
        print(job.line(), flush=True)
    signals.check()
    return job.objective(config)


def run_and_record(
    config: DictConfig, directory: Path, signals: StopSignals, lock: DirectoryLock, job: SweepJob
) -> None:
    """Train a job of a sweep; record a failure as its result."""
    try:
        launch.check_job(config, saved=job.resumed)
        run_job(config, directory, signals, lock, job.place)
        return
    except UserError as error:
        reason = str(error)
        print(f"error: {printable_lines(reason)}", file=sys.stderr)
    except Exception as error:  # a bug; the sweep's exit code reports it
        reason = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    record_failure(directory, reason)


def record_failure(directory: Path, reason: str) -> None:
    """Add the failed status and the reason to a job's results.json."""
    try:
        results = read_results(directory) or {}
    except UserError:  # damaged
        results = {}
    with contextlib.suppress(OSError):  # a full disk: the reason was printed
        write_results(directory, {**results, "status": "failed", "error": reason})


def run_job(
    config: DictConfig,
    directory: Path,
    signals: StopSignals,
    lock: DirectoryLock | None,
    sweep_job: SweepPlace | None = None,
) -> dict[str, Any]:
    """Train, write everything to ``directory`` and return the results."""
    folds = config.cv.get("n_jobs", 1)
    if folds != 1 and (folds or threads_at_most() > (config.threads or 1)):
        fork_server.start_early()
    # loads torch, which --help and --cfg do not need
    from mnist_exp.experiment.run import run_experiment

    hydra_config = HydraConfig.get()
    said = keys_of(as_typed(hydra_config.overrides.task))
    multirun = hydra_config.mode == RunMode.MULTIRUN
    callbacks = trial_callbacks(hydra_config, config) if multirun else {}
    return run_experiment(config, directory, signals, lock, True, said, sweep_job, callbacks)
