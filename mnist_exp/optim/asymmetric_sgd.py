"""Gradient descent with separate rates for potentiation and depression."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer, optimizer

from mnist_exp.cpu.ops import asymmetric_sgd_
from mnist_exp.optim.uncompiled import Uncompiled
from mnist_exp.schema.parts import ASYMMETRIC_SGD
from mnist_exp.schema.rule import check_settings

VELOCITY = "momentum_buffer"  # the name in torch.optim.SGD
GLOBAL_HOOKS = (optimizer._global_optimizer_pre_hooks, optimizer._global_optimizer_post_hooks)


def asymmetric_update(weight: Tensor, gradient: Tensor, lr_pos: float, lr_neg: float) -> Tensor:
    """Return ``w - lr * g`` with separate rates for potentiation and depression.

    Parameters
    ----------
    weight, gradient : Tensor
        Any shape.
    lr_pos : float
        Rate where ``g < 0``: the weight rises.
    lr_neg : float
        Rate where ``g >= 0``: the weight falls.
    """
    return weight - torch.where(gradient >= 0, lr_neg * gradient, lr_pos * gradient)


class AsymmetricSGD(Uncompiled):
    """Gradient descent with a rate that depends on the direction in which a weight moves.

    Updates as `asymmetric_update`; with momentum, g is the velocity ``v <- momentum * v + g``, as
    in ``torch.optim.SGD``. Learning-rate schedulers act on ``lr``, which is ``lr_pos``; ``lr_neg``
    keeps its proportion to it. With equal rates the weights equal, bit for bit, those of
    ``torch.optim.SGD`` with ``fused=False``.

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
        momentum: float = 0.0,
    ) -> None:
        settings = {"lr_pos": lr_pos, "lr_neg": lr_neg, "momentum": momentum}
        check_settings(ASYMMETRIC_SGD, settings, "optimizer")
        # neg_to_pos instead of lr_neg: schedulers change only lr
        defaults = {"lr": lr_pos, "neg_to_pos": lr_neg / lr_pos, "momentum": momentum}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient; ``closure`` as in ``torch.optim.SGD``."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            gradients = [p.grad for p in weights]
            lr_pos, momentum = group["lr"], group["momentum"]
            lr_neg = lr_pos * group["neg_to_pos"]
            v = [self._velocity(p) for p in weights] if momentum else None
            # v <- momentum * v + g, then w <- w - lr_neg * v where v >= 0, else w - lr_pos * v
            asymmetric_sgd_(weights, gradients, v, lr_pos=lr_pos, lr_neg=lr_neg, momentum=momentum)
        return loss

    @staticmethod
    def profile_hook_step(func: Callable[..., Any]) -> Callable[..., Any]:
        """Bypass torch's profiling wrapper, 50 us a step, when no hook or profiler is active."""
        profiled = Optimizer.profile_hook_step(func)

        @wraps(func)
        def step(self: AsymmetricSGD, *arguments: Any, **keywords: Any) -> Any:
            hooks = (self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks)
            watched = any((*hooks, *GLOBAL_HOOKS)) or torch.autograd._profiler_enabled()
            return (profiled if watched else func)(self, *arguments, **keywords)

        return step

    def _velocity(self, p: Tensor) -> Tensor:
        state = self.state[p]
        if VELOCITY not in state:
            state[VELOCITY] = torch.zeros_like(p)
        velocity: Tensor = state[VELOCITY]
        return velocity
