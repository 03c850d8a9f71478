"""Updates written sample by sample, as by hardware without a digital accumulator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

from mnist_exp.cpu.step_devices import program_samples
from mnist_exp.device.programming import Programming
from mnist_exp.device.quantization import Number, at, clip, level_distance
from mnist_exp.device.sample_gradients import Block, LayerCalls, OuterProducts
from mnist_exp.errors import UserError

LARGEST_DIFFERENCE = 0.05  # of the samples' sum from the batch's gradient, as a share of its norm
INSTEAD = (
    "choose optimizer=sgd or optimizer=asymmetric_sgd, with momentum and weight_decay 0, or "
    "constraint.apply_to=batch"
)


class SampleProgramming:
    """The updates of a batch's samples, as pulses given one sample after another.

    For each sample in order, ``-lr g / D`` becomes whole pulses, to which the devices respond, and
    their bounds cut off the result; g is the sample's share of the batch's gradient, ``lr`` the
    rate of its direction. All are gradients by the conductances before any was written. Pulses of
    hardware are coincidences of pulse trains on rows and columns (T. Gokmen, Y. Vlasov, Front.
    Neurosci. 10:333, 2016); here every device rounds for itself, with the same mean.

    Parameters
    ----------
    programming : Programming
        Of the devices, which rounds to the nearest pulse or stochastically.
    layers : sequence of LayerCalls
        What reached the layers of the network.
    parameters : sequence of nn.Parameter
        The conductances, in the order of the flat buffer.
    bounds : tuple of float or Tensor, or None
        What cuts off the response.
    """

    needs_before: ClassVar[bool] = True

    def __init__(
        self,
        programming: Programming,
        layers: Sequence[LayerCalls],
        parameters: Sequence[nn.Parameter],
        bounds: tuple[Number, Number] | None,
    ) -> None:
        self.programming, self.layers = programming, layers
        self.parameters, self.bounds = parameters, bounds
        factor = 1.0 if programming.rate_factor is None else programming.rate_factor
        D = level_distance(programming.W_min, programming.W_max, programming.levels)
        self.pulses_of_change: Number = factor / D
        self.optimizer: Optimizer | None = None
        self.stepped = self.checked = False

    def follow(self, optimizer: Optimizer) -> None:
        """Take the rates, in every step, from an optimizer.

        Raises
        ------
        UserError
            If it does more with a gradient than to multiply it by a rate.
        """
        self.optimizer = optimizer
        self._rates()
        optimizer.register_step_post_hook(self._note_step)

    def __call__(self, w: Tensor, before: Tensor | None) -> None:
        """Replace the change of the whole batch by what the devices make of its samples'.

        Raises
        ------
        UserError
            If no optimizer is followed or its step is no plain descent, or if the samples' shares
            are not the batch's gradient.
        """
        assert before is not None, "the constraint keeps it for effects that need it"
        w.copy_(before)
        lr_pos, neg_to_pos = self._rates()
        if not self.stepped:  # the batch was skipped
            return
        self.stepped = False
        if not self.checked:
            self._check_sum(w)
        scale = self.pulses_of_change
        factor = -lr_pos * (1.0 if isinstance(scale, Tensor) else scale)
        found = []
        for gradients in (one for calls in self.layers for one in calls.gradients(factor)):
            if not self._in_kernel(w, gradients, neg_to_pos):
                found += [self._pulses(block, neg_to_pos) for block in blocks_of(gradients)]
        if not found:
            return
        devices, pulses = (torch.cat(parts) for parts in zip(*found, strict=True))
        for some, of_turn in in_turns(devices, pulses):
            self.programming.write(w, some, of_turn)
            if self.bounds is not None:
                low, high = (at(bound, some) for bound in self.bounds)
                w.index_copy_(0, some, clip(w.index_select(0, some), low, high))

    def _in_kernel(self, w: Tensor, gradients: OuterProducts | Block, neg_to_pos: float) -> bool:
        """Give the pulses in a kernel, with random numbers of its own; return whether it could."""
        devices = self.programming.response.in_numbers()
        if devices is None or not isinstance(gradients, OuterProducts):
            return False
        scale = self.pulses_of_change
        return program_samples(
            devices, w, gradients.first, gradients.inputs, gradients.outputs, gradients.slope,
            neg_to_pos, self.programming.rounding, self.programming.random.seed,
            factor=scale if isinstance(scale, Tensor) else None, counts=self.programming.counts,
        )  # fmt: skip

    def _pulses(self, block: Block, neg_to_pos: float) -> tuple[Tensor, Tensor]:
        """Return the devices that get pulses and how many, in the order of the samples."""
        asked = block.values
        if isinstance(self.pulses_of_change, Tensor):
            asked *= self.pulses_of_change[block.devices()]
        if neg_to_pos != 1:
            F.leaky_relu_(asked, neg_to_pos)  # what is negative falls
        if self.programming.rounding == "nearest":
            asked.round_()
        else:
            uniform = self.programming.random.uniform(asked.numel())
            asked.add_(uniform.view_as(asked)).floor_()
        rows, columns = asked.nonzero(as_tuple=True)
        return block.devices_at(rows, columns), asked[rows, columns]

    def _rates(self) -> tuple[float, float]:
        """Return the rate of potentiation, and that of depression over it."""
        optimizer = self.optimizer
        if optimizer is None:
            raise UserError(
                "constraint.apply_to=sample: needs the optimizer's rates; call "
                "constraint.follow(optimizer) once it is built."
            )
        name, own = type(optimizer).__name__, {id(p) for p in self.parameters}
        groups = [g for g in optimizer.param_groups if any(id(p) in own for p in g["params"])]
        if not isinstance(optimizer, SGD) and "neg_to_pos" not in optimizer.defaults:
            raise UserError(
                f"constraint.apply_to=sample: the update that {name} makes of a batch is not a sum "
                f"over its samples; {INSTEAD}."
            )
        for key in ("momentum", "weight_decay", "maximize"):
            if wrong := [group[key] for group in groups if group.get(key)]:
                raise UserError(
                    f"constraint.apply_to=sample: {name} with {key}={wrong[0]:g} writes more than "
                    f"the samples' gradients; {INSTEAD}."
                )
        rates: set[tuple[float, float]] = set()
        for group in groups:
            rates.add((group["lr"], group.get("neg_to_pos", 1.0)))
        if len(rates) != 1:
            raise UserError(
                f"constraint.apply_to=sample: {name} has {len(rates)} learning rates for the "
                "devices; give all of them one."
            )
        return rates.pop()

    def _check_sum(self, w: Tensor) -> None:
        """Refuse networks of which a layer's weight acts elsewhere than in its layer's calls."""
        total = torch.zeros_like(w)
        for gradients in (one for calls in self.layers for one in calls.gradients()):
            for block in blocks_of(gradients):
                total.index_add_(0, block.devices().flatten(), block.values.flatten())
        parts = total.split([p.numel() for p in self.parameters])
        for p, summed in zip(self.parameters, parts, strict=True):
            batch = torch.zeros_like(summed) if p.grad is None else p.grad.flatten()
            difference = float((summed - batch).norm())
            if difference > LARGEST_DIFFERENCE * float(batch.norm()):
                raise UserError(
                    "constraint.apply_to=sample: the samples' gradients of a weight of shape "
                    f"{tuple(p.shape)} do not add up to the batch's (difference "
                    f"{difference:.3g}, norm {float(batch.norm()):.3g}). They are taken from the "
                    "last forward pass, where layers are called as modules; scale or clip no "
                    "gradients, or set constraint.apply_to=batch."
                )
        self.checked = True

    def _note_step(self, *_: Any) -> None:
        self.stepped = True


def blocks_of(gradients: OuterProducts | Block) -> Iterator[Block]:
    """Yield the same gradients in blocks."""
    if isinstance(gradients, Block):
        yield gradients
    else:
        yield from gradients.blocks()


def in_turns(devices: Tensor, pulses: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the first pulses of every device, then the second ones, and so on.

    Devices do not depend on each other, so that this equals the given order.

    Parameters
    ----------
    devices : Tensor
        Indices, int64 [E]; those of a device in its order.
    pulses : Tensor
        [E].
    """
    devices, order = devices.sort(stable=True)
    place = torch.arange(len(devices), device=devices.device)
    starts = torch.ones_like(devices, dtype=torch.bool)
    starts[1:] = devices[1:] != devices[:-1]
    turn = place - torch.where(starts, place, 0).cummax(0).values
    by_turn = turn.argsort(stable=True)
    sizes = torch.bincount(turn).tolist()
    order, devices = order[by_turn], devices[by_turn]
    yield from zip(devices.split(sizes), pulses[order].split(sizes), strict=True)
