"""What the step models have in common: asymmetry, spread and noise of a pulse.

Meanings of the numbers as documented for the pulsed devices of M. J. Rasch et al., "A flexible and
fast PyTorch toolkit for simulating training and inference on analog crossbar arrays", AICAS 2021
(arXiv:2104.02184), and, for ``up_down``, as measured on its release 1.1.0. A pulse in the direction
d changes the conductance w of a device by

    +-D * s_d * (max(shape_d(w), 0) * (1 + noise) + offset)

and the device's bounds then cut it off. ``D = (W_max - W_min) / (levels - 1)`` is the mean step.
``s_up = step + e + min(up_down, 0)`` and ``s_down = step - e - max(up_down, 0)``, at least 0, where
``step`` is 1 on average and e is the device's deviation from the mean ``up_down``: a positive
``up_down`` makes pulses down smaller and leaves those up alone, a negative one the reverse.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real
from types import SimpleNamespace
from typing import ClassVar

import torch
from torch import Tensor

from mnist_exp.device.random_source import RandomSource
from mnist_exp.schema.device_parts import SPREADS, STEP_MODEL
from mnist_exp.schema.rule import AT_LEAST_0, Rule, mistakes, refuse


@dataclass(kw_only=True)
class StepModel(ABC):
    """Size of a device's pulses; base of your own, which needs only `shape`.

    Every number of a model may spread from device to device and from pulse to pulse. These are the
    numeric fields of the class, ``step`` and ``offset``.

    Parameters
    ----------
    up_down : float
        Share by which pulses down are smaller than those up; negative: those up are. Above -1 and
        below 1.
    potentiation_only : bool
        Whether pulses down do nothing, as in a phase-change memory. The weights of a differential
        pair then fall by pulses up on its other device.
    device_spread : mapping of str to float
        Standard deviation of a number from device to device, in the units of the number; drawn
        once.
    cycle_spread : mapping of str to float
        The same from pulse to pulse: ``step`` as a share of the pulse (multiplicative noise),
        ``offset`` in units of the device's step at shape 1 (additive noise).
    write_noise : float
        Standard deviation, in units of D, of the difference between the conductance read and the
        one that pulses act on; drawn anew whenever a device is written.

    Raises
    ------
    UserError
        Listing every mistake.

    Examples
    --------
    >>> @dataclass(kw_only=True)
    ... class RootStep(StepModel):
    ...     scale: float = 1.0
    ...
    ...     def shape(self, w, up, device):
    ...         room = device.W_max - w if up else w - device.W_min
    ...         return device.scale * (room / (device.W_max - device.W_min)).sqrt()
    """

    rules: ClassVar[Mapping[str, Rule]] = STEP_MODEL
    up_down: float = 0.0
    potentiation_only: bool = False
    device_spread: Mapping[str, float] = field(default_factory=dict)
    cycle_spread: Mapping[str, float] = field(default_factory=dict)
    write_noise: float = 0.0

    def __post_init__(self) -> None:
        refuse(mistakes(self.rules, vars(self), "constraint.curve") or self._wrong_spreads())

    @abstractmethod
    def shape(self, w: Tensor, up: bool, device: SimpleNamespace) -> Tensor:
        """Return the size of a pulse relative to the device's step.

        Parameters
        ----------
        w : Tensor
            Conductances within the bounds, float32 [K].
        up : bool
            The direction of the pulse.
        device : SimpleNamespace
            The numbers of these devices, floats or [K]: those of the model, and the bounds
            ``W_min`` and ``W_max``; ``mean_W_min`` and ``mean_W_max`` are means over devices.
        """

    @property
    def means(self) -> dict[str, float]:
        """Every number of the model and its mean over devices."""
        numbers = {"step": 1.0, "offset": 0.0}
        for name, value in vars(self).items():
            if isinstance(value, Real) and not isinstance(value, bool):
                numbers[name] = float(value)
        del numbers["write_noise"]
        return numbers

    def draw(self, count: int, random: RandomSource) -> dict[str, Tensor]:
        """Return the numbers that spread from device to device, float32 [count] each.

        ``write_offset``, what writing added to the conductance read, is among them if there is
        write noise.
        """
        drawn = {
            name: self.means[name] + sigma * random.normal(count)
            for name, sigma in self.device_spread.items()
            if sigma > 0
        }
        if self.write_noise > 0:
            drawn["write_offset"] = torch.zeros(count, device=random.device)
        return drawn

    def step(self, w: Tensor, up: bool, device: SimpleNamespace, random: RandomSource) -> Tensor:
        """Return the size of one pulse of each device in units of D, with its noise.

        Parameters as in `shape`, and ``device.share`` from `share`; ``random`` draws the noise.
        """
        noisy = {n: sigma for n, sigma in self.cycle_spread.items() if sigma > 0}
        of_step = noisy.pop("step", 0.0)
        if noisy:
            device = SimpleNamespace(**vars(device))
        for name, sigma in noisy.items():
            setattr(device, name, getattr(device, name) + sigma * random.normal(len(w)))
        size = self.shape(w, up, device).clamp(min=0)
        if of_step > 0:
            size *= random.normal(len(w)).mul_(of_step).add_(1)
        if isinstance(device.offset, Tensor) or device.offset != 0:
            size += device.offset
        return size.mul_(self.share(up, device) if "up_down" in noisy else device.share)

    def share(self, up: bool, device: SimpleNamespace) -> Tensor | float:
        """Return the factor on pulses of a direction, from ``step`` and ``up_down``."""
        deviation = device.up_down - self.up_down
        if up:
            share = device.step + deviation + min(self.up_down, 0.0)
        else:
            share = device.step - deviation - max(self.up_down, 0.0)
        return share.clamp(min=0) if isinstance(share, Tensor) else share

    def _wrong_spreads(self) -> Iterator[str]:
        for key in SPREADS:
            spread = getattr(self, key)
            for name in (name for name in spread if name not in self.means):
                yield (
                    f"constraint.curve.{key}.{name}: {type(self).__name__} has no such number; "
                    f"allowed are {', '.join(self.means)}"
                )
            yield from mistakes(
                dict.fromkeys(spread, AT_LEAST_0), spread, f"constraint.curve.{key}"
            )

    def misfits(self, W_min: float, W_max: float) -> Iterator[str]:
        """Yield a message if the step of a mean device is 0, negative or no number in its range."""
        bounds = {"W_min": W_min, "W_max": W_max, "mean_W_min": W_min, "mean_W_max": W_max}
        device = SimpleNamespace(**self.means, **bounds)
        w = torch.linspace(W_min, W_max, 101)
        for up in (True,) if self.potentiation_only else (True, False):
            size = torch.as_tensor(self.shape(w, up, device)).expand_as(w)
            worst = int(size.argmin())  # the place of a NaN, if there is one
            found = f"constraint.curve ({type(self).__name__}): a pulse {'up' if up else 'down'} "
            if not size.isfinite().all() or size[worst] < 0:
                yield (
                    f"{found}at conductance {w[worst]:.4g} has the size {size[worst]:.3g} D; it "
                    f"must be finite and not negative anywhere in [{W_min:g}, {W_max:g}]. Change "
                    f"the numbers of the model: {self._shown()}."
                )
            elif size.max() == 0:
                yield (
                    f"{found}has the size 0 at every conductance in [{W_min:g}, {W_max:g}]: these "
                    f"devices cannot learn. Change the numbers of the model: {self._shown()}."
                )

    def _shown(self) -> str:
        own = {n: v for n, v in self.means.items() if n not in ("step", "offset", "up_down")}
        return ", ".join(f"{name}={value:g}" for name, value in own.items()) or "its shape"
