"""The command line: ``python -m mnist_exp [key=value ...]``."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from mnist_exp import fork_server, launch
from mnist_exp.claim import run_lock
from mnist_exp.errors import UserError
from mnist_exp.ignored_settings import keys_of
from mnist_exp.run.interruption import Interrupted, StopSignals
from mnist_exp.run.lock import LOCK_FILE, DirectoryLock
from mnist_exp.run.report import summary_lines
from mnist_exp.run.results import finished_results, read_results, write_results
from mnist_exp.run.saved_config import as_typed, hash_config, resume_command, training_config
from mnist_exp.sweep import write_table
from mnist_exp.waiting_threads import wait_briefly

# Inside an installed package, and at the top of a checkout.
CONFIG_DIRECTORIES = (Path(__file__).parent / "conf", Path(__file__).parents[1] / "conf")


def config_directory() -> Path:
    """Return the directory of config.yaml."""
    return next(path for path in CONFIG_DIRECTORIES if (path / "config.yaml").is_file())


def main() -> None:
    """Run what the command line says."""
    if any(argument.startswith("sweep.resume=") for argument in sys.argv[1:]):
        sys.argv.insert(1, "--multirun")
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises instead of printing
    wait_briefly(os.environ)
    try:
        run_command()
        sys.stdout.flush()
    except CompactHydraException as error:
        launch.refuse(UserError(launch.composition_message(error)))
    except BrokenPipeError:  # who read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + 13)  # what a shell reports of a program that SIGPIPE ended


@hydra.main(config_path=str(config_directory()), config_name="config", version_base="1.3")
def run_command(config: DictConfig) -> None:
    """Run one job: train as ``config`` says, in the directory Hydra made."""
    directory = Path(HydraConfig.get().runtime.output_dir)
    run = run_sweep_job if HydraConfig.get().mode == RunMode.MULTIRUN else run_alone
    with StopSignals() as signals:
        try:
            run(config, directory, signals)
            return
        except Interrupted as interruption:
            exit_code, reason = interruption.exit_code, str(interruption)
        except KeyboardInterrupt:
            exit_code, reason = 130, "SIGINT"
    print(f"stopped by {reason}; go on with: {command_to_go_on()}", file=sys.stderr)
    sys.exit(exit_code)


def run_alone(config: DictConfig, directory: Path, signals: StopSignals) -> None:
    """Run the only job of the command; a user's mistake is told and leaves nothing behind."""
    results = finished_results(directory)
    try:
        if results is not None and results["config_hash"] == hash_config(training_config(config)):
            print(f"{directory} is finished already; raise training.epochs to train it further")
        else:
            launch.check_job(config)
            results = train(config, directory, signals, run_lock())
    except UserError as error:
        if {path.name for path in directory.iterdir()} <= {".hydra", LOCK_FILE}:
            shutil.rmtree(directory)
        launch.refuse(error)
    print("\n".join(summary_lines(results, directory)))
    if config.reproduce is not None and not results["reproduction"]["identical"]:
        sys.exit(launch.FAILURE_EXIT_CODE)


def run_sweep_job(config: DictConfig, directory: Path, signals: StopSignals) -> None:
    """Run a job of a sweep, unless it is finished; if it fails, the others go on."""
    try:
        with DirectoryLock(directory) as lock:
            if finished_results(directory) is None:
                run_and_record(config, directory, signals, lock)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    finally:
        update_table(Path(HydraConfig.get().sweep.dir))
    signals.check()


def run_and_record(
    config: DictConfig, directory: Path, signals: StopSignals, lock: DirectoryLock
) -> None:
    """Train; a failure becomes the job's result."""
    try:
        launch.check_job(config)
        results = train(config, directory, signals, lock)
        print("\n".join(summary_lines(results, directory)))
        return
    except UserError as error:
        reason = str(error)
        print(f"error: {reason}", file=sys.stderr)
    except Exception as error:  # a fault of the program; the exit code of the sweep tells of it
        reason = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    record_failure(directory, reason)


def record_failure(directory: Path, reason: str) -> None:
    """Write why a job failed to its results.json, beside what is there already."""
    try:
        results = read_results(directory) or {}
    except UserError:  # damaged
        results = {}
    with contextlib.suppress(OSError):  # a full disk: the reason was printed
        write_results(directory, {**results, "status": "failed", "error": reason})


def update_table(sweep_dir: Path) -> None:
    """Write the table of the jobs so far; on a full disk a warning must do."""
    try:
        write_table(sweep_dir)
    except OSError as error:
        print(f"warning: the table of {sweep_dir} is not up to date: {error}", file=sys.stderr)


def train(
    config: DictConfig, directory: Path, signals: StopSignals, lock: DirectoryLock
) -> dict[str, Any]:
    """Train, write everything to ``directory`` and return the results."""
    if config.cv.get("n_jobs", 1) != 1:
        fork_server.start_early()
    # torch, scikit-learn and matplotlib load here: --help and --cfg need none of them
    from mnist_exp.experiment import run_experiment

    said = keys_of(as_typed(HydraConfig.get().overrides.task))
    return run_experiment(config, directory, signals, lock, side_by_side=True, said=said)


def command_to_go_on() -> str:
    """Return the command that goes on with this run, or with this sweep."""
    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN:
        return resume_command(Path(hydra_config.sweep.dir), "sweep")
    return resume_command(Path(hydra_config.run.dir))
