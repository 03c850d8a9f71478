"""Training and testing on one split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from torch import Tensor, nn

from mnist_exp.callbacks.device_monitor import DeviceDiagnostics
from mnist_exp.callbacks.gradient_norm import GradientNorm
from mnist_exp.callbacks.progress import Progress
from mnist_exp.callbacks.recorder import Recorder, export_weights, fold_label
from mnist_exp.callbacks.stop import StopAtBatchEnd
from mnist_exp.callbacks.tracking import Tracking
from mnist_exp.cv import Split
from mnist_exp.data import Dataset
from mnist_exp.data.dataset import sha256
from mnist_exp.errors import UserError
from mnist_exp.experiment import build
from mnist_exp.experiment.instantiate import call_target
from mnist_exp.interruption import Interrupted, StopSignals
from mnist_exp.models.parametrizations import count_parameters, state_sha256
from mnist_exp.run.directory import RunDirectory, part_of_run
from mnist_exp.run.fold_result import FoldResult
from mnist_exp.run.saved_config import training_config
from mnist_exp.train.callback import Callback
from mnist_exp.train.evaluate import Evaluation, evaluate
from mnist_exp.train.loop import LossNotFinite, train
from mnist_exp.train.state import Row


def fold_seed(seed: int, fold: int | None) -> int:
    """Derive a fold's seed from the run's, so that folds are independent and their order is free.

    By numpy's ``SeedSequence``, whose children of different seeds do not collide.
    """
    if fold is None:
        return seed
    return int(np.random.SeedSequence(seed, spawn_key=(fold,)).generate_state(1)[0])


def by_validation(config: DictConfig, split: Split) -> bool:
    """Whether the reported epoch is chosen by validation accuracy (else it is the last)."""
    selection = config.training.selection
    return selection == "validation" or (selection == "auto" and split.validation is not None)


def open_directory(
    config: DictConfig, directory: Path, dataset: Dataset, splits: Sequence[Split]
) -> RunDirectory:
    """Return the run directory that belongs to these images and splits."""
    split_sha256 = {split.fold: split.sha256() for split in splits}
    return RunDirectory(directory, training_config(config), sha256(dataset), split_sha256)


class Fold:
    """A split and everything that trains and tests a network on it.

    Parameters
    ----------
    config : DictConfig
        The whole configuration.
    dataset : Dataset
        What the split's indices point into.
    split : Split
        Images to train, validate and test on.
    run : RunDirectory
        Where checkpoints and metrics go, and where those of an interrupted run are.
    signals : StopSignals
        Asked after every batch whether to stop, and heard while gradients are collected.
    """

    def __init__(
        self,
        config: DictConfig,
        dataset: Dataset,
        split: Split,
        run: RunDirectory,
        signals: StopSignals,
    ) -> None:
        self.config = config
        self.split = split
        self.signals = signals
        self.device = build.prepare_torch(config)
        self.images = build.build_images(config, dataset, self.device)
        self.train_indices = split.train.to(self.device)
        self.recipe = build.build_recipe(config, self.device)
        self.seed = fold_seed(config.seed, split.fold)
        self.state = build.build_state(
            config, dataset.num_classes, len(split.train), self.device, self.seed
        )
        self.progress = Progress(
            self.recipe.epochs,
            -(-len(split.train) // self.recipe.batch_size),
            label=fold_label(split.fold),
            verbose=config.verbose,
        )
        self.measurements = self._measurements(run)
        self.recorder = Recorder(
            run, split.fold, config.checkpoints.keep, by_validation(config, split)
        )
        self.recorder.restore(self.state)
        order = self.state.order
        if order is not None and not order.sort().values.equal(self.train_indices.sort().values):
            raise UserError(
                f"{self.recorder.directory}: the newest checkpoint is damaged: its order is not "
                "that of the training images."
            )

    def _measurements(self, run: RunDirectory) -> list[Callback]:
        """Return what is recorded of the training besides loss and accuracy."""
        directory = part_of_run(run.path, self.split.fold)
        callbacks: list[Callback] = []
        self.collects_batches = False
        if self.config.training.gradient_norm or self.config.verbose:
            callbacks.append(GradientNorm())
        if self.state.constraint is not None:
            some = self.train_indices[:1000]
            callbacks.append(DeviceDiagnostics(self.state.constraint, self.images, some))
        collector = call_target(self.config, "gradients")
        if collector is not None:
            self.collects_batches = collector.mode == "batch"
            collector.bind(
                self.images,
                self.train_indices,
                self.recipe,
                directory,
                run.checkpoints(self.split.fold).relative_to(run.path).as_posix(),
                self.signals,
            )
            callbacks.append(collector)
        log_dir = str(directory / "tensorboard")
        writer = call_target(self.config, "tracker", log_dir=log_dir)
        if writer is not None:
            callbacks.append(Tracking(writer))
        return callbacks

    def train(self) -> None:
        """Train from fresh weights, or from where an earlier run was interrupted.

        Raises
        ------
        Interrupted
            If a signal asked to stop; a checkpoint of that moment is written first.
        """
        if self.resumes:
            batches = f" and {self.state.batch} batches" if self.state.order is not None else ""
            label = fold_label(self.split.fold)
            print(f"{label}goes on after {self.state.epoch} epochs{batches}", flush=True)
        stop = StopAtBatchEnd(self.signals)
        callbacks = [*self.measurements, self.progress, self.recorder, stop]
        try:
            train(
                self.state,
                self.images,
                self.train_indices,
                self.recipe,
                self.epoch_metrics,
                callbacks,
            )
        except Interrupted:
            # between epochs the last checkpoint has it all; gradients of batches come in whole
            # epochs, so that such a run goes on from the epoch's beginning
            if self.state.order is not None and not self.collects_batches:
                self.recorder.save(self.state)
            raise
        finally:
            for callback in callbacks:
                callback.close()

    @property
    def resumes(self) -> bool:
        """Whether some of the training was done earlier, and some is left."""
        begun = self.state.epoch > 0 or self.state.order is not None
        return begun and self.state.epoch < self.recipe.epochs

    def test(self) -> FoldResult:
        """Evaluate the weights of the selected epoch on the test images."""
        model, best = self.state.evaluated_model, self.state.best
        assert best is not None, "train comes first"
        model.load_state_dict(best["model"])
        if self.split.fold is None:
            export_weights(model, self.recorder.directory / "mnist_mlp.pth")
        return FoldResult(
            fold=self.split.fold,
            seed=self.seed,
            epoch=best["epoch"],
            evaluation=self.evaluate_on(model, self.split.test),
            history=self.state.history,
            parameters=count_parameters(self.state.model),
            weights_sha256=state_sha256(model),
            wall_seconds=self.recorder.wall_seconds,
        )

    def epoch_metrics(self, model: nn.Module) -> Row:
        """Return validation and test metrics of an epoch, as far as they are asked for."""
        row: Row = {}
        parts = {"validation": self.split.validation}
        if self.config.training.test_every_epoch:
            parts["test"] = self.split.test
        for part, indices in parts.items():
            if indices is not None:
                evaluation = self.evaluate_on(model, indices)
                row |= {f"{part}_loss": evaluation.loss, f"{part}_accuracy": evaluation.accuracy}
        return row

    def evaluate_on(self, model: nn.Module, indices: Tensor) -> Evaluation:
        """Evaluate ``model`` on some images.

        Raises
        ------
        LossNotFinite
            If the weights have become useless.
        """
        evaluation = evaluate(
            model,
            self.images,
            indices.to(self.device),
            batch_size=self.config.training.eval_batch_size,
            precision=self.recipe.precision,
        )
        if not math.isfinite(evaluation.loss):
            raise LossNotFinite(
                f"the evaluation loss is {evaluation.loss} after epoch {self.state.epoch}: "
                "training diverged. Try a lower learning rate (optimizer.lr, scheduler.max_lr)."
            )
        return evaluation


def train_fold(
    config: DictConfig,
    dataset: Dataset,
    split: Split,
    run: RunDirectory,
    signals: StopSignals,
) -> FoldResult:
    """Train on one split, choose the epoch, and test it.

    Raises
    ------
    Interrupted
        If a signal asked to stop; a checkpoint of that moment is written first.
    """
    fold = Fold(config, dataset, split, run, signals)
    fold.train()
    with signals.at_once():
        return fold.test()
