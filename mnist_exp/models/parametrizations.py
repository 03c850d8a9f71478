"""What stands behind the weights of a layer."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList


def parametrizations(module: nn.Module) -> dict[str, ParametrizationList]:
    """Return the parametrizations of the module's own weights, by weight."""
    lists = module._modules.get("parametrizations")
    return {} if lists is None else dict(lists.named_children())  # type: ignore[arg-type]
