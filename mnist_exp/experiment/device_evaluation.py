"""Test accuracy over time of finished networks on devices."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from torch import nn
from tqdm import tqdm

from mnist_exp.cv import Split
from mnist_exp.data.batches import Images
from mnist_exp.device.programmed import DeviceEvaluation, ProgrammedNetwork
from mnist_exp.device.programmed.arrays import (
    IN_PAIRS,
    Array,
    as_trained,
    holds_physical_devices,
    in_pairs,
)
from mnist_exp.device.programmed.batch_norm import reestimate_batch_norm
from mnist_exp.device.reading.layers import ReadLayer, reading_on
from mnist_exp.device.reading.reading import Reading
from mnist_exp.errors import UserError
from mnist_exp.experiment.constraint import build_constraint
from mnist_exp.experiment.device_report import Tested, lines, record, write
from mnist_exp.experiment.instantiate import call_target
from mnist_exp.experiment.parts import Parts
from mnist_exp.experiment.trained import trained_model
from mnist_exp.models.effective_copy import effective_copy
from mnist_exp.run.weights import read_weights
from mnist_exp.train.evaluate import evaluate


def build_evaluation(config: DictConfig) -> DeviceEvaluation:
    """Build the settings of the group ``evaluation``.

    Raises
    ------
    UserError
        If a setting is wrong.
    """
    evaluation = call_target(config, "evaluation")
    if not isinstance(evaluation, DeviceEvaluation):
        raise UserError(
            f"evaluation._target_: makes a {type(evaluation).__name__}; allowed is a "
            "mnist_exp.device.programmed.DeviceEvaluation."
        )
    return evaluation


def held_by_devices(
    settings: DeviceEvaluation, model: nn.Module, constraint: object
) -> tuple[nn.Module, list[Array], str]:
    """Return a copy of a network with plain weights, the devices of these, and what they are.

    Raises
    ------
    UserError
        If devices cannot hold the weights, or the network has no BatchNorm to re-estimate.
    """
    network = effective_copy(model, "evaluation").eval().requires_grad_(False)
    if settings.reestimate_batch_norm and not any(
        isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in network.modules()
    ):
        raise UserError(
            f"evaluation.reestimate_batch_norm=true: {type(model).__name__} has no BatchNorm; set "
            "it to false."
        )
    kept = settings.program is False or (
        settings.program is None and holds_physical_devices(constraint)
    )
    arrays, held = as_trained(model, constraint) if kept else (in_pairs(network), IN_PAIRS)
    return network, arrays, held


class DeviceTest:
    """Tests networks of one run on devices.

    Parameters
    ----------
    config : DictConfig
        The configuration that trained them.
    settings : DeviceEvaluation
        What happens to the devices, and when they are tested.
    images : Images
        The run's images on the compute device.
    precision : str
        Of the products, as in the run.
    """

    def __init__(
        self, config: DictConfig, settings: DeviceEvaluation, images: Images, precision: str
    ) -> None:
        self.config, self.settings = config, settings
        self.images, self.precision = images, precision

    def run(self, split: Split, model: nn.Module) -> Tested:
        """Test a network on the test images of its split, ``repetitions`` times at all times.

        Raises
        ------
        UserError
            As `held_by_devices`.
        """
        model = model.to(self.images.device)
        constraint = build_constraint(self.config)
        devices, held = self._devices(model, constraint, split.fold)
        read = self.settings.read or getattr(constraint, "read", None)
        network = devices.network
        accuracies = []
        before = self._accuracy(model, split)
        normalised = {name: value.clone() for name, value in network.named_buffers()}
        for _ in tqdm(range(self.settings.repetitions), "programmings", disable=None, leave=False):
            devices.program()
            row = []
            for time in self.settings.seconds:
                with _reading(devices, read) as readers:
                    devices.age(time, readers)
                    if self.settings.reestimate_batch_norm:
                        network.load_state_dict(normalised, strict=False)
                        self._reestimate(network, split)
                    row.append(self._accuracy(network, split))
            accuracies.append(row)
        return Tested(split.fold, len(split.test), held, before, accuracies)

    def _devices(
        self, model: nn.Module, constraint: object, fold: int | None
    ) -> tuple[ProgrammedNetwork, str]:
        network, arrays, held = held_by_devices(self.settings, model, constraint)
        own = np.random.SeedSequence(self.settings.seed, spawn_key=(fold or 0,))
        generator = torch.Generator(self.images.device)
        generator.manual_seed(int(own.generate_state(1, np.uint64)[0]))
        new = held == IN_PAIRS
        return ProgrammedNetwork(network, arrays, self.settings, new, generator), held

    def _accuracy(self, network: nn.Module, split: Split) -> float:
        return evaluate(
            network,
            self.images,
            split.test.to(self.images.device),
            batch_size=self.config.training.eval_batch_size,
            precision=self.precision,
        ).accuracy

    def _reestimate(self, network: nn.Module, split: Split) -> None:
        chosen = split.train[: self.settings.batch_norm_images].to(self.images.device)
        size = min(self.config.training.eval_batch_size, len(chosen))
        whole = chosen[: len(chosen) // size * size]  # batches of equal size
        batches = (inputs for inputs, _ in self.images.batches(whole, size))
        reestimate_batch_norm(network, batches)


def _reading(
    devices: ProgrammedNetwork, read: Reading | None
) -> AbstractContextManager[Mapping[str, ReadLayer]]:
    """Read the products of the network in a block, with random numbers of its own."""
    if read is None:
        return nullcontext({})
    ranges = {array.layer: array.weight_range for array in devices.arrays}
    known = {name: value for name, value in ranges.items() if value is not None}
    drawn = torch.empty((), dtype=torch.int64, device=devices.generator.device)
    seed = int(drawn.random_(generator=devices.generator))
    return reading_on(devices.network, read, seed, known)


def evaluate_run(parts: Parts, directory: Path) -> None:
    """Test all networks of a run that just ended, write the files and print the table.

    Parameters
    ----------
    parts : Parts
        Of the run; its configuration has the group ``evaluation``.
    directory : Path
        The run directory.
    """
    config, dataset = parts.config, parts.dataset
    settings = build_evaluation(config)
    test = DeviceTest(config, settings, parts.images, parts.recipe.precision)
    tests = []
    for split in parts.splits:
        weights = read_weights(directory, fold=split.fold)
        model = trained_model(config, weights, dataset.num_classes, dataset.image_shape, split.fold)
        tests.append(test.run(split, model))
    found = record(config, settings, directory, tests)
    if not parts.in_sweep:
        print("\n".join(lines(found)))
    write(directory, found, config.plots.dpi)
