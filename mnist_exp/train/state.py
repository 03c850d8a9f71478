"""Everything that changes during training, in one object to save and restore."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import SWALR, AveragedModel

if TYPE_CHECKING:
    from mnist_exp.device import DeviceConstraint

Row = dict[str, Any]  # the metrics of one epoch
# Attributes saved as they are: numbers, tensors and rows.
PLAIN = (
    *("epoch", "history", "best", "wall_seconds", "order", "batch"),
    *("samples", "loss_sum", "correct", "skipped", "lr", "seconds", "gradient_norms", "stopped"),
)
# Attributes with a state_dict of their own; None where the run has no such part.
STATEFUL = ("model", "optimizer", "scheduler", "constraint", "averaged")


def state_of(part: Any) -> dict[str, Any]:
    """Return the state of an optimizer, schedule or other part, as a checkpoint can hold it."""
    state: dict[str, Any] = part.state_dict()
    if isinstance(part, SWALR):  # torch 2.9 adds a function, which its constructor makes
        state.pop("anneal_func", None)
    return state


@dataclass
class TrainState:
    """Everything that changes during training; a restored training continues bit for bit.

    Attributes
    ----------
    epoch : int
        Complete epochs.
    order : Tensor or None
        Training indices in the order of the current epoch; None between epochs.
    batch : int
        Finished batches of the current epoch.
    samples, loss_sum, correct, skipped, seconds
        Sums over those batches: images, loss, correct predictions, batches skipped because their
        loss was not finite, and wall time.
    lr : float
        Learning rate of the last of those batches.
    gradient_norms : list of float
        Norm of the first layer's gradient for each of those batches, if recorded.
    history : list of dict
        One row of metrics per complete epoch.
    best : dict or None
        ``epoch`` and ``model`` (a state_dict) of the epoch selected so far.
    wall_seconds : float
        Duration of the training up to its last save, evaluation included.
    stopped : str or None
        Why a callback ended the training before its last epoch.
    scheduler_monitor : str or None
        Column of an epoch's row whose value the scheduler's ``step`` takes; None: it takes none.
    """

    model: nn.Module
    optimizer: Optimizer
    generator: Generator
    scheduler: LRScheduler | None = None
    scheduler_interval: str = "step"
    scheduler_monitor: str | None = None
    constraint: DeviceConstraint | None = None
    averaged: AveragedModel | None = None
    epoch: int = 0
    order: Tensor | None = None
    batch: int = 0
    samples: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    skipped: int = 0
    lr: float = 0.0
    seconds: float = 0.0
    gradient_norms: list[float] = field(default_factory=list)
    history: list[Row] = field(default_factory=list)
    best: dict[str, Any] | None = None
    wall_seconds: float = 0.0
    stopped: str | None = None

    @property
    def evaluated_model(self) -> nn.Module:
        """The model whose metrics are reported: the averaged one, if any."""
        return self.model if self.averaged is None else self.averaged.module

    def start_clock(self) -> None:
        """Start measuring ``wall_seconds``, added to its current value."""
        self._started = time.perf_counter() - self.wall_seconds

    def read_clock(self) -> None:
        """Set ``wall_seconds``."""
        self.wall_seconds = time.perf_counter() - self._started

    def stop(self, reason: str) -> None:
        """End the training after this batch or epoch, with at least one batch trained."""
        self.stopped = reason

    def finished(self, epochs: int) -> bool:
        """Whether ``epochs`` epochs are complete, or the training was stopped."""
        ended = self.epoch >= epochs or (self.stopped is not None and self.epoch > 0)
        return self.order is None and ended

    def begin_epoch(self, indices: Tensor) -> None:
        """Draw the order of the next epoch, unless one is in progress."""
        if self.order is None:
            shuffle = torch.randperm(
                len(indices), generator=self.generator, device=self.generator.device
            )
            self.order = indices[shuffle]
            self.batch = self.samples = self.correct = self.skipped = 0
            self.loss_sum = self.seconds = 0.0
            self.gradient_norms = []

    def remaining_batches(self, batch_size: int) -> Iterator[Tensor]:
        """Yield the indices of each unfinished batch of the epoch, until `stop` is called."""
        assert self.order is not None, "begin_epoch comes first"
        for start in range(self.batch * batch_size, len(self.order), batch_size):
            if self.stopped is not None and self.batch > 0:
                return
            yield self.order[start : start + batch_size]

    def end_batch(self, loss: float, correct: int, size: int) -> None:
        """Add a batch to the metrics of the epoch."""
        if math.isfinite(loss):
            self.loss_sum += loss * size
            self.correct += correct
            self.samples += size
        else:
            self.skipped += 1
        self.batch += 1

    def end_epoch(self) -> Row:
        """Close the current epoch and return its training metrics."""
        assert self.order is not None, "begin_epoch comes first"
        trained = len(self.order) if self.stopped is None else self.samples
        row = {
            "epoch": self.epoch + 1,
            "train_loss": self.loss_sum / max(self.samples, 1),
            "train_accuracy": self.correct / max(self.samples, 1),
            "lr": self.lr,
            "seconds": self.seconds,
            "samples_per_second": trained / self.seconds,
        }
        if self.skipped:
            row["skipped_batches"] = self.skipped
        self.order = None
        self.epoch += 1
        return row

    def state_dict(self) -> dict[str, Any]:
        """Return all state and random states, readable by ``torch.load(weights_only=True)``."""
        parts = {name: getattr(self, name) for name in STATEFUL}
        device = self.generator.device
        return {
            **{name: getattr(self, name) for name in PLAIN},
            **{name: part and state_of(part) for name, part in parts.items()},
            "generator": self.generator.get_state(),
            "torch_random": torch.get_rng_state(),
            "device_random": torch.get_device_module(device).get_rng_state()
            if device.type != "cpu"
            else None,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore a saved state; the parts must be built from the same configuration.

        torch's global generators are left alone if their saved states are None.

        Raises
        ------
        ValueError
            If the state comes from another kind of hardware, whose random numbers differ.
        """
        own, device = self.generator.get_state(), self.generator.device
        if saved["generator"].shape != own.shape:
            raise ValueError(
                f"its random state was not saved on {device.type}; resume on the kind of hardware "
                "the training started on."
            )
        # version 0.1 saved no learning rate
        rate = saved["optimizer"]["param_groups"][0]["lr"]
        saved = {"lr": rate, "stopped": None, **saved}
        for name in PLAIN:
            setattr(self, name, saved[name])
        if self.order is not None:
            self.order = self.order.to(self.generator.device)
        for name in STATEFUL:
            part = getattr(self, name)
            if part is not None:
                part.load_state_dict(saved[name])
        self.generator.set_state(saved["generator"].cpu())
        if saved["torch_random"] is not None:
            torch.set_rng_state(saved["torch_random"].cpu())
        if saved["device_random"] is not None:
            torch.get_device_module(device).set_rng_state(saved["device_random"].cpu())
