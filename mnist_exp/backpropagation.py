"""Loss and gradients of a training batch: by autograd, or written out where that is faster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from mnist_exp.autograd import Autograd, AutogradInParts
from mnist_exp.compiled_convolutions import CompiledConvolutions, is_for_kernels
from mnist_exp.device.mapping import Mapping
from mnist_exp.linear_layers import LinearLayers
from mnist_exp.models import MLP
from mnist_exp.models.parametrizations import parametrizations


class Backpropagation(Protocol):
    """Computes the gradients of a network's loss on a batch."""

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Set ``.grad`` of the parameters; return the mean loss [] and the logits [B, classes]."""


def backpropagation(model: nn.Module, label_smoothing: float, precision: str) -> Backpropagation:
    """Return the fastest way to the gradients of ``model`` under cross-entropy.

    Parameters
    ----------
    model : nn.Module
        From inputs [B, ...] to logits [B, classes], on its compute device.
    label_smoothing : float
        Share of the target spread over all classes.
    precision : {"fp32", "bf16"}
        Of the matrix products and convolutions, small linear layers of an `MLP` apart; parameters
        and gradients are float32.
    """
    way: Callable[[nn.Module, float, str], Backpropagation] = Autograd
    if is_plain(model):
        way = LinearLayers
    elif has_independent_samples(model):
        compiled = precision == "fp32" and is_for_kernels(model)
        way = CompiledConvolutions if compiled else AutogradInParts
    return way(model, label_smoothing, precision)


def is_plain(model: nn.Module) -> bool:
    """Tell whether `LinearLayers` computes what autograd would.

    That is for an `MLP` as it is built, with ReLU and without dropout, float32 and all of it
    trained, whose weights are parameters of their own or held by devices, and into which nobody
    looks with hooks.
    """
    if type(model) is not MLP or "forward" in vars(model):
        return False
    layers, activations = list(model.network[::2]), model.network[1::2]
    parameters = [p for _, p in model.named_parameters(remove_duplicate=False)]
    return (
        all(type(activation) is nn.ReLU for activation in activations)
        and all(_is_linear(layer) for layer in layers)
        and len(set(layers)) == len(layers)
        and len(set(parameters)) == len(parameters)
        and all(p.requires_grad and p.dtype == torch.float32 for p in parameters)
        and all(p.is_contiguous() for p in parameters)
        and not _has_hooks(model, parameters)
    )


def has_independent_samples(model: nn.Module) -> bool:
    """Tell whether `AutogradInParts` computes what autograd would on the whole batch.

    That is for a network on the CPU whose own class says so, not one that it is derived from, and
    into which nobody looks with hooks.
    """
    parameters = list(model.parameters())
    return (
        vars(type(model)).get("independent_samples") is True
        and "forward" not in vars(model)
        and all(p.device.type == "cpu" for p in parameters)
        and not _has_hooks(model, parameters)
    )


def _is_linear(layer: nn.Module) -> bool:
    lists = parametrizations(layer)
    mappings = [mapping for behind in lists.values() for mapping in behind]
    kind = type(layer).__bases__[0] if lists else type(layer)
    held_by_devices = all(isinstance(mapping, Mapping) for mapping in mappings)
    return kind is nn.Linear and held_by_devices and getattr(layer, "bias", None) is not None


def _has_hooks(model: nn.Module, parameters: list[nn.Parameter]) -> bool:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(
        [
            *(getattr(module, kind) for module in model.modules() for kind in kinds),
            *(getattr(nn.modules.module, f"_global{kind}") for kind in kinds),
            *(p._backward_hooks or p._post_accumulate_grad_hooks for p in parameters),
        ]
    )
