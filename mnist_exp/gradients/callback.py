"""Per-sample gradients, collected around the training steps."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from mnist_exp.data.batches import Images
from mnist_exp.gradients import GradientCollector, Samples
from mnist_exp.interruption import StopSignals
from mnist_exp.train.callback import Callback
from mnist_exp.train.loop import Recipe
from mnist_exp.train.state import Row, TrainState


class GradientCollection(Callback):
    """Call a collector at the moments of training it is meant for.

    Parameters
    ----------
    collector : GradientCollector
        What to collect, and how.
    images : Images
        The data.
    indices : Tensor
        int64, the training images.
    recipe : Recipe
        Of the training.
    directory : Path
        The run directory, or a fold's part of it.
    checkpoints : str
        Where the run directory has the checkpoints of this training.
    signals : StopSignals or None
        They stop the collection after an epoch wherever it is; the epoch is then trained again.
    """

    def __init__(
        self,
        collector: GradientCollector,
        images: Images,
        indices: Tensor,
        recipe: Recipe,
        directory: Path,
        checkpoints: str = "checkpoints",
        signals: StopSignals | None = None,
    ) -> None:
        self.signals = signals or StopSignals()
        self.collector = collector
        self.images = images
        self.recipe = recipe
        self.directory = directory
        self.checkpoints = checkpoints
        self.augmentation = recipe.augmentation
        if collector.mode == "epoch" and not collector.augmented:
            self.augmentation = None
        self.samples = Samples(
            images.pixels,
            images.labels,
            indices,
            prepare=self._inputs,
            augmented=self.augmentation is not None,
        )

    def _inputs(self, pixels: Tensor) -> Tensor:
        # the collector reseeds torch's own generator around this, and puts it back
        return self.images.inputs(pixels, self.augmentation, torch.default_generator)

    def check_space(self, model: nn.Module, folds: int) -> None:
        """Check that what a whole run collects fits on the disk.

        Raises
        ------
        UserError
            If it does not, or ``model`` is none that gradients can be collected from.
        """
        epochs = range(1, self.recipe.epochs + 1)
        self.collector.check_space(model, self.samples, self.directory, epochs, folds)

    def on_train_start(self, state: TrainState) -> None:
        """Check the disk space and, if asked for, collect at the initial weights."""
        if state.epoch or state.order is not None:  # it goes on: the initial weights are gone
            self.collector.at_start = False
        with self.signals.at_once():
            self.collector.start(
                state.model,
                self.samples,
                run_directory=self.directory,
                num_epochs=self.recipe.epochs,
                label_smoothing=self.recipe.label_smoothing,
                epochs_done=state.epoch,
            )

    def on_batch_start(self, state: TrainState, indices: Tensor, images: Tensor) -> None:
        """Hand a training batch over, at the weights it meets."""
        if self.collector.mode == "batch":
            self.collector.on_batch(state.epoch + 1, state.model, images, indices)

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """Collect the epoch's gradients and add their figures to its row."""
        checkpoint = f"{self.checkpoints}/epoch_{state.epoch:05d}.pt"
        with self.signals.at_once():
            row |= self.collector.after_epoch(state.epoch, state.model, checkpoint=checkpoint)

    def close(self) -> None:
        """Drop an epoch of gradients that is not complete."""
        self.collector.close()
