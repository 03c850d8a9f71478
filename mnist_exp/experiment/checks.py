"""Checks of a run's first fold before anything is written."""

from __future__ import annotations

from collections.abc import Collection

from mnist_exp.data.input_scale import scale_warning
from mnist_exp.errors import UserError
from mnist_exp.experiment import optimization
from mnist_exp.experiment.dataset import orientation_warning
from mnist_exp.experiment.first_step import try_first_step
from mnist_exp.experiment.fold import Fold
from mnist_exp.experiment.functions import takes_label_smoothing
from mnist_exp.experiment.ignored_settings import Facts, ignored_settings
from mnist_exp.experiment.logits import check_logits
from mnist_exp.run.saved_state import check_plain
from mnist_exp.train.random_state import random_state_kept
from mnist_exp.train.state import state_of

SCALE_SAMPLE = 1000  # training images used to check the scale of network inputs


def check_parts(first: Fold, begun: bool, said: Collection[str]) -> list[str]:
    """Check the first fold's settings before anything is written.

    Returns
    -------
    list of str
        Warnings about settings that have no effect or may not work as intended.

    Raises
    ------
    UserError
        If a learning rate or momentum leaves its range, the network gives no logit a class, the
        first step fails, or a callback cannot work. With ``begun``, the first is only a warning and
        the others are not checked.
    """
    parts, model, indices = first.parts, first.state.model, first.train_indices
    if first.state.scheduler is not None:
        check_plain(state_of(first.state.scheduler), "scheduler.state_dict()")
    # kept: training continues the random stream that drew the model's weights
    with random_state_kept(parts.device):
        try:
            schedule_changes = optimization.check_rates(parts.config, model, len(indices))
        except UserError as error:
            if begun:
                return [str(error)]
            raise
        if begun:
            return []
        warnings = _try_out(first)
        known = Facts(
            train_size=len(indices),
            test_size=len(first.split.test),
            folds=len(parts.splits),
            momentum=optimization.has_momentum(first.state.optimizer),
            schedule_changes=schedule_changes,
            smoothing=takes_label_smoothing(parts.config),
            in_sweep=parts.in_sweep,
        )
        some = parts.images.batch(indices[:SCALE_SAMPLE])[0]
    scale = scale_warning(
        some, "data.normalization=mean_std data.mean=null data.std=null takes both from the data."
    )
    hints = filter(None, (scale, orientation_warning(parts.config, parts.dataset)))
    return [*warnings, *ignored_settings(parts.config, said, known), *hints]


def _try_out(first: Fold) -> list[str]:
    """Run the network, a step, the metrics and what builds the devices of an evaluation.

    Returns the warnings of callbacks.
    """
    parts, model = first.parts, first.state.model
    two = parts.images.batch(first.train_indices[:2])[0]
    check_logits(parts.config, model, two, parts.dataset.num_classes)
    try_first_step(first)
    warnings = [
        warning
        for callback in first.callbacks.values()
        for warning in callback.check(first.state, first.training, len(parts.splits))
    ]
    if parts.metrics:
        first.try_metrics()
    if "evaluation" in parts.config:
        from mnist_exp.experiment.device_evaluation import build_evaluation, held_by_devices

        held_by_devices(build_evaluation(parts.config), model, first.state.constraint)
    return warnings
