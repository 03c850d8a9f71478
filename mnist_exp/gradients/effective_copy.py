"""A copy of a model that can be differentiated without touching the model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from mnist_exp.errors import UserError
from mnist_exp.models.parametrizations import parametrizations


def effective_copy(model: nn.Module) -> nn.Module:
    """Copy ``model``, with the weights in force as plain parameters.

    A weight under ``torch.nn.utils.parametrize`` becomes a parameter of its own name holding the
    value the parametrization gives now; it is trainable if anything behind it is.
    """
    duplicate = copy.deepcopy(model)
    for module in list(duplicate.modules()):
        lists = parametrizations(module)
        if not lists:
            continue
        values = {
            name: nn.Parameter(
                getattr(module, name).detach().clone(),
                requires_grad=any(p.requires_grad for p in behind.parameters()),
            )
            for name, behind in lists.items()
        }
        others = dict(module.named_parameters(recurse=False))
        # remove_parametrizations() would change the class, which the copy shares with the model.
        module.__class__ = type(module).__bases__[0]
        del module.parametrizations
        for name in others:
            delattr(module, name)
        for name, parameter in (values | others).items():
            module.register_parameter(name, parameter)
    return duplicate


def parametrized_names(model: nn.Module) -> list[str]:
    """List the full names of the parametrized weights of ``model``."""
    return [
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        for name in parametrizations(module)
    ]


def effective_tensor(model: nn.Module, name: str) -> Tensor:
    """Return the value in force of a parameter or buffer, by its full name."""
    module, _, attribute = name.rpartition(".")
    tensor: Tensor = getattr(model.get_submodule(module), attribute)
    return tensor


def load_effective_weights(duplicate: nn.Module, model: nn.Module) -> None:
    """Give an effective copy the weights and buffers that ``model`` has now."""
    with torch.no_grad():
        for name, tensor in (*duplicate.named_parameters(), *duplicate.named_buffers()):
            tensor.copy_(effective_tensor(model, name))


def select_parameters(names: Sequence[str], patterns: Sequence[str] | None) -> list[str]:
    """Return the names that match one of the shell patterns, all of them for None.

    Raises
    ------
    UserError
        If a pattern matches no name.
    """
    if patterns is None:
        return list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(
                f"gradients.parameters: {pattern!r} matches no trainable parameter. "
                f"The model has {', '.join(names)}; patterns are those of the shell (*, ?)."
            )
    return [name for name in names if any(fnmatchcase(name, p) for p in patterns)]
