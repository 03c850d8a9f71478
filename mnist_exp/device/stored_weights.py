"""Weights of a saved network whose state_dict holds conductances."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mnist_exp.device.mapping import mapping_of
from mnist_exp.device.properties import DeviceProperties

# settings that decide how a conductance is read as a weight
OF_MAPPING = ("mapping", "gain", "W_min", "W_max", "quantize", "levels", "rounding")
CONDUCTANCE = re.compile(r"(?P<layer>.*?)parametrizations\.(?P<name>\w+)\.original(?P<number>\d?)")


def is_conductance(name: str) -> bool:
    """Return whether an entry of a state_dict lies behind a parametrization, by its name."""
    return CONDUCTANCE.fullmatch(name) is not None


@torch.no_grad()
def effective_state(state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a state_dict with the weights that a `DeviceConstraint` read from conductances.

    The weights are bit for bit those that the network computed with.

    Parameters
    ----------
    state : mapping
        The ``state_dict()`` of a network with the constraint attached.
    settings : mapping
        The constraint's settings; what they lack has its default.

    Raises
    ------
    UserError
        If a setting is wrong.
    """
    known = {key: settings[key] for key in OF_MAPPING if key in settings}
    make_mapping = mapping_of(DeviceProperties(**known))
    if make_mapping is None:
        return dict(state)
    mapping = make_mapping()
    weights: dict[str, Tensor] = {}
    for key, value in state.items():
        found = CONDUCTANCE.fullmatch(key)
        if found is None:
            weights[key] = value
        elif found["number"] in ("", "0"):
            stem = key.removesuffix("0")
            others = (state.get(f"{stem}{number}") for number in range(1, len(mapping.slopes)))
            originals = [value, *(other for other in others if other is not None)]
            if len(originals) == len(mapping.slopes):
                weights[found["layer"] + found["name"]] = mapping(*originals)
    return weights
