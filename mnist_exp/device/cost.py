"""What training cost: counted pulses, reads and conversions, and estimates made from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mnist_exp.device.read_counts import Reads
from mnist_exp.schema.device_parts import COST, COSTLY
from mnist_exp.schema.rule import Rule, check_settings


@dataclass(kw_only=True)
class Cost:
    """Counting of what training takes, and the constants of an estimate.

    Write pulses are counted for each device from the first step on; programming the initial weights
    is left out, but with ``mapping="direct"`` they get within the bounds and onto the levels in the
    first step, which counts. A pulse is

    - with ``pulse_rounding``, one of the whole pulses given to a device. One that does nothing
      counts, such as at a bound or on a stuck device;
    - else with ``quantize``, a move by one level, ``|level after - level before|`` a step, of a
      device that was asked to change. Retention that is rounded together with the update counts
      with it. With "straight_through" rounding, levels are those that the network reads;
    - else a step in which a device was asked to change, by whatever amount.

    Reads and conversions are those of `mnist_exp.device.read_counts`.

    Parameters
    ----------
    endurance : float or None
        Pulses that a device survives, > 0.
    energy_per_pulse, energy_per_read, energy_per_conversion : float or None
        Joules, >= 0; None: not estimated.
    time_per_pulse, time_per_read, time_per_conversion : float or None
        Seconds, >= 0; None: not estimated.

    Raises
    ------
    UserError
        Listing every mistake.
    """

    rules: ClassVar[Mapping[str, Rule]] = COST
    endurance: float | None = None
    energy_per_pulse: float | None = None
    energy_per_read: float | None = None
    energy_per_conversion: float | None = None
    time_per_pulse: float | None = None
    time_per_read: float | None = None
    time_per_conversion: float | None = None

    def __post_init__(self) -> None:
        check_settings(self.rules, vars(self), "constraint.cost")

    def figures(self, pulses: Tensor, reads: Mapping[str, Reads]) -> dict[str, float]:
        """Return the figures of a training so far.

        Parameters
        ----------
        pulses : Tensor
            Given to each device of every array, int32 [devices].
        reads : mapping
            What was read, by purpose: "forward", "backward", "evaluation", "transfer".

        Returns
        -------
        dict of float
            ``pulses``, their ``pulses_mean`` and ``pulses_max`` of a device, ``share_written``:
            share of the devices with at least one. ``reads_PURPOSE`` and ``conversions`` of all.
            With the settings for them, ``endurance_used_mean`` and ``endurance_used_max``, shares
            that may exceed 1; ``energy_estimate`` in joules and ``time_estimate`` in seconds, sums
            of counts times the constants given, as if one thing happened after the other.
        """
        total, most = int(pulses.sum()), int(pulses.max())
        found: dict[str, float] = {
            "pulses": total,
            "pulses_mean": total / len(pulses),
            "pulses_max": most,
            "share_written": torch.count_nonzero(pulses).item() / len(pulses),
        }
        found |= {f"reads_{purpose}": of.reads for purpose, of in reads.items()}
        conversions = sum(of.conversions for of in reads.values())
        found["conversions"] = conversions
        if self.endurance is not None:
            found["endurance_used_mean"] = found["pulses_mean"] / self.endurance
            found["endurance_used_max"] = most / self.endurance
        counts = dict(
            zip(COSTLY, (total, sum(of.reads for of in reads.values()), conversions), strict=True)
        )
        for what in ("energy", "time"):
            constants = {event: getattr(self, f"{what}_per_{event}") for event in COSTLY}
            given = {event: number for event, number in constants.items() if number is not None}
            if given:
                found[f"{what}_estimate"] = sum(counts[event] * n for event, n in given.items())
        return found
