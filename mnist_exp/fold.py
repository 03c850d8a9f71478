"""Training and testing on one split."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import nn

from mnist_exp import build
from mnist_exp.cv import Split
from mnist_exp.data import Dataset
from mnist_exp.device_diagnostics import DeviceDiagnostics
from mnist_exp.evaluate import Evaluation, evaluate
from mnist_exp.gradient_collection import GradientCollection
from mnist_exp.gradient_norm import GradientNorm
from mnist_exp.models import count_parameters
from mnist_exp.progress import Progress
from mnist_exp.run.checkpoints import load_checkpoint
from mnist_exp.run.directory import Recorder, RunDirectory, export_weights, selected_epoch
from mnist_exp.run.interruption import Interrupted, StopSignals
from mnist_exp.train import Callback, train
from mnist_exp.training_state import Row


@dataclass(frozen=True)
class FoldResult:
    """What came of one split.

    Attributes
    ----------
    fold : int or None
        From 1; None when there is only one split.
    seed : int
        Of the fold's weights, data order, augmentation and dropout.
    epoch : int
        The epoch whose weights are reported.
    evaluation : Evaluation
        Of those weights, on the split's test images.
    history : list of dict
        A row of metrics an epoch.
    parameters : int
        Trainable parameters of the model.
    wall_seconds : float
        Training and evaluation.
    """

    fold: int | None
    seed: int
    epoch: int
    evaluation: Evaluation
    history: list[Row]
    parameters: int
    wall_seconds: float

    def row(self) -> dict[str, Any]:
        """Return the fold's row of results.json."""
        return {
            "fold": self.fold,
            "seed": self.seed,
            "selected_epoch": self.epoch,
            "accuracy": self.evaluation.accuracy,
            "loss": self.evaluation.loss,
            "per_class_accuracy": self.evaluation.per_class_accuracy,
            "confusion_matrix": self.evaluation.confusion_matrix.tolist(),
            "wall_seconds": self.wall_seconds,
            "epochs": self.history,
        }


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


def train_fold(
    config: DictConfig, dataset: Dataset, split: Split, directory: Path, config_hash: str
) -> FoldResult:
    """Train on one split from fresh weights, choose the epoch, and test it.

    Raises
    ------
    Interrupted
        If a signal asked to stop; a checkpoint of that moment is written first.
    """
    started = time.perf_counter()
    device = build.prepare_torch(config)
    images = build.build_images(config, dataset, device)
    recipe = build.build_recipe(config)
    train_indices = split.train.to(device)
    seed = fold_seed(config.seed, split.fold)
    state = build.build_state(config, dataset.num_classes, len(train_indices), device, seed)

    def evaluate_on(model: nn.Module, indices: torch.Tensor) -> Evaluation:
        return evaluate(
            model,
            images,
            indices.to(device),
            batch_size=config.training.eval_batch_size,
            precision=recipe.precision,
        )

    def epoch_metrics(model: nn.Module) -> Row:
        row: Row = {}
        if split.validation is not None:
            validation = evaluate_on(model, split.validation)
            row |= {
                "validation_loss": validation.loss,
                "validation_accuracy": validation.accuracy,
            }
        if config.training.test_every_epoch:
            test = evaluate_on(model, split.test)
            row |= {"test_loss": test.loss, "test_accuracy": test.accuracy}
        return row

    run = RunDirectory(directory)
    choose = by_validation(config, split)
    recorder = Recorder(run, split.fold, config.checkpoints.keep, choose, config_hash)
    label = "" if split.fold is None else f"fold {split.fold} | "
    progress = Progress(
        recipe.epochs,
        -(-len(train_indices) // recipe.batch_size),
        label=label,
        verbose=config.verbose,
    )
    callbacks: list[Callback] = [progress, recorder]
    part = directory if split.fold is None else directory / f"fold_{split.fold}"
    collector = build.call_target(config, "gradients")
    if collector is not None:
        callbacks.insert(0, GradientCollection(collector, images, train_indices, recipe, part))
    if state.constraint is not None:
        some = train_indices[:1000]
        callbacks.insert(0, DeviceDiagnostics(state.constraint, images, some))
    if config.training.gradient_norm or config.verbose:
        callbacks.insert(0, GradientNorm())
    with StopSignals() as signals:
        try:
            train(state, images, train_indices, recipe, epoch_metrics, [*callbacks, signals])
        except Interrupted:
            recorder.save(state)
            raise
        finally:
            progress.close()
    model = state.evaluated_model
    if choose:
        best = load_checkpoint(recorder.directory / "best.pt", device)
        model.load_state_dict(best["model"])
    if split.fold is None:
        export_weights(model, recorder.directory / "mnist_mlp.pth")
    return FoldResult(
        fold=split.fold,
        seed=seed,
        epoch=selected_epoch(state.history, choose),
        evaluation=evaluate_on(model, split.test),
        history=state.history,
        parameters=count_parameters(state.model),
        wall_seconds=time.perf_counter() - started,
    )
