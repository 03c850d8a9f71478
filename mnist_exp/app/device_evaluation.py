"""Accuracy of a run's networks over time on devices (``mnist_exp.evaluate_device``)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mnist_exp.app.runs import Run, load_run
from mnist_exp.errors import UserError
from mnist_exp.run.rows import as_table
from mnist_exp.run.saved_config import key_of

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mnist_exp.device.programmed import DeviceEvaluation
    from mnist_exp.experiment.device_report import Tested
    from mnist_exp.plots.figures import Figure

GROUP = "evaluation"
BRINGS_THE_GROUP = "callbacks=device_evaluation"


@dataclass(frozen=True)
class DeviceAccuracy:
    """Test accuracy over time on devices. Make one with `mnist_exp.evaluate_device`.

    Attributes
    ----------
    record : dict
        The content of device_evaluation.json. Accuracies are shares in [0, 1].
    """

    record: dict[str, Any]

    def __str__(self) -> str:
        from mnist_exp.experiment.device_report import lines

        return "\n".join(lines(self.record))

    @property
    def table(self) -> Any:
        """The rows of device_evaluation.csv, one a fold, repetition and time.

        A pandas DataFrame; where pandas is not installed, a list of dicts.
        """
        from mnist_exp.experiment.device_report import rows

        return as_table(rows(self.record))

    def figure(self) -> Figure:
        """Draw the mean over time, with a band of one standard deviation."""
        from mnist_exp.plots.device_evaluation import over_time_figure

        return over_time_figure(self.record)


def evaluate_device(
    run: Run | str | os.PathLike[str],
    *overrides: str,
    epoch: int | str = "best",
    fold: int | None = None,
    config_dir: str | os.PathLike[str] | None = None,
) -> DeviceAccuracy:
    """Test a run's networks on devices as ``python -m mnist_exp evaluate-device`` does.

    Nothing is written.

    Parameters
    ----------
    run : Run or path
        From `mnist_exp.load_run` or `mnist_exp.run_experiment`; or its directory.
    *overrides : str
        As on the command line: ``"evaluation=rram"``, ``"evaluation.times=[1s,1d,1y]"``.
    epoch : int or {"best", "last"}
        As in `Run.model`.
    fold : int or None
        From 1; None: all folds of the run.
    config_dir : path or None
        A directory with options of your own, as ``--config-dir``.

    Raises
    ------
    UserError
        If a setting is wrong, the devices cannot hold the network, or as `Run.model` and
        `Run.split`.
    """
    from mnist_exp.experiment.device_evaluation import build_evaluation
    from mnist_exp.experiment.device_report import record

    config = _composed(overrides, config_dir)
    settings = build_evaluation(config)
    opened = run if isinstance(run, Run) else load_run(run)
    folds = opened.folds if fold is None else [fold]
    tests = _tested(opened, settings, epoch, folds)
    config.model = opened.config.model
    return DeviceAccuracy(record(config, settings, opened.directory, tests))


def _tested(
    run: Run, settings: DeviceEvaluation, epoch: int | str, folds: Sequence[int | None]
) -> list[Tested]:
    """Test the networks of these folds, under the conditions of the run."""
    from mnist_exp.experiment.build import build_images
    from mnist_exp.experiment.device_evaluation import DeviceTest
    from mnist_exp.experiment.trained import conditions_of
    from mnist_exp.run.weights import read_weights

    with conditions_of(run.config, run.results) as conditions:
        images = build_images(run.config, run.dataset(), conditions.device)
        test = DeviceTest(run.config, settings, images, conditions.precision)
        epochs = [read_weights(run.directory, epoch, fold).epoch for fold in folds]
        return [
            test.run(run.split(fold), run.model(epoch, fold), of_fold)
            for fold, of_fold in zip(folds, epochs, strict=True)
        ]


def _composed(overrides: Sequence[str], config_dir: str | os.PathLike[str] | None) -> DictConfig:
    """Compose the configuration that holds the group ``evaluation``, and check it."""
    from mnist_exp.app.composition import composed, own_hydra
    from mnist_exp.app.hydra_callback import check_job

    for text in overrides:
        if not isinstance(text, str) or "=" not in text or key_of(text).partition(".")[0] != GROUP:
            raise UserError(
                f"{text}: a test on devices takes evaluation=OPTION and evaluation.KEY=VALUE; "
                "other settings are those of the run."
            )
    with own_hydra():
        config = composed([BRINGS_THE_GROUP, *overrides], config_dir)
    check_job(config)
    return config
