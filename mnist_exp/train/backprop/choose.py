"""Choice of the fastest way to a batch's loss and gradients: autograd or a written-out one."""

from __future__ import annotations

import sys
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from mnist_exp.cpu.kernels import kernels_for
from mnist_exp.device.reading.layers import exact_products, is_read
from mnist_exp.models import stages
from mnist_exp.train import compute_device
from mnist_exp.train.backprop.autograd import Autograd, AutogradInParts
from mnist_exp.train.backprop.cnn_compiled import CompiledConvolutions
from mnist_exp.train.backprop.cuda_graph import InCudaGraph
from mnist_exp.train.backprop.mlp import LinearLayers
from mnist_exp.train.backprop.mlp_read import ReadLinearLayers
from mnist_exp.train.losses import Loss

# Tolerances by precision, as shares of the norms of logits and gradients: above rounding errors
# (including flips of a ReLU at 0), below the difference to another network.
LARGEST_DIFFERENCES = {"fp32": (1e-3, 0.05), "bf16": (0.1, 0.2)}


Way = Autograd | LinearLayers | CompiledConvolutions | ReadLinearLayers


class Backpropagation(Protocol):
    """Computes the gradients of a network's loss on a batch."""

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Set ``.grad`` of the parameters; return the mean loss [] and the logits [B, classes]."""


def backpropagation(
    model: nn.Module, label_smoothing: float, precision: str, loss: Loss | None = None
) -> Backpropagation:
    """Return the fastest way to the gradients of ``model`` under cross-entropy, or any other loss.

    Only autograd knows other losses. The first batch checks what the network declares
    (`mnist_exp.models.stages`) against autograd; if they differ, a warning is printed and autograd
    is used.

    Parameters
    ----------
    model : nn.Module
        From inputs [B, ...] to logits [B, classes], on its compute device.
    label_smoothing : float
        Share of the target spread over all classes.
    precision : {"fp32", "bf16"}
        Of matrix products and convolutions, except small linear layers of an `MLP`; parameters and
        gradients are float32.
    loss : callable or None
        From logits [B, C] and labels [B] to a scalar; None: cross-entropy with ``label_smoothing``.
    """
    if loss is not None:
        return Autograd(model, label_smoothing, precision, loss)
    way = fastest_way(model, label_smoothing, precision)
    if _fastest_kind(model, precision) is Autograd:
        return way
    exact = Autograd(model, label_smoothing, precision)
    if _said_so.get(model) is False:
        return exact
    return way if model in _said_so else Compared(way, exact)


def fastest_way(model: nn.Module, label_smoothing: float, precision: str) -> Way | InCudaGraph:
    """Return the fastest way that a network's declarations allow; see `backpropagation`."""
    way = _fastest_kind(model, precision)(model, label_smoothing, precision)
    return InCudaGraph(way, model) if is_recorded(model) else way


def is_recorded(model: nn.Module) -> bool:
    """Return whether a network's work on a batch becomes a CUDA graph.

    Its declaration is not compared with autograd, which would go the same way.
    """
    # AMD's GPUs are "cuda" to torch too; nothing was recorded on one
    on_nvidia = torch.version.hip is None and all(
        p.device.type == "cuda" for p in model.parameters()
    )
    return on_nvidia and not is_read(model) and stages.has_fixed_operations(model)


def _fastest_kind(model: nn.Module, precision: str) -> type[Way]:
    if is_read(model):
        return ReadLinearLayers if ReadLinearLayers.knows(model) else Autograd
    said = stages.stages(model)
    if said is not None and LinearLayers.knows(said):
        return LinearLayers
    on_cpu = all(p.device.type == "cpu" for p in model.parameters())
    if not on_cpu or not stages.has_independent_samples(model):
        return Autograd
    if said is not None and precision == "fp32" and CompiledConvolutions.knows(said):
        return CompiledConvolutions
    return AutogradInParts


# The kinds of ways in words, for results.json.
WORDS = {
    Autograd: "autograd",
    AutogradInParts: "autograd on parts of the batch",
    LinearLayers: "chain rule of linear layers",
    CompiledConvolutions: "compiled convolutions",
    ReadLinearLayers: "chain rule of linear layers read from arrays",
}


def description(model: nn.Module, precision: str, loss: Loss | None) -> str:
    """Return the way chosen for a network in words, and a faster one that its loss rules out."""
    fastest = _fastest_kind(model, precision)
    if loss is None:
        return WORDS[fastest] + (", in a CUDA graph" if is_recorded(model) else "")
    if fastest is Autograd:
        return WORDS[fastest]
    return f"{WORDS[Autograd]} ({WORDS[fastest]}: for plain cross-entropy only)"


def fast_precision(device: torch.device, kind: object) -> str:
    """Return the precision at which networks made by ``kind``, a class or function, train fastest.

    bf16 where the hardware supports it, except on a CPU for classes that declare ``stages()``: the
    compiled kernels, which support only float32, are faster still.
    """
    in_kernels = isinstance(kind, type) and stages.says_stages(kind) and bool(kernels_for())
    return "fp32" if device.type == "cpu" and in_kernels else compute_device.fast_precision(device)


# Whether autograd confirmed a network's declarations; absent before its first batch.
_said_so: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


class Compared:
    """A way checked against autograd on its first batch; autograd takes over if they differ."""

    def __init__(self, way: Backpropagation, exact: Autograd) -> None:
        self.way = way
        self.exact = exact

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Set ``.grad`` of the parameters; return the mean loss [] and the logits [B, classes]."""
        model = self.exact.model
        if model in _said_so:
            return self.way(inputs, labels)
        with exact_products(model):  # how these are read was not declared, and is random
            truth = self.exact(inputs, labels)
            true_gradients = _gradients(model)
            model.zero_grad()
            result = self.way(inputs, labels)
        numbers = torch.cat([truth[1].flatten(), *true_gradients])
        if not numbers.isfinite().all() or not len(labels):  # nothing to compare
            return self.way(inputs, labels) if is_read(model) else result
        of_logits, of_gradients = LARGEST_DIFFERENCES[self.exact.precision]
        _said_so[model] = _are_near([result[1]], [truth[1]], of_logits) and _are_near(
            _gradients(model), true_gradients, of_gradients
        )
        if _said_so[model]:
            return self.way(inputs, labels) if is_read(model) else result
        name = type(model).__name__
        print(
            f"warning: {name} declares stages() or independent_samples, but autograd finds other "
            "gradients. Training continues with autograd, which is slower; correct or remove the "
            "declaration.",
            file=sys.stderr,
        )
        self.way = self.exact
        return self.exact(inputs, labels)


def _gradients(model: nn.Module) -> list[Tensor]:
    return [
        torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten()
        for p in model.parameters()
    ]


def _are_near(found: list[Tensor], truth: list[Tensor], share: float) -> bool:
    """Return whether each tensor is within ``share`` of its norm plus a tenth of the total norm."""
    together = torch.cat([one.flatten() for one in truth]).norm()
    return all(
        bool((one.flatten() - true.flatten()).norm() <= share * (true.norm() + together / 10))
        for one, true in zip(found, truth, strict=True)
    )
