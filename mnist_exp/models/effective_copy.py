"""A copy of a model that can be differentiated without touching the model."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from mnist_exp.models.parametrizations import check_weights, full_name, parametrizations


def effective_copy(model: nn.Module) -> nn.Module:
    """Copy ``model``, with the weights in force as plain parameters.

    A weight under ``torch.nn.utils.parametrize`` becomes a parameter of its own name holding the
    value the parametrization gives now; it is trainable if anything behind it is. Layers that
    share a parametrization share that parameter.

    Raises
    ------
    UserError
        If a weight is made by a hook, or not there yet.
    """
    check_weights(model, "gradients")
    duplicate = copy.deepcopy(model)
    known: dict[ParametrizationList, nn.Parameter] = {}
    for module in list(duplicate.modules()):
        lists = parametrizations(module)
        if not lists:
            continue
        for name, behind in lists.items():
            if behind not in known:
                known[behind] = nn.Parameter(
                    getattr(module, name).detach().clone(),
                    requires_grad=any(p.requires_grad for p in behind.parameters()),
                )
        values = {name: known[behind] for name, behind in lists.items()}
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
        full_name(prefix, name)
        for prefix, module in model.named_modules()
        for name in parametrizations(module)
    ]


def effective_tensor(model: nn.Module, name: str) -> Tensor:
    """Return the value in force of a parameter or buffer, by its full name."""
    path, _, attribute = name.rpartition(".")
    module = model.get_submodule(path)
    behind = parametrizations(module).get(attribute)
    # a copy: spectral_norm moves its buffers with every look at the weight
    tensor: Tensor = getattr(module, attribute) if behind is None else copy.deepcopy(behind)()
    return tensor


def load_effective_weights(duplicate: nn.Module, model: nn.Module) -> None:
    """Give an effective copy the weights and buffers that ``model`` has now."""
    with torch.no_grad():
        for name, tensor in (*duplicate.named_parameters(), *duplicate.named_buffers()):
            tensor.copy_(effective_tensor(model, name))
