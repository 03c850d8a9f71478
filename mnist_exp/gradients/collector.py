"""The collection of gradients during a training run."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnist_exp.errors import UserError
from mnist_exp.gradients.collection import collect
from mnist_exp.gradients.disk_space import check_disk_space
from mnist_exp.gradients.epoch_recording import EpochRecording
from mnist_exp.gradients.location import check_root, own_directory
from mnist_exp.gradients.preparation import CollectionSettings, Preparation
from mnist_exp.gradients.samples import Samples, replayed_randomness
from mnist_exp.gradients.statistics import cosines
from mnist_exp.schema.parts import GRADIENTS
from mnist_exp.schema.rule import check_settings


class GradientCollector:
    """Collect per-sample gradients while a model is trained.

    ``start`` once, then ``after_epoch`` for mode ``epoch``; for mode ``batch``, ``on_batch``
    before each optimizer step and ``after_epoch`` to complete the files. ``close`` at the end,
    also after an error. Parameters are the keys of ``conf/gradients/epoch.yaml``; those of
    ``CollectionSettings`` are described there.

    Parameters
    ----------
    mode
        ``epoch``: all gradients of an epoch at the weights after it. ``batch``: those of each
        training batch at the weights it met, in training order, one set of files an epoch.
    directory
        Name of the directory of the epochs inside the run directory.
    root
        Absolute path of a directory, on another disk, in which the run makes a folder of its own
        for the epochs; that inside the run directory then says where it is. None: it holds them.
    epochs
        Epochs to collect, from 1; None: every one.
    at_start
        Whether to collect before training too, as ``epoch_0``.
    max_samples, sample_choice
        How many samples, None for all, and which: ``random`` or the ``first``. Mode ``epoch``.
    augmented
        Whether samples go through the training augmentation. Mode ``batch`` takes what training
        sees and needs no choice.
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

    def start(
        self,
        model: nn.Module,
        samples: Samples,
        *,
        run_directory: str | Path,
        num_epochs: int,
        label_smoothing: float,
        epochs_done: int = 0,
    ) -> dict[str, float]:
        """Check the disk space; with ``at_start``, collect at the initial weights.

        Parameters
        ----------
        samples
            All training samples; ``prepare`` augments if the collector's ``augmented`` is set,
            or, in mode ``batch``, if training augments.
        run_directory
            Directory in which that of the gradients is made.
        num_epochs
            Epochs of the training.
        label_smoothing
            Of the training loss.
        epochs_done
            Epochs of a training that goes on; what they take is on the disk already.

        Returns
        -------
        dict
            As ``after_epoch``.

        Raises
        ------
        UserError
            If the gradients do not fit on the disk, or cannot be collected from this model.
        """
        directory = Path(run_directory) / self.directory
        self.settings = replace(self.settings, label_smoothing=label_smoothing)
        self.samples = samples.subset(self.max_samples, self.sample_choice, self.settings.seed)
        self.check_space(model, samples, directory, range(epochs_done + 1, num_epochs + 1))
        self.path = own_directory(directory, self.root)
        return self._collect(0, model, checkpoint=None) if self.at_start else {}

    def check_space(
        self, model: nn.Module, samples: Samples, directory: Path, epochs: range, folds: int = 1
    ) -> None:
        """Check that the gradients of ``epochs`` fit on the disk, as many times as there are folds.

        Raises
        ------
        UserError
            If they do not, cannot be collected from this model, or the root is not there.
        """
        if self.root is not None:
            directory = check_root(self.root)
        collections = folds * (self.at_start + sum(map(self.collects, epochs)))
        if collections > 0:
            chosen = samples.subset(self.max_samples, self.sample_choice, self.settings.seed)
            check_disk_space(
                model, chosen, self.settings, directory=directory, num_epochs=collections
            )

    def check_epochs(self, num_epochs: int) -> None:
        """Check that a training of ``num_epochs`` epochs has those to be collected.

        Raises
        ------
        UserError
            If one of them does not come, or there is nothing to collect at all.
        """
        if self.epochs is None:
            return
        never = sorted(self.epochs - set(range(1, num_epochs + 1)), key=str)
        if never or not (self.epochs or self.at_start):
            raise UserError(
                f"gradients.epochs={never}: the training has the epochs 1 to {num_epochs}; give "
                "some of them, or null for all."
            )

    def collects(self, epoch: int) -> bool:
        """Tell whether the gradients of ``epoch`` are collected."""
        return self.epochs is None or epoch in self.epochs

    def on_batch(self, epoch: int, model: nn.Module, inputs: Tensor, ids: Tensor) -> None:
        """Record the gradients of a training batch, before the optimizer moves the weights.

        Parameters
        ----------
        inputs
            Network inputs [B, C, H, W], as the training step gets them.
        ids
            [B], rows of the samples' images.

        Raises
        ------
        UserError
            If the inputs are not those of the ids' images.
        """
        if self.mode != "batch" or not self.collects(epoch):
            return
        if self._recording is None:
            self._recording = self._begin(epoch, model)
        recording = self._recording
        preparation = recording.preparation
        where = ids.to(self.samples.images.device)
        images, labels = self.samples.images[where], self.samples.labels[where]
        pixels = preparation.pixels
        if pixels is not None and not torch.equal(
            pixels[images.flatten().long()], inputs.flatten()
        ):
            raise UserError(
                f"The inputs of a batch in epoch {epoch} are not those Samples.prepare makes of "
                "the images with these ids. If training augments, give Samples(augmented=True)."
            )
        preparation.model.load_weights(model)
        with replayed_randomness(preparation.device, self.settings.seed + len(self._batch_sizes)):
            batch = preparation.model(inputs, labels)
        gradients, norms = recording.add(batch, images=images, labels=labels, ids=ids)
        means = recording.moments.end_group()
        if self.settings.cosine:
            recording.add_cosines(cosines(gradients, means, norms))
        self._batch_sizes.append(len(ids))

    def after_epoch(
        self, epoch: int, model: nn.Module, *, checkpoint: str | None = None
    ) -> dict[str, float]:
        """Collect, or in mode ``batch`` complete, the gradients of ``epoch``.

        Returns
        -------
        dict
            For metrics.jsonl: mean, median and largest norm, norm of the mean gradient,
            signal-to-noise ratio, mean cosine, seconds; empty if nothing was collected. A number
            that is not finite is left out.
        """
        if not self.collects(epoch):
            return {}
        if self.mode == "epoch":
            return self._collect(epoch, model, checkpoint=checkpoint)
        if self._recording is None:
            return {}
        recording, self._recording = self._recording, None
        if sum(self._batch_sizes) != len(self.samples):
            recording.discard()
            warnings.warn(
                f"The gradients of epoch {epoch} are not written: {sum(self._batch_sizes):,} of "
                f"{len(self.samples):,} samples came. The run went on in the middle of it.",
                stacklevel=2,
            )
            return {}
        about = {
            "weights": "of each batch, before its optimizer step",
            "batch_sizes": self._batch_sizes,
            "model_sha256": None,  # there is not one state but one a batch
            "checkpoint": checkpoint,
            "augmented": self.samples.augmented,
        }
        return metrics(recording.finish(about), seconds=None)

    def close(self) -> None:
        """Drop an epoch that is not complete."""
        if self._recording is not None:
            self._recording.discard()
            self._recording = None

    def _collect(self, epoch: int, model: nn.Module, checkpoint: str | None) -> dict[str, float]:
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
            settings=self.settings,
            num_samples=len(self.samples),
        )


def metrics(statistics: dict[str, Any], *, seconds: float | None) -> dict[str, float]:
    """Pick the numbers of a collection that go with an epoch's metrics."""
    total = statistics["total"]
    cosine = total["cosine_with_mean"] or {}
    values = {
        "gradient_norm_mean": total["norm"]["mean"],
        "gradient_norm_median": total["norm"]["p50"],
        "gradient_norm_max": total["norm"]["max"],
        "mean_gradient_norm": total["mean_gradient_norm"],
        "gradient_snr": total["snr"],
        "gradient_cosine_mean": cosine.get("mean"),
        "gradient_seconds": seconds,
    }
    return {name: value for name, value in values.items() if value is not None}
