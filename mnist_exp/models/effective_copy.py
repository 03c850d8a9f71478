"""A copy of a model to differentiate without touching the original."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from mnist_exp.models.parametrizations import check_weights, full_name, parametrizations


def effective_copy(model: nn.Module, key: str = "gradients") -> nn.Module:
    """Copy ``model`` with its effective weights as plain parameters.

    A weight under ``torch.nn.utils.parametrize`` becomes a parameter of the same name, holding the
    parametrization's current value; it is trainable if any of the original parameters is. Layers
    that share a parametrization share the parameter. Products that are read from arrays of devices
    (`mnist_exp.device.reading`) become exact. ``key`` names the caller's setting in the
    message.

    Raises
    ------
    UserError
        If a hook computes a weight, or a lazy layer has no shape yet.
    """
    check_weights(model, key)
    duplicate = copy.deepcopy(model)
    known: dict[ParametrizationList, nn.Parameter] = {}
    for module in list(duplicate.modules()):
        if getattr(vars(module).get("forward"), "replaces_product", False):
            del module.forward
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
        # remove_parametrizations() would change the class, shared with the original model.
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
    """Return the effective value of a parameter or buffer, by its full name."""
    path, _, attribute = name.rpartition(".")
    module = model.get_submodule(path)
    behind = parametrizations(module).get(attribute)
    # a copy: each access to the weight advances the buffers of spectral_norm
    tensor: Tensor = getattr(module, attribute) if behind is None else copy.deepcopy(behind)()
    return tensor


def load_effective_weights(duplicate: nn.Module, model: nn.Module) -> None:
    """Update an effective copy with the current weights and buffers of ``model``."""
    with torch.no_grad():
        for name, tensor in (*duplicate.named_parameters(), *duplicate.named_buffers()):
            tensor.copy_(effective_tensor(model, name))
