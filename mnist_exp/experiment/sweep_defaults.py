"""Settings that null leaves to the kind of run: a job of a sweep leaves less behind."""

from __future__ import annotations

from omegaconf import DictConfig

from mnist_exp.run.saved_config import AS_WRITTEN_OUT

KEPT: int = AS_WRITTEN_OUT["checkpoints"]["keep"]  # newest checkpoints
KEPT_OF_JOB = 1  # a thousand jobs with more would fill a disk


def draws(config: DictConfig, in_sweep: bool) -> bool:
    """Whether pictures are drawn at the end (``plots.enabled``)."""
    enabled: bool | None = config.plots.enabled
    return not in_sweep if enabled is None else enabled


def reports(config: DictConfig, in_sweep: bool) -> bool:
    """Whether report.html is written at the end (``report.enabled``)."""
    enabled: bool | None = config.report.enabled
    return not in_sweep if enabled is None else enabled


def keeps_predictions(config: DictConfig, in_sweep: bool) -> bool:
    """Whether predictions.npz is written at the end (``report.predictions``)."""
    predictions: bool | None = config.report.predictions
    return reports(config, in_sweep) if predictions is None else predictions


def checkpoints_kept(config: DictConfig, in_sweep: bool) -> int:
    """Return how many of the newest checkpoints are kept (``checkpoints.keep``)."""
    keep: int | None = config.checkpoints.keep
    return (KEPT_OF_JOB if in_sweep else KEPT) if keep is None else keep
