"""Weights that are parametrized, made by hooks or not yet initialised."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList

from mnist_exp.errors import UserError


def parametrizations(module: nn.Module) -> dict[str, ParametrizationList]:
    """Return the parametrizations of the module's own weights, by weight name."""
    lists = module._modules.get("parametrizations")
    return {} if lists is None else dict(lists.named_children())  # type: ignore[arg-type]


def full_name(prefix: str, name: str) -> str:
    """Return a weight's full name; ``prefix`` is its module's, empty for the network itself."""
    return f"{prefix}.{name}" if prefix else name


def check_weights(model: nn.Module, key: str) -> None:
    """Check that every weight is initialised, and either a parameter or parametrized.

    Parameters
    ----------
    model : nn.Module
        The network.
    key : str
        Configuration key that requires this, for the message.

    Raises
    ------
    UserError
        If a lazy layer has seen no input yet, or a hook recomputes a weight at every call, as
        with ``torch.nn.utils.weight_norm``, ``spectral_norm`` and pruning.
    """
    check_shapes(model, key)
    for prefix, module in model.named_modules():
        for name in hook_made_weights(module):
            raise UserError(
                f"{key}: {full_name(prefix, name)} ({type(module).__name__}) is not a parameter: a "
                "hook computes it from others at every call. Use weight_norm or spectral_norm "
                "from torch.nn.utils.parametrizations, not from torch.nn.utils; make pruning "
                "permanent with torch.nn.utils.prune.remove."
            )


def check_shapes(model: nn.Module, key: str) -> None:
    """Check that no lazy layer is uninitialised; parameters and errors as `check_weights`."""
    for prefix, module in model.named_modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if is_lazy(tensor):
                raise UserError(
                    f"{key}: {full_name(prefix, name)} ({type(module).__name__}) has no shape yet; "
                    "give the layer its sizes, or call the model once on an input of the right "
                    "shape when it is built."
                )


def hook_made_weights(module: nn.Module) -> list[str]:
    """List the weights of a module that torch's hooks compute from parameters at every call."""
    behind = [name.rpartition("_") for name in module._parameters]
    names = {name for name, _, ending in behind if ending in ("g", "v", "orig")}
    return sorted(name for name in names if isinstance(vars(module).get(name), Tensor))


def state_sha256(model: nn.Module) -> str:
    """Compute a SHA-256 over the names, shapes and values of the model's state_dict."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(
                value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
            )
    return digest.hexdigest()


def count_parameters(model: nn.Module) -> int:
    """Count the trainable parameters; a parametrized weight counts by its own size.

    Weights shared by several layers count once.
    """
    weights: dict[object, int] = {}
    for module in model.modules():
        if isinstance(module, ParametrizationList):
            continue  # the originals; the weight counts with its layer
        weights |= {p: p.numel() for p in module.parameters(recurse=False) if p.requires_grad}
        for name, behind in parametrizations(module).items():
            weights[behind] = getattr(module, name).numel()
    return sum(weights.values())
