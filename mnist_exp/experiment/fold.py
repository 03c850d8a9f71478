"""Train and test on one split."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from torch import Tensor, nn

from mnist_exp.callbacks.display import Display
from mnist_exp.cv import Split
from mnist_exp.data.dataset import sha256
from mnist_exp.errors import UserError
from mnist_exp.experiment import build
from mnist_exp.experiment.callbacks import build_callbacks
from mnist_exp.experiment.mlp_weights import export_weights
from mnist_exp.experiment.parts import Parts
from mnist_exp.experiment.sweep_defaults import checkpoints_kept, keeps_predictions
from mnist_exp.interruption import StopSignals
from mnist_exp.models.parametrizations import count_parameters, state_sha256
from mnist_exp.run.directory import RunDirectory, read_steps
from mnist_exp.run.fold_result import FoldResult
from mnist_exp.run.saved_config import training_config
from mnist_exp.run.saved_state import check_state
from mnist_exp.train.evaluate import Evaluation, evaluate
from mnist_exp.train.loop import LossNotFinite, train
from mnist_exp.train.state import Row
from mnist_exp.train.training import Training
from mnist_exp.wording import counted

METRICS_SAMPLE = 1000  # test images on which metrics are tried before training


def fold_seed(seed: int, fold: int | None) -> int:
    """Derive a fold's seed from the run's, independent of the order in which folds train.

    Children of different seeds in numpy's ``SeedSequence`` do not collide. The only split
    (``fold=None``) uses the run's seed.
    """
    if fold is None:
        return seed
    return int(np.random.SeedSequence(seed, spawn_key=(fold,)).generate_state(1)[0])


def by_validation(config: DictConfig, split: Split) -> bool:
    """Whether validation accuracy selects the reported epoch; otherwise it is the last one."""
    selection = config.training.selection
    return selection == "validation" or (selection == "auto" and split.validation is not None)


def open_directory(
    parts: Parts, directory: Path, config: dict[str, Any] | None = None
) -> RunDirectory:
    """Open ``directory`` as the run directory for this configuration, data and splits.

    ``config`` is the `training_config` of the parts' where it is known.
    """
    split_sha256 = {split.fold: split.sha256() for split in parts.splits}
    config = config or training_config(parts.config)
    weights = None if parts.pretrained is None else parts.pretrained.sha256
    return RunDirectory(directory, config, sha256(parts.dataset), split_sha256, weights)


class Fold:
    """One split, the training state of its network and the callbacks of its training.

    Construction seeds torch's global generator and leaves it in the state where training starts.

    Parameters
    ----------
    parts : Parts
        What all folds share.
    split : Split
        Images to train, validate and test on.
    run : RunDirectory
        Where checkpoints and metrics go.
    signals : StopSignals
        Stop requests, checked after every batch and while gradients are collected.
    display : Display
        Where progress is shown, of all folds in one.
    """

    def __init__(
        self, parts: Parts, split: Split, run: RunDirectory, signals: StopSignals, display: Display
    ) -> None:
        config = parts.config
        self.parts = parts
        self.split = split
        self.run = run
        self.signals = signals
        self.display = display
        self.train_indices = split.train.to(parts.device)
        self.seed = fold_seed(config.seed, split.fold)
        self.state = build.build_state(
            config,
            parts.dataset.num_classes,
            len(split.train),
            parts.device,
            self.seed,
            validated=split.validation is not None,
            metrics=parts.metrics,
            pretrained=parts.pretrained,
            image_shape=parts.dataset.image_shape,
        )
        # parts of the user's may keep state, which no other fold must see
        own = {
            name: copy.deepcopy(getattr(parts.recipe, name)) for name in ("augmentation", "loss")
        }
        self.training = Training(
            images=parts.images,
            indices=self.train_indices,
            recipe=replace(parts.recipe, **own),
            metrics=parts.metrics,
            split=split,
            run=run.path,
            config=run.config,
            signals=signals,
        )
        self.by_validation = by_validation(config, split)
        self.keep_logits = keeps_predictions(config, parts.in_sweep)
        keep = checkpoints_kept(config, parts.in_sweep)
        self.callbacks = build_callbacks(
            config, run, self.by_validation, display, keep, parts.callbacks
        )

    def restore(self, saved: Mapping[str, Any] | None) -> None:
        """Restore the state from a checkpoint; do nothing if ``saved`` is None.

        Raises
        ------
        UserError
            If the checkpoint does not fit this training.
        """
        if saved is None:
            return
        where, history = self.run.checkpoints(self.split.fold), saved["state"]["history"]
        if self.by_validation and any("validation_accuracy" not in row for row in history):
            raise UserError(f"{where}: an epoch of the checkpoint was not validated.")
        check_state(saved["state"], self.state, where)
        try:
            self.state.load_state_dict(saved["state"])
            for name, own in saved.get("callbacks", {}).items():
                self.callbacks[name].load_state_dict(own)
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(
                f"{where}: the newest checkpoint does not fit this model or machine: {error}"
            ) from error
        order = self.state.order
        if order is not None and not order.sort().values.equal(self.train_indices.sort().values):
            raise UserError(
                f"{where}: the newest checkpoint is damaged: its order is not that of the "
                "training images."
            )

    @property
    def finished(self) -> bool:
        """Whether the training has ended."""
        return self.state.finished(self.parts.recipe.epochs)

    def complete(self) -> None:
        """Train the remaining epochs.

        Raises
        ------
        Interrupted
            If a signal requested a stop; a checkpoint is written first.
        """
        state = self.state
        if state.epoch > 0 or state.order is not None:
            done = counted(state.epoch, "epoch")
            if state.order is not None:
                done += f" and {counted(state.batch, 'batch', 'batches')}"
            self.display.line(f"{self.training.label}resumes after {done}")
        callbacks = list(self.callbacks.values())
        try:
            train(state, self.training, self.epoch_metrics, callbacks)
        finally:
            for callback in callbacks:
                callback.close()

    def test(self) -> FoldResult:
        """Evaluate the weights of the selected epoch on the test images."""
        model, best = self.state.evaluated_model, self.state.best
        assert best is not None, "complete comes first"
        model.load_state_dict(best["model"])
        if self.split.fold is None:
            export_weights(model, self.run.checkpoints(None) / "mnist_mlp.pth")
        return FoldResult(
            fold=self.split.fold,
            seed=self.seed,
            epoch=best["epoch"],
            evaluation=self.evaluate_on(model, self.split.test, keep_logits=self.keep_logits),
            history=self.state.history,
            steps=read_steps(self.run.path, self.split.fold),
            stopped=self.state.stopped,
            parameters=count_parameters(self.state.model),
            weights_sha256=state_sha256(model),
            wall_seconds=self.state.wall_seconds,
        )

    def epoch_metrics(self, model: nn.Module) -> Row:
        """Return validation metrics, and test metrics if ``training.test_every_epoch``."""
        row: Row = {}
        parts = {"validation": self.split.validation}
        if self.parts.config.training.test_every_epoch:
            parts["test"] = self.split.test
        for part, indices in parts.items():
            if indices is not None:
                evaluation = self.evaluate_on(model, indices)
                row |= {f"{part}_loss": evaluation.loss, f"{part}_accuracy": evaluation.accuracy}
                row |= {f"{part}_{name}": value for name, value in evaluation.metrics.items()}
        self._check_columns(row)
        return row

    def try_metrics(self) -> None:
        """Measure the metrics on some test images, so that a mistake shows before training.

        Raises
        ------
        UserError
            If one does not return a number, or numbers by name.
        """
        some = self.split.test[:METRICS_SAMPLE].to(self.parts.device)
        evaluate(
            self.state.evaluated_model,
            self.parts.images,
            some,
            batch_size=self.parts.config.training.eval_batch_size,
            precision=self.parts.recipe.precision,
            metrics=copy.deepcopy(self.parts.metrics),
        )

    def _check_columns(self, row: Row) -> None:
        """Refuse metrics whose values have other names than in the epoch before."""
        own = {f"{part}_{name}" for part in ("validation", "test") for name in self.parts.metrics}
        before = self.state.history[-1] if self.state.history else row
        was, now = ({key for key in r if key.partition(".")[0] in own} for r in (before, row))
        for column in sorted(was ^ now):
            name = column.partition("_")[2].partition(".")[0]
            raise UserError(
                f"metrics.{name}: {column} is a value of only some epochs; a metric gives values "
                "of the same names every time, NaN where there is none."
            )

    def evaluate_on(
        self, model: nn.Module, indices: Tensor, keep_logits: bool = False
    ) -> Evaluation:
        """Evaluate ``model`` on the images at ``indices``.

        Raises
        ------
        LossNotFinite
            If the loss is NaN or infinite.
        """
        evaluation = evaluate(
            model,
            self.parts.images,
            indices.to(self.parts.device),
            batch_size=self.parts.config.training.eval_batch_size,
            precision=self.parts.recipe.precision,
            metrics=self.parts.metrics,
            keep_logits=keep_logits,
        )
        if not math.isfinite(evaluation.loss):
            raise LossNotFinite(
                f"the evaluation loss is {evaluation.loss} after epoch {self.state.epoch}: "
                "training diverged. Try a lower learning rate (optimizer.lr, scheduler.max_lr)."
            )
        return evaluation


def finish(fold: Fold, saved: Mapping[str, Any] | None) -> FoldResult:
    """Restore a fold, train its remaining epochs and test the selected one.

    Parameters
    ----------
    fold : Fold
        Freshly built.
    saved : dict or None
        Content of its newest checkpoint, if any.

    Raises
    ------
    Interrupted
        If a signal requested a stop; a checkpoint is written first.
    """
    fold.restore(saved)
    if not fold.finished:
        fold.complete()
    with fold.signals.at_once():
        return fold.test()
