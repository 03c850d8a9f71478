"""Retention: stored conductances drift toward a resting value."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Number = float | Tensor


def retention_of_tau(tau: float) -> float:
    """Return the share of the distance to its target that a device loses in one step.

    Parameters
    ----------
    tau : float
        Time constant in optimizer steps, > 0.
    """
    return -math.expm1(-1.0 / tau)


def retain(w: Tensor, retention: Number, target: Number, out: Tensor | None = None) -> Tensor:
    """Return ``w - retention * (w - target)``.

    Parameters
    ----------
    w : Tensor
        Conductances.
    retention : float or Tensor
        Share of the distance to ``target`` lost in one optimizer step, in [0, 1]; may broadcast.
    target : float or Tensor
        Resting conductance; may broadcast.
    out : Tensor, optional
        As in torch: pass ``w`` to work in place.
    """
    resting = torch.as_tensor(target, dtype=w.dtype, device=w.device)
    return torch.lerp(w, resting, retention, out=out)
