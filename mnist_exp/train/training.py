"""What a training is: its data, its fixed settings and where its files go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from mnist_exp.cv import Split
from mnist_exp.data.batches import Augmentation
from mnist_exp.interruption import StopSignals
from mnist_exp.train.functions import name_of
from mnist_exp.train.losses import Loss
from mnist_exp.train.metrics import Metric
from mnist_exp.train.state import TrainState


@dataclass(frozen=True)
class Recipe:
    """The fixed settings of a training.

    Attributes
    ----------
    epochs : int
        Passes over the training images.
    batch_size : int
        Images per optimizer step; the last batch of an epoch may be smaller.
    label_smoothing : float
        Share of the target spread over all classes.
    loss : callable or None
        From logits [B, C] and labels [B] to a scalar; None: cross-entropy with ``label_smoothing``.
    precision : {"fp32", "bf16"}
        Of convolutions and matrix products, except small ones; weights stay float32.
    on_nan : {"stop", "skip"}
        Response to a batch whose loss is not finite.
    augmentation : Augmentation or None
        Applied to the pixels of a training batch before normalisation.
    log_every : int or None
        Steps between two calls of `Callback.on_step_logged`; None: it is never called.
    """

    epochs: int = 10
    batch_size: int = 128
    label_smoothing: float = 0.0
    precision: str = "fp32"
    on_nan: str = "stop"
    augmentation: Augmentation | None = None
    log_every: int | None = 10
    loss: Loss | None = None

    @property
    def loss_note(self) -> str:
        """How the training loss differs from that of an evaluation, plain cross-entropy."""
        if self.loss is not None:
            return name_of(self.loss).rpartition(".")[2]
        return f"labels smoothed by {self.label_smoothing:g}" if self.label_smoothing else ""


class Batches(Protocol):
    """Training data on the compute device, such as `mnist_exp.data.batches.Images`."""

    @property
    def device(self) -> torch.device:
        """Where the batches live."""

    def batch(
        self, indices: Tensor, augmentation: Augmentation | None, generator: Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Return network inputs [B, ...] and int64 labels [B] of ``indices``."""


@dataclass(frozen=True)
class Training:
    """A training from its data to its files; `train` and every callback get it.

    Attributes
    ----------
    images : Batches
        The data on the compute device.
    indices : Tensor
        int64, the images to train on.
    recipe : Recipe
        The fixed settings.
    metrics : mapping
        Measured at the end of each epoch besides loss and accuracy, by name.
    split : Split or None
        Images to train, validate and test on; None outside of a run.
    run : Path
        The run directory.
    config : mapping
        The run's resolved configuration, as plain values; empty outside of a run.
    signals : StopSignals
        Stop requests. Long work in a callback runs within ``signals.at_once()``.
    """

    images: Batches
    indices: Tensor
    recipe: Recipe
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    split: Split | None = None
    run: Path = Path()
    config: Mapping[str, Any] = field(default_factory=dict)
    signals: StopSignals = field(default_factory=StopSignals)

    @property
    def fold(self) -> int | None:
        """The fold, from 1; None for the only split."""
        return None if self.split is None else self.split.fold

    @property
    def directory(self) -> Path:
        """Directory of this training's own files: the run's, or in it the fold's."""
        return self.run if self.fold is None else self.run / f"fold_{self.fold}"

    @property
    def checkpoints(self) -> str:
        """Directory of this training's checkpoints, relative to the run directory."""
        return "checkpoints" if self.fold is None else f"checkpoints/fold_{self.fold}"

    @property
    def label(self) -> str:
        """Prefix of lines printed about this training."""
        return "" if self.fold is None else f"fold {self.fold} | "

    @property
    def batches(self) -> int:
        """Optimizer steps in an epoch, counting a smaller last batch."""
        return batches_an_epoch(len(self.indices), self.recipe.batch_size)

    def steps(self, state: TrainState) -> int:
        """Return the number of optimizer steps so far; between epochs, of whole epochs."""
        return state.epoch * self.batches + (0 if state.order is None else state.batch)

    def logs(self, step: int) -> bool:
        """Whether `Callback.on_step_logged` follows this optimizer step, counted from 1."""
        return self.recipe.log_every is not None and step % self.recipe.log_every == 0


def batches_an_epoch(train_size: int, batch_size: int) -> int:
    """Return the number of batches in an epoch, counting a smaller last one."""
    return -(-train_size // batch_size)
