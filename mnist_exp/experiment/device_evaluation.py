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
from mnist_exp.device.reading.layers import reading_on
from mnist_exp.device.reading.read_layer import ReadLayer
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

ROUNDING = 1e-6  # of conductances, as shares of the largest
BATCH_NORM_BATCH = 250  # images


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
    if settings.program or (settings.program is None and not holds_physical_devices(constraint)):
        return network, in_pairs(network), IN_PAIRS
    arrays, held = as_trained(model, constraint)
    lowest = min(float(g.min()) for array in arrays for g in array.targets)
    if lowest < -ROUNDING and settings.program is None:
        return network, in_pairs(network), IN_PAIRS
    if lowest < -ROUNDING:
        raise UserError(
            f"evaluation.program=false: the run has conductances below 0, down to {lowest:.3g} of "
            "the largest, which no device can hold; leave it out, and the weights are programmed "
            "on pairs of devices."
        )
    _check_kept(settings, constraint)
    return network, arrays, held


def _check_kept(settings: DeviceEvaluation, constraint: object) -> None:
    """Refuse what is not done to devices that keep what they learned."""
    for name in ("stuck_at_zero", "stuck_at_max"):
        if share := getattr(settings, name):
            raise UserError(
                f"evaluation.{name}={share}: the run's own devices are kept, and this is for newly "
                "programmed ones; set evaluation.program=true, or leave it out."
            )
    read = settings.reading(getattr(constraint, "read", None))
    low, wires = getattr(constraint, "W_min", 0.0), getattr(read, "wire_resistance", 0.0)
    if low < 0 and wires:
        raise UserError(
            f"wire_resistance={wires}: currents of wires need conductances, and those that the run "
            f"keeps are counted from W_min={low}, below 0; set evaluation.program=true, or a "
            "reading with wire_resistance=0."
        )


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

    def run(self, split: Split, model: nn.Module, epoch: int) -> Tested:
        """Test a network on the test images of its split, ``repetitions`` times at all times.

        Parameters
        ----------
        split : Split
            The fold's.
        model : nn.Module
            The fold's network.
        epoch : int
            Of its weights.

        Raises
        ------
        UserError
            As `held_by_devices`.
        """
        model = model.to(self.images.device)
        constraint = build_constraint(self.config)
        devices, held = self._devices(model, constraint, split.fold)
        read = self.settings.reading(getattr(constraint, "read", None))
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
        return Tested(split.fold, epoch, len(split.test), held, before, accuracies)

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
        size = min(BATCH_NORM_BATCH, len(chosen))
        whole = chosen[: len(chosen) // size * size]  # batches of equal size
        batches = (inputs for inputs, _ in self.images.batches(whole, size))
        reestimate_batch_norm(network, batches)


def _reading(
    devices: ProgrammedNetwork, read: Reading | None
) -> AbstractContextManager[Mapping[str, ReadLayer]]:
    """Read the products of the network in a block, with random numbers of its own."""
    if read is None:
        return nullcontext({})
    known = {
        layer: array.weight_range
        for array in devices.arrays
        if array.weight_range is not None
        for layer in devices.layers_of(array)
    }
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
        tests.append(test.run(split, model, weights.epoch))
    found = record(config, settings, directory, tests)
    if not parts.in_sweep:
        print("\n".join(lines(found)))
    write(directory, found, config.plots.dpi)
