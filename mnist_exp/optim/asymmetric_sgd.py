"""Gradient descent with one rate for potentiation and another for depression."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from itertools import repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu
from torch.optim import Optimizer, optimizer

from mnist_exp.errors import UserError
from mnist_exp.kernels import kernels_for
from mnist_exp.optim.adjacent import adjacent_runs, as_one

Rate = float | Tensor
VELOCITY = "momentum_buffer"  # as torch.optim.SGD names it
# Of the steps of all optimizers.
GLOBAL_HOOKS = (optimizer._global_optimizer_pre_hooks, optimizer._global_optimizer_post_hooks)


def asymmetric_update(weight: Tensor, gradient: Tensor, lr_pos: Rate, lr_neg: Rate) -> Tensor:
    """Return ``w - lr * g`` with another rate for potentiation than for depression.

    Parameters
    ----------
    weight, gradient : Tensor
        Any shape.
    lr_pos : float or Tensor
        Rate where ``g < 0``: the weight rises. A tensor broadcasts, for example ``[R, 1, 1]`` for
        R replicas side by side.
    lr_neg : float or Tensor
        Rate where ``g >= 0``: the weight falls.
    """
    rising, falling = (torch.as_tensor(lr).to(gradient) for lr in (lr_pos, lr_neg))
    return weight - torch.where(gradient >= 0, falling, rising) * gradient


class AsymmetricSGD(Optimizer):
    """Gradient descent whose rate depends on the direction in which a weight moves.

    The formula is that of `asymmetric_update`; with momentum, g is the velocity
    ``v <- momentum * v + g``, as in ``torch.optim.SGD``. Learning-rate schedulers act on ``lr``,
    which is ``lr_pos``; ``lr_neg`` keeps its proportion to it. With equal rates the weights are,
    bit for bit, those of ``torch.optim.SGD`` with ``fused=False``.

    Parameters
    ----------
    params : iterable
        Parameters or parameter groups.
    lr_pos, lr_neg : float
        Rates of potentiation and depression, both above 0.
    momentum : float
        In [0, 1); 0: plain gradient descent.

    Raises
    ------
    UserError
        If a rate or the momentum is out of range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr_pos: float,
        lr_neg: float,
        momentum: float,
    ) -> None:
        for name, rate in (("lr_pos", lr_pos), ("lr_neg", lr_neg)):
            if not 0 < rate < float("inf"):
                raise UserError(
                    f"optimizer.{name}={rate}: a rate must be above 0 and finite; set for "
                    "example 0.1."
                )
        if not 0 <= momentum < 1:
            raise UserError(
                f"optimizer.momentum={momentum}: must be at least 0 and below 1; 0 is plain "
                "gradient descent."
            )
        # neg_to_pos and not lr_neg: schedulers change lr alone
        defaults = {"lr": lr_pos, "neg_to_pos": lr_neg / lr_pos, "momentum": momentum}
        super().__init__(params, defaults)
        self._known: dict[int, tuple[list[int], Moved]] = {}  # by group: addresses, what is there

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every parameter that has a gradient; ``closure`` as in ``torch.optim.SGD``."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = self._moved(group)
            ratio = group["neg_to_pos"]
            # g where g >= 0, g lr_pos / lr_neg elsewhere, times one rate
            rates = (-group["lr"] * ratio, 1 / ratio)
            if kernels := kernels_for(*moved.weights, *moved.gradients, *moved.velocities):
                velocities = moved.velocities or repeat(None, len(moved.weights))
                for tensors in zip(moved.weights, moved.gradients, velocities, strict=True):
                    kernels.asymmetric_sgd(*tensors, group["momentum"], *rates)
            elif moved.weights:
                _step(moved, group["momentum"], *rates)
        return loss

    @staticmethod
    def profile_hook_step(func: Callable[..., Any]) -> Callable[..., Any]:
        """Have a step tell torch's profiler and hooks, where there are any.

        torch wraps the steps of all optimizers in this; to tell a profiler that is not there takes
        longer than the step of a small network.
        """
        told = Optimizer.profile_hook_step(func)

        @wraps(func)
        def step(self: AsymmetricSGD, *arguments: Any, **keywords: Any) -> Any:
            hooks = (self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks)
            listened_to = any(hooks) or any(GLOBAL_HOOKS) or torch.autograd._profiler_enabled()
            return (told if listened_to else func)(self, *arguments, **keywords)

        return step

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copied or unpickled optimizer."""
        super().__setstate__(state)
        self._known = {}

    def _moved(self, group: dict[str, Any]) -> Moved:
        """Return what a step moves; in most steps all of it lies where it lay before."""
        rows = [(p, p.grad) for p in group["params"] if p.grad is not None]
        with_momentum = group["momentum"] != 0
        known = self._known.pop(id(group), None)
        if known is None or known[0] != self._places(rows, with_momentum):
            moved = _find_runs(rows)
            if with_momentum:
                moved.velocities.extend(map(self._velocity, moved.parameters))
            known = (self._places(rows, with_momentum), moved)
        if len(known[1].weights) < len(rows):  # else nothing is gained by holding on to it
            self._known[id(group)] = known
        return known[1]

    def _places(self, rows: list[tuple[Tensor, Tensor]], with_momentum: bool) -> list[int]:
        places = [tensor.data_ptr() for row in rows for tensor in row]
        if with_momentum:
            velocities = [self.state[p].get(VELOCITY) for p, _ in rows]
            places += [0 if v is None else v.data_ptr() for v in velocities]
        return places

    def _velocity(self, weights: Sequence[Tensor]) -> Tensor:
        """Return the velocities of adjacent weights as one; without any, they rest."""
        states = [self.state[p] for p in weights]
        for p, state in zip(weights, states, strict=True):
            if VELOCITY not in state:
                state[VELOCITY] = torch.zeros_like(p)
        if len(weights) > 1:
            flat = torch.cat([state[VELOCITY].reshape(-1) for state in states])
            parts = flat.split([p.numel() for p in weights])
            for p, state, part in zip(weights, states, parts, strict=True):
                state[VELOCITY] = part.view(p.shape)
        return as_one([state[VELOCITY] for state in states])


class Moved(NamedTuple):
    """What a step moves; parameters side by side in memory are one tensor in each list."""

    parameters: list[Sequence[Tensor]]  # those in each tensor
    weights: list[Tensor]
    gradients: list[Tensor]
    velocities: list[Tensor]  # none without momentum


def _step(moved: Moved, momentum: float, minus_rate: float, ratio: float) -> None:
    gradients = moved.gradients
    if moved.velocities:
        torch._foreach_mul_(moved.velocities, momentum)
        torch._foreach_add_(moved.velocities, gradients)
        gradients = moved.velocities
    if ratio != 1:  # leaky_relu is the cheapest of torch's kernels that tell signs
        gradients = [leaky_relu(g, ratio) for g in gradients]
    torch._foreach_add_(moved.weights, gradients, alpha=minus_rate)


def _find_runs(rows: list[tuple[Tensor, Tensor]]) -> Moved:
    moved = Moved([], [], [], [])
    for run in adjacent_runs(rows):
        parameters, gradients = zip(*run, strict=True)
        moved.parameters.append(parameters)
        moved.weights.append(as_one(parameters))
        moved.gradients.append(as_one(gradients))
    return moved
