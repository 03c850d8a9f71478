"""The classifier's network taken from a run directory."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mnist_exp.errors import UserError
from mnist_exp.models import MLP
from mnist_exp.models.effective_copy import effective_copy


@dataclass(frozen=True)
class RunNetwork:
    """A network with one hidden layer, and its numbers of inputs, hidden units and outputs."""

    model: MLP
    features: int
    hidden: int
    classes: int


def network_of_run(
    directory: Path, epoch: int | str = "best", fold: int | None = None, trust: bool = False
) -> RunNetwork:
    """Return a run's network for pixels in [0, 1], float64 on the CPU.

    The run's normalisation is part of its first layer's weights.

    Raises
    ------
    UserError
        If it is no MLP with one hidden layer, or the run cannot be loaded.
    """
    # by name: runs are opened on a higher floor
    run: Any = importlib.import_module("mnist_exp.app.runs").load_run(directory, trust=trust)
    build: Any = importlib.import_module("mnist_exp.experiment.build")
    model = effective_copy(run.model(epoch, fold)).double()
    linear = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    if not isinstance(model, MLP) or len(linear) != 2:
        raise UserError(
            f"directory={directory}: its network is no MLP with one hidden layer, which this "
            "classifier is; use mnist_exp.load_run(directory).predict."
        )
    mean, std = build.pixel_mean_std(run.config, run.dataset)
    first = linear[0]
    with torch.no_grad():
        first.weight.div_(std)
        first.bias.sub_(mean * first.weight.sum(1))
    sizes = (first.in_features, first.out_features, linear[1].out_features)
    return RunNetwork(model.eval(), *sizes)
