"""A finished run as an object: its numbers, its network, its data (``mnist_exp.load_run``)."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from mnist_exp.app.foreign_targets import judge_targets, targets_of_options
from mnist_exp.errors import UserError
from mnist_exp.files.shipped_config import config_directory
from mnist_exp.run.command_line import resume_command
from mnist_exp.run.report import summary_lines
from mnist_exp.run.results import COMPLETED, read_results
from mnist_exp.run.results import NAME as RESULTS
from mnist_exp.run.rows import as_table, read_rows
from mnist_exp.run.saved_config import load_config, run_directory

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from mnist_exp.cv import Split
    from mnist_exp.data import Dataset
    from mnist_exp.data.batches import Images
    from mnist_exp.train import Evaluation


def load_run(directory: str | os.PathLike[str], *, trust: bool = False) -> Run:
    """Open the directory of a run; nothing in it is changed.

    Parameters
    ----------
    directory : path
        The run directory, such as ``outputs/2026-11-26/10-15-00-mlp``.
    trust : bool
        Whether classes and functions of your own, named by the run's configuration, may be
        called. Reading numbers calls none.

    Raises
    ------
    UserError
        If the directory is missing, holds no run or one that never began, or is damaged.
    """
    return Run(Path(directory), trust=trust)


class Run:
    """What a run left. Make one with `load_run`.

    Methods that need the network or the data call the targets of the run's configuration; those
    that neither torch, scikit-learn, this package nor its options name need ``trust``.

    Attributes
    ----------
    directory : Path
        The run directory.
    config : DictConfig
        The configuration that ran, brought up to date.
    results : dict
        The content of results.json, version 2.
    """

    def __init__(self, directory: Path, *, trust: bool = False, key: str = "directory") -> None:
        self.directory = directory = run_directory(directory)
        self.config: DictConfig = load_config(directory, key)
        results = read_results(directory)
        if results is None:
            raise UserError(
                f"{key}={directory}: has no {RESULTS}; that run was stopped before it began to "
                "train. Start it again."
            )
        self.results = results
        self._trust = trust
        self._trusting = "trust=True" if key == "directory" else "trust=true"
        self._networks: dict[tuple[int | str, int | None], nn.Module] = {}

    def __repr__(self) -> str:
        status, accuracy = self.results["status"], self.results.get("accuracy", {}).get("mean")
        known = "" if accuracy is None else f", accuracy {accuracy:.2%}"
        return f"<Run {self.directory}: {self.results.get('model', '?')}, {status}{known}>"

    def __str__(self) -> str:
        done = self.results["status"] == COMPLETED
        return "\n".join(summary_lines(self.results, self.directory)) if done else repr(self)

    @property
    def metrics(self) -> Any:
        """The rows of metrics.jsonl, one an epoch; ``fold`` is a column if there are folds.

        A pandas DataFrame; where pandas is not installed, a list of dicts.
        """
        return as_table(read_rows(self.directory / "metrics.jsonl"))

    @property
    def steps(self) -> Any:
        """The rows of steps.jsonl, every few steps, as `metrics`; empty if the run has none."""
        return as_table(read_rows(self.directory / "steps.jsonl"))

    @property
    def folds(self) -> list[int | None]:
        """The folds that have a network, from 1; ``[None]`` for a single split."""
        from mnist_exp.run.weights import folds_of

        return folds_of(self.directory)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        names = self.results.get("class_names")
        return self.dataset().class_names if names is None else tuple(names)

    def model(self, epoch: int | str = "best", fold: int | None = None) -> nn.Module:
        """Return the network with its weights, on the CPU and in eval mode.

        It is the module that was trained: a device constraint's mapping computes its weights from
        conductances. Where ``training.averaging`` is set, the weights are the averaged ones.

        Parameters
        ----------
        epoch : int or {"best", "last"}
            "best" is the epoch whose results are reported. A number is that of an epoch whose
            checkpoint still exists: a run keeps the newest ``checkpoints.keep``.
        fold : int or None
            From 1; needed if the run has folds.

        Raises
        ------
        UserError
            If there is no such checkpoint, naming those there are, or a target needs trust.
        """
        from mnist_exp.experiment.trained import image_shape_of, trained_model
        from mnist_exp.run.weights import read_weights

        try:
            weights = read_weights(self.directory, epoch, fold)
        except UserError as error:
            raise UserError(f"{error}{self._unfinished()}") from error
        self._judge("model", "constraint")
        shape = image_shape_of(self.results)
        return trained_model(self.config, weights, len(self.class_names), shape, fold)

    def dataset(self) -> Dataset:
        """Return the run's data, restricted to ``data.classes``; it is loaded once."""
        self._judge("data")
        return self._dataset

    @cached_property
    def _dataset(self) -> Dataset:
        from mnist_exp.experiment.build import build_dataset

        return build_dataset(self.config)

    def split(self, fold: int | None = None) -> Split:
        """Return the training, validation and test images of a fold, as indices of `dataset`.

        Raises
        ------
        UserError
            If there is no such fold, or the data or the splits are no longer those of the run.
        """
        self._judge("data", "cv")
        for split in self._splits:
            if split.fold == fold:
                return split
        numbers = " or ".join(str(split.fold) for split in self._splits)
        wanted = "leave fold out" if numbers == "None" else f"give fold={numbers}"
        raise UserError(f"fold={fold!r}: {self.directory} has no such split; {wanted}.")

    @cached_property
    def _splits(self) -> list[Split]:
        from mnist_exp.experiment.trained import splits_of

        return splits_of(self.config, self._dataset, self.results, self.directory)

    def predict(
        self, images: Any, *, epoch: int | str = "best", fold: int | None = None
    ) -> np.ndarray | Tensor:
        """Return the most probable label of each image, an index of `class_names`.

        Parameters
        ----------
        images : array or Tensor
            uint8 pixels [N, H, W], or [H, W] for one image; with channels before H if the run's
            images are in colour. The run's own normalisation is applied.
        epoch, fold
            As in `model`.

        Returns
        -------
        ndarray or Tensor
            int64 [N], or a single label; of the kind of ``images``.
        """
        return self.predict_proba(images, epoch=epoch, fold=fold).argmax(-1)

    def predict_proba(
        self, images: Any, *, epoch: int | str = "best", fold: int | None = None
    ) -> np.ndarray | Tensor:
        """Return the probability of each class, float32 [N, K]; parameters as in `predict`."""
        import numpy as np
        import torch

        from mnist_exp.experiment import trained

        dataset = trained.as_dataset(images, self.class_names, self.results)
        network = self._network(epoch, fold)
        with trained.conditions_of(self.config, self.results) as conditions:
            logits = trained.predicted_logits(
                network.to(conditions.device),
                self._images(dataset, conditions.device),
                batch_size=self.config.training.eval_batch_size,
                precision=conditions.precision,
            )
        single = np.ndim(images) < dataset.images.ndim
        probabilities = logits.softmax(1)[0 if single else slice(None)]
        return probabilities if isinstance(images, torch.Tensor) else probabilities.numpy()

    def inputs(self, images: Any) -> Tensor:
        """Return images as `model` takes them, normalised: float32 [N, C, H, W] on the CPU.

        ``images`` are as in `predict`.
        """
        from mnist_exp.experiment.trained import as_dataset

        dataset = as_dataset(images, self.class_names, self.results)
        return self._images(dataset, dataset.images.device).inputs(dataset.images)

    def evaluate(
        self,
        dataset: Dataset | None = None,
        *,
        epoch: int | str = "best",
        fold: int | None = None,
    ) -> Evaluation:
        """Test the network on images, with the run's metrics.

        Parameters
        ----------
        dataset : Dataset or None
            Its test images are used; None: the test images of the run's own split, where the
            accuracy is that of results.json. The normalisation is the run's own.
        epoch, fold
            As in `model`.

        Raises
        ------
        UserError
            If the data has another number of classes; also as `model` and `split`.
        """
        import torch

        from mnist_exp.experiment import trained
        from mnist_exp.experiment.functions import build_metrics
        from mnist_exp.train import evaluate

        self._judge("metrics")
        network = self._network(epoch, fold)
        if dataset is None:
            indices, dataset = self.split(fold).test, self.dataset()
        else:
            trained.check_fits(dataset, self.class_names, self.results, self.directory)
            indices = torch.arange(dataset.num_train, len(dataset.labels))
        with trained.conditions_of(self.config, self.results) as conditions:
            return evaluate(
                network.to(conditions.device),
                self._images(dataset, conditions.device),
                indices.to(conditions.device),
                batch_size=self.config.training.eval_batch_size,
                precision=conditions.precision,
                metrics=build_metrics(self.config),
            )

    def _network(self, epoch: int | str, fold: int | None) -> nn.Module:
        """Return the network to compute with, built once."""
        if (epoch, fold) not in self._networks:
            self._networks[epoch, fold] = self.model(epoch, fold)
        return self._networks[epoch, fold]

    def _images(self, dataset: Dataset, device: torch.device) -> Images:
        """Put images on the device, normalised as those the network was trained on."""
        from mnist_exp.experiment.build import build_images, pixel_mean_std

        return build_images(self.config, dataset, device, pixel_mean_std(self.config, self.dataset))

    def _unfinished(self) -> str:
        status = self.results["status"]
        if status == COMPLETED:
            return ""
        return f" The run is {status}; continue with: {resume_command(self.directory)}"

    def _judge(self, *groups: str) -> None:
        """Refuse targets of these groups that need trust, if there is none."""
        if not self._trust:
            own = targets_of_options([config_directory()])
            judge_targets(self.config, str(self.directory), own, groups, self._trusting)
