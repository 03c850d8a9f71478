"""Gradient descent with one rate for potentiation and another for depression."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu
from torch.optim import Optimizer

from mnist_exp.errors import UserError

Rate = float | Tensor


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

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every parameter that has a gradient; ``closure`` as in ``torch.optim.SGD``."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if not moved:
                continue
            gradients = self._velocities(moved, group["momentum"])
            ratio = group["neg_to_pos"]
            if ratio != 1:
                # g where g >= 0, g lr_pos / lr_neg elsewhere: the cheapest kernel that tells signs
                gradients = [leaky_relu(g, 1 / ratio) for g in gradients]
            torch._foreach_add_(moved, gradients, alpha=-group["lr"] * ratio)
        return loss

    def _velocities(self, moved: list[Tensor], momentum: float) -> list[Tensor]:
        """Update and return the velocities; without momentum they are the gradients."""
        gradients = [p.grad for p in moved if p.grad is not None]
        if momentum == 0:
            return gradients
        for p in moved:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        velocities = [self.state[p]["momentum_buffer"] for p in moved]
        torch._foreach_mul_(velocities, momentum)
        torch._foreach_add_(velocities, gradients)
        return velocities
