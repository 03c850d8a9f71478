"""Effect of rounding, bounds and drift on the conductances, per epoch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mnist_exp.device.quantization import Number, clip, level_distance


@dataclass
class Tally:
    """Sums over the sampled steps of an epoch."""

    asked: int = 0  # updates that would have changed a conductance within its bounds
    lost: int = 0  # of those, the ones that left it unchanged
    drift: float = 0.0  # mean change by retention in a step, summed over samples
    samples: int = 0

    def add_updates(self, asked: Tensor, after: Tensor, before: Tensor) -> None:
        """Count a step's updates, and those that left their conductance unchanged."""
        wanted = asked != before
        self.asked += int(wanted.sum())
        self.lost += int((wanted & (after == before)).sum())

    def shares(self) -> dict[str, float]:
        """Return the epoch's shares; 0 if nothing was sampled."""
        return {
            "share_rounded_away": self.lost / max(self.asked, 1),
            "mean_drift": self.drift / max(self.samples, 1),
        }


def occupancy(w: Tensor, W_min: Number, W_max: Number, levels: int) -> dict[str, float]:
    """Return the shares of conductances at either bound and the number of levels in use.

    Conductances between two levels count for the nearer one.
    """
    step = level_distance(W_min, W_max, levels)
    nearest = ((clip(w, W_min, W_max) - W_min) / step).round_()
    return {
        "share_at_min": (w <= W_min).float().mean().item(),
        "share_at_max": (w >= W_max).float().mean().item(),
        "distinct_levels": float(torch.unique(nearest).numel()),
    }


def level_histogram(w: Tensor, W_min: float, W_max: float, levels: int) -> tuple[Tensor, Tensor]:
    """Return the levels, float32 [levels], and the number of conductances nearest to each, int64.

    Conductances beyond the bounds count for the outermost levels.
    """
    step = level_distance(W_min, W_max, levels)
    nearest = ((clip(w, W_min, W_max) - W_min) / step).round_().long()
    centres = torch.linspace(W_min, W_max, levels)
    return centres, torch.bincount(nearest, minlength=levels).cpu()
