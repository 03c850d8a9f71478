"""A callback that collects gradients during training."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from mnist_exp.data.batches import Images
from mnist_exp.device.reading.layers import is_read
from mnist_exp.errors import UserError
from mnist_exp.gradients.collection import collect
from mnist_exp.gradients.disk_space import check_disk_space
from mnist_exp.gradients.epoch_writer import EpochRecording
from mnist_exp.gradients.location import check_root, own_directory
from mnist_exp.gradients.preparation import CollectionSettings, Preparation
from mnist_exp.gradients.samples import Samples, replayed_randomness
from mnist_exp.gradients.statistics import cosines, metrics
from mnist_exp.schema.gradient_parts import GRADIENTS
from mnist_exp.schema.rule import check_settings
from mnist_exp.train.callback import Callback
from mnist_exp.train.functions import name_of
from mnist_exp.train.state import Row, TrainState
from mnist_exp.train.training import Training


class GradientCollector(Callback):
    """Collect per-sample gradients while a model is trained.

    The parameters are the keys of ``conf/gradients/epoch.yaml``; those not
    listed here are described in ``CollectionSettings``.

    Parameters
    ----------
    mode
        ``epoch``: all gradients at the weights after an epoch. ``batch``: those of each training
        batch at the weights before its step, in training order, one set of files per epoch.
    directory
        Name of the directory, inside the run directory, that holds the epochs.
    root
        Absolute path of a directory, on another disk, in which the run makes a folder of its own
        for the epochs; ``directory`` then holds only a reference to it. None: ``directory`` holds
        the epochs.
    epochs
        Epochs to collect, from 1; None: all.
    at_start
        Whether to collect before training too, as ``epoch_0``.
    max_samples, sample_choice
        How many samples, None for all, and which: ``random`` or the ``first``. Mode ``epoch`` only.
    augmented
        Whether samples are augmented as in training. Mode ``batch`` ignores it and uses the
        training inputs.
    """

    def __init__(
        self,
        *,
        mode: str = "epoch",
        directory: str = "gradients",
        root: str | None = None,
        epochs: Sequence[int] | None = None,
        at_start: bool = False,
        max_samples: int | None = None,
        sample_choice: str = "random",
        augmented: bool = False,
        parameters: Sequence[str] | None = None,
        format: str = "factored",
        dtype: str = "float32",
        dropout: bool = False,
        cosine: bool = False,
        top_k: int = 20,
        working_memory: int = 128,
        seed: int = 0,
    ):
        settings = {name: value for name, value in locals().items() if name in GRADIENTS}
        check_settings(GRADIENTS, settings, "gradients")
        if mode == "batch" and (max_samples is not None or at_start):
            raise UserError(
                "gradients=batch takes every training batch: set gradients.max_samples=null and "
                "gradients.at_start=false, or use gradients=epoch."
            )
        self.mode = mode
        # the gradients of batches are stored by whole epochs
        self.resumes_within_epochs = mode == "epoch"
        self.directory = directory
        self.root = root
        self.epochs = None if epochs is None else set(epochs)
        self.at_start = at_start
        self.max_samples = max_samples
        self.sample_choice = sample_choice
        self.augmented = augmented
        self.settings = CollectionSettings(
            parameters=parameters,
            format=format,
            dtype=dtype,
            dropout=dropout,
            label_smoothing=0.0,
            cosine=cosine,
            top_k=top_k,
            working_memory=working_memory,
            seed=seed,
            one_moment=mode == "epoch",
        )
        self._recording: EpochRecording | None = None
        self._batch_sizes: list[int] = []

    def bind(self, training: Training) -> None:
        """Take data, recipe and directories of a training; `check` and `on_train_start` do it."""
        images, recipe = training.images, training.recipe
        if recipe.loss is not None:
            raise UserError(
                f"gradients={self.mode}: collects the gradients of cross-entropy, and the loss is "
                f"{name_of(recipe.loss)}. Use gradients=none or loss=cross_entropy."
            )
        if not isinstance(images, Images):
            raise UserError(f"gradients: needs images, not {type(images).__name__}.")
        augmentation = recipe.augmentation if self.augmented or self.mode == "batch" else None

        def inputs(pixels: Tensor) -> Tensor:
            # the collection seeds torch's global generator before this and restores it afterwards
            return images.inputs(pixels, augmentation, torch.default_generator)

        everything = Samples(
            images.pixels,
            images.labels,
            training.indices,
            inputs,
            augmented=augmentation is not None,
        )
        self.samples = everything.subset(self.max_samples, self.sample_choice, self.settings.seed)
        self.settings = replace(self.settings, label_smoothing=recipe.label_smoothing)
        self.num_epochs = recipe.epochs
        self._directory = self.path = training.directory / self.directory
        self.checkpoints = training.checkpoints
        self.signals = training.signals

    def check(self, state: TrainState, training: Training, folds: int) -> Iterable[str]:
        """Check before training that the gradients can be collected.

        Raises
        ------
        UserError
            If a requested epoch is beyond the training, or nothing would be collected; if the
            gradients of all folds do not fit on the disk; or if those of the model cannot be
            collected, as where its products are read from arrays.
        """
        self.bind(training)
        never = sorted((self.epochs or set()) - set(range(1, self.num_epochs + 1)), key=str)
        if never or not (self.epochs is None or self.epochs or self.at_start):
            raise UserError(
                f"gradients.epochs={never}: the training has the epochs 1 to {self.num_epochs}; "
                "give some of them, or null for all."
            )
        self._check_model(state.model, 0, folds)
        return ()

    def _check_model(self, model: nn.Module, first_epoch: int, folds: int = 1) -> None:
        if is_read(model):
            raise UserError(
                "gradients: are those of exact products, and constraint.read has products read "
                "from arrays. Use gradients=none or constraint.read=null."
            )
        directory = self.path if self.root is None else check_root(self.root)
        epochs = range(first_epoch, self.num_epochs + 1)
        collections = folds * sum(map(self.collects, epochs))
        if collections > 0:
            check_disk_space(
                model, self.samples, self.settings, directory=directory, num_epochs=collections
            )

    def collects(self, epoch: int) -> bool:
        """Return whether the gradients of ``epoch`` are collected; 0 is before training."""
        if epoch == 0:
            return self.at_start
        return self.epochs is None or epoch in self.epochs

    def on_train_start(self, state: TrainState, training: Training) -> None:
        """Check the disk space and, with ``at_start``, collect at the initial weights.

        Raises
        ------
        UserError
            If the gradients do not fit on the disk or cannot be collected from this model.
        """
        self.bind(training)
        goes_on = state.epoch > 0 or state.order is not None  # the initial weights are gone
        with self.signals.at_once():
            self._check_model(state.model, state.epoch + 1 if goes_on else 0)
            self.path = own_directory(self._directory, self.root)
            if self.at_start and not goes_on:
                self._collect(0, state.model, checkpoint=None)

    def on_batch_start(self, state: TrainState, indices: Tensor, inputs: Tensor) -> None:
        """Record the gradients of a training batch, at the weights before its step.

        Raises
        ------
        UserError
            If something other than ``recipe.augmentation`` changed the inputs.
        """
        epoch = state.epoch + 1
        if self.mode != "batch" or not self.collects(epoch):
            return
        if self._recording is None:
            self._recording = self._begin(epoch, state.model)
        recording = self._recording
        preparation = recording.preparation
        where = indices.to(self.samples.images.device)
        pixels, labels = self.samples.images[where], self.samples.labels[where]
        shades = preparation.pixels
        if shades is not None and not torch.equal(
            shades[pixels.flatten().long()], inputs.flatten()
        ):
            raise UserError(
                f"The inputs of a batch in epoch {epoch} are not those of its images: something "
                "other than recipe.augmentation changes them."
            )
        preparation.model.load_weights(state.model)
        with replayed_randomness(preparation.device, self.settings.seed + len(self._batch_sizes)):
            batch = preparation.model(inputs, labels)
        gradients, norms = recording.add(batch, images=pixels, labels=labels, ids=indices)
        means = recording.moments.end_group()
        if self.settings.cosine:
            recording.add_cosines(cosines(gradients, means, norms))
        self._batch_sizes.append(len(indices))

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """Collect, or in mode ``batch`` complete, the epoch's gradients; add metrics to ``row``.

        These are mean, median and largest norm, norm of the mean gradient, signal-to-noise ratio,
        mean cosine and seconds; those that are unknown or not finite are left out.
        """
        checkpoint = f"{self.checkpoints}/epoch_{state.epoch:05d}.pt"
        with self.signals.at_once():
            if self.mode == "batch":
                row |= self._complete(state.epoch, checkpoint)
            elif self.collects(state.epoch):
                row |= self._collect(state.epoch, state.model, checkpoint)

    def close(self) -> None:
        """Discard an incomplete epoch."""
        if self._recording is not None:
            self._recording.discard()
            self._recording = None

    def _collect(self, epoch: int, model: nn.Module, checkpoint: str | None) -> Row:
        start = time.perf_counter()
        statistics = collect(
            model, self.samples, self.path, self.settings, epoch=epoch, checkpoint=checkpoint
        )
        return metrics(statistics, seconds=time.perf_counter() - start)

    def _begin(self, epoch: int, model: nn.Module) -> EpochRecording:
        self._batch_sizes = []
        return EpochRecording(
            self.path,
            epoch=epoch,
            preparation=Preparation(model, self.samples, self.settings),
            num_samples=len(self.samples),
        )

    def _complete(self, epoch: int, checkpoint: str) -> Row:
        if self._recording is None:
            return {}
        recording, self._recording = self._recording, None
        if sum(self._batch_sizes) != len(self.samples):
            recording.discard()
            warnings.warn(
                f"The gradients of epoch {epoch} are not written: {sum(self._batch_sizes):,} of "
                f"{len(self.samples):,} samples came, because the run resumed within it.",
                stacklevel=2,
            )
            return {}
        about = {
            "weights": "of each batch, before its optimizer step",
            "batch_sizes": self._batch_sizes,
            "model_sha256": None,  # each batch has its own weights
            "checkpoint": checkpoint,
            "augmented": self.samples.augmented,
        }
        return metrics(recording.finish(about), seconds=None)
