"""Run the trials of a search: ask the study for settings, launch jobs, report their results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf
from optuna.study import Study
from optuna.trial import Trial, TrialState

from mnist_exp.app.search.space import Choice, Range, Space, read_space
from mnist_exp.app.search.study import make_sampler, open_study
from mnist_exp.app.sweep.jobs import without_run_keys
from mnist_exp.app.sweep.objective import direction_of
from mnist_exp.errors import UserError
from mnist_exp.run.objective import objective_column
from mnist_exp.run.results import COMPLETED, PRUNED
from mnist_exp.run.sweep_record import JobRecord, read_job, write_job

ENDS = {"failed": TrialState.FAIL, "refused": TrialState.FAIL, PRUNED: TrialState.PRUNED}


def search(config: DictConfig, launcher: Launcher, arguments: Sequence[str]) -> None:
    """Run the trials that are missing, those that a killed search was running first.

    A trial's number is that of its job and, by default, its directory.

    Raises
    ------
    UserError
        If the study cannot be opened.
    """
    settings: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
    sweep_dir = Path(config.hydra.sweep.dir)
    space = read_space(arguments, settings["params"])
    epochs = config.training.epochs
    sampler = make_sampler(settings, space)
    study = open_study(settings, sweep_dir, direction_of(config), sampler, epochs)
    total = settings["n_trials"]
    if settings["sampler"] == "grid":
        total = min(total, prod(map(len, space.grid().values())))
    waiting = unfinished_trials(study, sweep_dir, shared=settings["storage"] is not None)
    while True:
        batch: dict[Trial, list[str]] = {}
        while len(batch) < settings["n_jobs"]:
            if not waiting and len(study.get_trials(deepcopy=False)) >= total:
                break
            trial = Trial(study, waiting.pop(0)) if waiting else study.ask()
            # now, since the sampler draws for the newest trial
            batch[trial] = texts = space.overrides(propose(trial, space))
            if read_job(sweep_dir, trial.number) is None:
                record = JobRecord(trial.number, without_run_keys(texts), str(trial.number))
                write_job(sweep_dir, record)
        if not batch:
            break
        run_trials(study, batch, launcher, sweep_dir)
    print_best(study, config)


def run_trials(
    study: Study, trials: Mapping[Trial, list[str]], launcher: Launcher, sweep_dir: Path
) -> None:
    """Launch trials as jobs and report their results; an interrupted one stays unfinished."""
    overrides = {trial.number: texts for trial, texts in trials.items()}
    returned: dict[int, Any] = {}
    for numbers in consecutive(sorted(overrides)):  # as launchers number jobs
        jobs = launcher.launch([overrides[n] for n in numbers], initial_job_idx=numbers[0])
        returned |= {n: job.return_value for n, job in zip(numbers, jobs, strict=True)}
    for trial in trials:
        record = read_job(sweep_dir, trial.number)
        status = "failed" if record is None else record.status
        value = returned[trial.number]
        if status == COMPLETED and value is not None:
            study.tell(trial, value)
        elif status == COMPLETED or status in ENDS:  # completed, but the objective is no number
            study.tell(trial, state=ENDS.get(status, TrialState.FAIL))


def propose(trial: Trial, space: Space) -> dict[str, Any]:
    """Return the trial's value for each range, proposed now or before it was interrupted.

    Raises
    ------
    UserError
        If the study's trials have another kind of range, or other choices.
    """
    try:
        return {key: _suggest(trial, key, found) for key, found in space.ranges.items()}
    except ValueError as error:
        raise UserError(
            f"hydra/sweeper=optuna: the study was started with other ranges ({error}). Go on with "
            "those, or give hydra.sweeper.study_name another name."
        ) from error


def _suggest(trial: Trial, key: str, found: Range) -> Any:
    if isinstance(found, Choice):
        return trial.suggest_categorical(key, found.values)
    if found.whole:
        bounds, step = (int(found.low), int(found.high)), int(found.step or 1)
        return trial.suggest_int(key, *bounds, step=step, log=found.log)
    return trial.suggest_float(key, found.low, found.high, step=found.step, log=found.log)


def unfinished_trials(study: Study, sweep_dir: Path, shared: bool) -> list[int]:
    """Return the identities of this sweep's trials that a killed search left unfinished.

    A ``shared`` study has others, too, which other machines may be running.
    """
    return [
        trial._trial_id
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if not shared or read_job(sweep_dir, trial.number) is not None
    ]


def consecutive(numbers: Sequence[int]) -> Iterator[list[int]]:
    """Split ascending numbers where one is missing."""
    group: list[int] = []
    for number in numbers:
        if group and number != group[-1] + 1:
            yield group
            group = []
        group.append(number)
    if group:
        yield group


def print_best(study: Study, config: DictConfig) -> None:
    """Print the best trial."""
    try:
        best = study.best_trial
    except ValueError:  # none has an objective
        return
    settings = " ".join(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
                        for key, value in best.params.items())  # fmt: skip
    name = objective_column(config.sweep)
    print(f"best of {len(study.trials)} trials: {best.number}, {name} {best.value:.4g}, {settings}")
