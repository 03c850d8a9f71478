"""Device constraint: attached to a network, then called after every optimizer step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnist_exp.device.dead_zones import dead_zone_warnings
from mnist_exp.device.diagnostics import Tally, level_histogram, occupancy
from mnist_exp.device.effect import AddedEffect, StepEffect
from mnist_exp.device.effects import Round, build_effects, draw_devices, placed, store
from mnist_exp.device.mapping import mapping_of
from mnist_exp.device.programming import Programming
from mnist_exp.device.quantization import clip
from mnist_exp.device.random_source import RandomSource
from mnist_exp.device.read_counts import Reads
from mnist_exp.device.reading.layers import read_layers
from mnist_exp.device.reading.read_layer import Stream
from mnist_exp.device.sample_gradients import listen
from mnist_exp.device.sample_updates import SampleProgramming
from mnist_exp.device.settings import DeviceSettings
from mnist_exp.device.synapses import find_synapses, gather, input_lines, map_to_conductances
from mnist_exp.device.update_scheme import UpdateScheme
from mnist_exp.device.weight_range import range_warnings
from mnist_exp.device.write_counter import pulses_counted
from mnist_exp.errors import UserError


class DeviceConstraint(DeviceSettings):
    """Hold the weights of a network on devices while any optimizer trains it.

    The weights of all linear and convolution layers are synapses, and with ``bias="constrained"``
    their biases too; BatchNorm and the like stay free. Layers that share a weight share its
    devices. A frozen weight (``requires_grad=False``) is also on devices: it is never programmed,
    but it drifts. Order within a step: the optimizer's update as the devices carry it out,
    retention, clip, quantize, stuck devices. ``effects`` of your own come between these, at the
    place each of them states.

    Parameters
    ----------
    **settings
        Parameters of `DeviceSettings` and `DeviceProperties`.

    Examples
    --------
    >>> constraint = DeviceConstraint(W_min=0.1, W_max=0.51)  # doctest: +SKIP
    >>> constraint.attach(model, seed=0)  # doctest: +SKIP
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)  # doctest: +SKIP
    >>> for images, labels in batches:  # doctest: +SKIP
    ...     optimizer.zero_grad()
    ...     cross_entropy(model(images), labels).backward()
    ...     optimizer.step()
    ...     constraint.step()
    """

    _parameters: list[nn.Parameter]  # views of _conductances
    _conductances: Tensor  # float32 [devices]
    _before: Tensor | None  # conductances at the end of the last step, where needed
    _devices: dict[str, Tensor]
    _random: RandomSource
    _reading: Stream | None  # random numbers of ``read``
    _added: list[AddedEffect]  # the user's effects, in order
    _before_update: list[AddedEffect]  # those that change the update asked for
    _effects: list[StepEffect]  # all others, and the package's own
    _tally: Tally
    _rounding_keeps: bool  # whether rounding, the last effect, updates _before
    _samples: SampleProgramming | None  # with apply_to="sample"
    range_warnings: list[str]  # about the initial weights
    layers: list[nn.Module]  # whose weights are on devices, as often as they share one
    _transferred: Callable[[], Reads] | None  # what an update scheme has read so far
    _until_sample: int  # steps until the next diagnostics sample

    def attach(self, model: nn.Module, seed: int) -> None:
        """Put the network's weights on devices.

        Call it after moving the model to its compute device and before building the optimizer:
        any mapping but "direct" replaces the model's parameters by conductances. Direct weights
        keep their initial values until the first step; other mappings program them at once.

        Parameters
        ----------
        model : nn.Module
            Changed in place.
        seed : int
            Seed of device-to-device variation, rounding and noise.

        Raises
        ------
        UserError
            If the model has no synapses, already has a constraint, or has a synapse that devices
            cannot hold or `read` cannot read; or if no checkpoint can hold the state of an effect.
        """
        synapses = find_synapses(model, self.bias == "constrained")
        self.layers = [layer for s in synapses for layer, name in s.places if name == "weight"]
        self._transferred = self._before = None
        mapping = mapping_of(self)
        conductances = [map_to_conductances(model, synapse, mapping) for synapse in synapses]
        self._parameters = [parameter for of_synapse in conductances for parameter in of_synapse]
        self._conductances = gather(self._parameters)
        self.range_warnings = range_warnings(self, self._conductances)
        self._random = RandomSource(seed, self._conductances.device)
        self._devices = draw_devices(self, len(self._conductances), self._random)
        self._added = [AddedEffect(effect, number) for number, effect in enumerate(self.effects)]
        for added in self._added:
            added.bind(seed, self._conductances.device)
        self._before_update = placed(self._added, "before_update")
        self._effects = build_effects(self, self._devices, self._random, self._added)
        if isinstance(self.update, UpdateScheme):
            self._start_scheme(self.update, input_lines(synapses, conductances))
        self._samples = None
        if self.apply_to == "sample":
            programming = self._effects[0]
            assert isinstance(programming, Programming), "there are pulses"
            layers = listen(model, synapses, conductances)
            bounds = self._bounds if self.clip or self.quantize else None
            self._samples = SampleProgramming(programming, layers, self._parameters, bounds)
            self._effects[0] = self._samples
        last = self._effects[-1] if self._effects else None
        self._rounding_keeps = isinstance(last, Round) and last.keep()
        self._reading = None
        if self.read is not None:
            self._reading = Stream(seed, self._conductances.device)
            on = max(abs(self.W_min), abs(self.W_max))
            read_layers(model, self.read, self._reading, self.weight_range, on)
        if self.mapping != "direct":
            with torch.no_grad():
                store(self._conductances, self, self._devices)
        self._begin_epoch()

    def follow(self, optimizer: Optimizer) -> None:
        """Name the optimizer, whose rates ``apply_to="sample"`` needs; call it after `attach`.

        Raises UserError if its update of a batch is not a sum over the samples.
        """
        if self._samples is not None:
            self._samples.follow(optimizer)

    @torch.no_grad()
    def step(self) -> None:
        """Apply the device effects to the update the optimizer just made.

        Raises
        ------
        RuntimeError
            If the parameters were moved to other memory since `attach`, or an effect of the
            user's raises an error.
        """
        w, before = self._conductances, self._before
        if self._parameters[0].data_ptr() != w.data_ptr():
            raise RuntimeError(
                "the model's parameters moved since the constraint was attached; call "
                "model.to(device) before constraint.attach(model, seed)."
            )
        for effect in self._before_update:
            effect(w, before)
        sampled = self._until_sample == 0
        asked = clip(w, *self._bounds) if sampled else None
        kept = self._rounding_keeps and before is not None
        last = before.clone() if before is not None and kept and sampled else before
        for change in self._effects:
            change(w, before)
        if asked is not None and last is not None:
            self._sample(asked, last)
        self._until_sample = (self.diagnose_every if sampled else self._until_sample) - 1
        if not kept:
            self._keep_for_next_step()

    def warnings(self, learning_rate: float) -> list[str]:
        """Return warnings about an unsuitable conductance range and about rounding dead zones.

        After a backward pass they include the share of gradients lost to rounding.

        Parameters
        ----------
        learning_rate : float
            Rate of plain gradient descent; the larger one if there are two.
        """
        gradients = [p.grad.reshape(-1) for p in self._parameters if p.grad is not None]
        lost = dead_zone_warnings(self, learning_rate, torch.cat(gradients) if gradients else None)
        return [*self.range_warnings, *lost]

    def diagnostics(self) -> dict[str, float]:
        """Return the diagnostics of the epoch that ended and start the next epoch.

        Returns
        -------
        dict of float
            ``share_rounded_away``: share of the in-bounds updates in the sampled steps that left
            their conductance unchanged. ``mean_drift``: mean change of a conductance by retention
            in one step. ``share_at_min``, ``share_at_max``, ``distinct_levels``: of the current
            conductances.
        """
        figures = self._tally.shares()
        figures |= occupancy(self._conductances, *self._bounds, self.levels)
        self._begin_epoch()
        return figures

    def costs(self, reads: Mapping[str, Reads] | None = None) -> dict[str, float]:
        """Return what training cost so far, see `Cost.figures`; empty unless ``cost`` is set.

        Parameters
        ----------
        reads : mapping or None
            What the caller read, by purpose; `reads_of_a_sample` tells how much a sample takes.
            The constraint adds the transfers of its update scheme.
        """
        if self.cost is None:
            return {}
        own = {} if self._transferred is None else {"transfer": self._transferred()}
        return self.cost.figures(pulses_counted(self._devices), {**(reads or {}), **own})

    def histogram(self) -> tuple[Tensor, Tensor]:
        """Return the levels and the number of conductances nearest to each, both on the CPU."""
        return level_histogram(self._conductances, self.W_min, self.W_max, self.levels)

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a bitwise resume needs besides the model and the optimizer."""
        state = {
            "random": self._random.state_dict(),
            "devices": self._devices,
            "before": self._before,
            "tally": vars(self._tally).copy(),
            "until_sample": self._until_sample,
        }
        if self._reading is not None:
            state["reading"] = self._reading.random.state_dict()
        # absent without effects, as in version 0.1
        return state | ({"effects": [e.state_dict() for e in self._added]} if self._added else {})

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore a saved state; the constraint must be attached, with the same settings."""
        self._random.load_state_dict(saved["random"])
        if self._reading is not None:
            self._reading.random.load_state_dict(saved["reading"])
        for name, values in self._devices.items():
            values.copy_(saved["devices"][name])
        before = saved["before"]
        self._before = None if before is None else self._conductances.clone().copy_(before)
        self._tally = Tally(**saved["tally"])
        self._until_sample = saved["until_sample"]
        states = saved.get("effects", [])
        if len(states) != len(self._added):
            raise UserError(
                f"constraint.effects: the saved state has {len(states)} effects, and there are "
                f"{len(self._added)} now; train from the start with other effects."
            )
        for added, state in zip(self._added, states, strict=True):
            added.load_state_dict(state)

    @property
    def _bounds(self) -> tuple[float | Tensor, float | Tensor]:
        return self._devices.get("W_min", self.W_min), self._devices.get("W_max", self.W_max)

    def _start_scheme(self, scheme: UpdateScheme, lines: list[Tensor]) -> None:
        started = scheme.start(self, len(self._conductances), lines, self._random)
        self._devices |= {f"update.{name}": values for name, values in started.state.items()}
        self._transferred = started.transferred
        self._effects = [started.first, *self._effects, *started.last]

    def _begin_epoch(self) -> None:
        self._tally = Tally()
        self._until_sample = 0
        self._keep_for_next_step()

    def _keep_for_next_step(self) -> None:
        effects = (*self._before_update, *self._effects)
        if self._until_sample > 0 and not any(effect.needs_before for effect in effects):
            self._before = None
        elif self._before is None:
            self._before = self._conductances.clone()
        else:  # fresh memory in every step takes longer than the copy
            self._before.copy_(self._conductances)

    def _sample(self, asked: Tensor, before: Tensor) -> None:
        self._tally.samples += 1
        if not self.keeps_every_update:
            self._tally.add_updates(asked, self._conductances, before)
        if self.retain:
            own = self._devices.get("W_min", self.W_min)
            resting = own if self.retention_target is None else self.retention_target
            self._tally.drift += float((resting - asked).mean()) * self.retention_rate
