"""Compare per-sample gradients with autograd's gradients of one sample's loss."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_exp.errors import UserError
from mnist_exp.gradients.factors import SampleGradients
from mnist_exp.gradients.layer_gradients import Layer, network_gradients
from mnist_exp.gradients.samples import replayed_randomness

SEED = 0  # of the probe's dropout masks and perturbed weights
# Shares of a gradient's norm. Float64 rounds far finer, to 1e-16. In float32 a ReLU's input near 0
# may change sign, which is no fault.
TOLERANCE, TOLERANCE_FLOAT32 = 1e-6, 1e-2
# Share of the norm over all parameters that is added to a gradient's own. A gradient that is 0 up
# to rounding, such as that of a bias that softmax ignores, has the error of the terms that cancel.
SHARE_OF_ALL = 1e-3


class Probe:
    """Samples to compare per-sample gradients with autograd's, one sample at a time.

    Both are computed in float64 if the network can run in it, at the network's weights and at
    perturbed ones: at initial weights, a gradient of 0 may hide an error.

    Parameters
    ----------
    network
        The copy that gradients are collected from, with plain parameters as weights.
    trainable
        Names of the parameters by which the loss is differentiated.
    inputs
        [2 or more, ...]; the first two are used.
    label_smoothing
        Of the cross-entropy.
    """

    def __init__(
        self,
        network: nn.Module,
        trainable: Sequence[str],
        inputs: Tensor,
        *,
        label_smoothing: float,
    ):
        self.trainable = trainable
        self.label_smoothing = label_smoothing
        # Three rows, so that a dimension of two cannot pass for the batch.
        network, self.inputs = _in_float64(network, inputs[[0, 1, 0]])
        self.networks = (network, _perturbed(network))
        classes = _outputs(network, self.inputs).shape[1]
        self.labels = torch.arange(len(self.inputs), device=inputs.device) % classes
        double = self.inputs.dtype == torch.float64
        self.tolerance = TOLERANCE if double else TOLERANCE_FLOAT32

    def check_samples(self, model: nn.Module, names: Sequence[str]) -> None:
        """Check that each sample's gradient is its own, and comes from the copied network alone.

        Raises
        ------
        UserError
            If a sample's loss depends on the rest of its batch, or the network, a copy of
            ``model``, still uses one of the original's parameters among ``names``.
        """
        outside = {name: p for name, p in model.named_parameters() if p.requires_grad}
        for network in self.networks:
            losses, _ = self._losses(network, self.inputs)
            for i in range(2):
                alone, _ = self._losses(network, self.inputs[[i, i, i]])
                one, other = losses[i].item(), alone[i].item()
                if abs(one - other) > self.tolerance * max(1.0, abs(other)):
                    raise UserError(
                        f"The loss of a sample is {one:.6g} among others and {other:.6g} by "
                        "itself: it depends on other samples, or on state that the network keeps "
                        "between calls, so it has no gradient of its own. Replace batch "
                        "statistics by GroupNorm or LayerNorm, or set gradients=none."
                    )
            used = torch.autograd.grad(
                losses.sum(), list(outside.values()), allow_unused=True, retain_graph=True
            )
            for name, gradient in zip(outside, used, strict=True):
                if gradient is not None and _effective_name(name) in names:
                    raise UserError(
                        f"The gradients of {_effective_name(name)} cannot be taken: a copy of the "
                        "network still uses the original parameter, for example in a hook that "
                        "holds the model itself. Let the hook use the module it is called with, "
                        "or leave the parameter out with gradients.parameters=[...]."
                    )

    def errors(self, layers: Sequence[Layer]) -> dict[str, float]:
        """Return the largest relative error of each parameter whose gradients are wrong."""
        errors: dict[str, float] = {}
        for network in self.networks:
            ours = self._gradients(network, layers)
            for i, true in enumerate(self._true_gradients(network)):
                total = _norm(true.values())
                for name, form in ours.items():
                    error = self._error(form, i, true[name], total)
                    if error > 0:
                        errors[name] = max(error, errors.get(name, 0.0))
        return errors

    def _error(self, form: SampleGradients, i: int, true: Tensor, total: float) -> float:
        """Return the error of a sample's gradient as a share of its norm; 0 within tolerance."""
        norm = _norm([true])
        if not norm < float("inf"):  # a norm that is not finite cannot be compared
            return 0.0
        found = form[i : i + 1].dense()[0] if len(form) == len(self.inputs) else None
        if found is None or found.shape != true.shape:
            return float("inf")
        error = _norm([found - true])
        if error <= self.tolerance * (norm + SHARE_OF_ALL * total):
            return 0.0
        return error / norm if norm > 0 and error < float("inf") else float("inf")

    def _gradients(
        self, network: nn.Module, layers: Sequence[Layer]
    ) -> Mapping[str, SampleGradients]:
        network = copy.deepcopy(network)
        layers = [replace(layer, module=network.get_submodule(layer.name)) for layer in layers]
        with replayed_randomness(self.inputs.device, SEED):
            return network_gradients(
                network, layers, self.inputs.clone(), self.labels, self.label_smoothing
            ).gradients

    def _true_gradients(self, network: nn.Module) -> Iterator[dict[str, Tensor]]:
        losses, network = self._losses(network, self.inputs)
        weights = [network.get_parameter(name) for name in self.trainable]
        for loss in losses:
            gradients = torch.autograd.grad(
                loss, weights, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            yield dict(zip(self.trainable, gradients, strict=True))

    def _losses(self, network: nn.Module, inputs: Tensor) -> tuple[Tensor, nn.Module]:
        """Return the samples' losses and the copy of the network that computed them."""
        network = copy.deepcopy(network)
        for name in self.trainable:
            network.get_parameter(name).requires_grad_()
        with torch.enable_grad(), replayed_randomness(inputs.device, SEED):
            logits = network(inputs.clone())
            losses = F.cross_entropy(
                logits, self.labels, label_smoothing=self.label_smoothing, reduction="none"
            )
        return losses, network


def _in_float64(network: nn.Module, inputs: Tensor) -> tuple[nn.Module, Tensor]:
    """Return float64 copies, or both unchanged if the network cannot run in float64."""
    if not inputs.is_floating_point():
        return network, inputs
    try:
        double = copy.deepcopy(network).double()
        _outputs(double, inputs.double())
    except (RuntimeError, TypeError):  # hardware without float64, or float32 inside the network
        return network, inputs
    return double, inputs.double()


def _outputs(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return the outputs of a copy of the network, which itself stays unchanged."""
    with torch.no_grad(), replayed_randomness(inputs.device, SEED):
        outputs: Tensor = copy.deepcopy(network)(inputs.clone())
    return outputs


def _perturbed(network: nn.Module) -> nn.Module:
    """Copy a network and add noise to each tensor: half of its RMS, or 0.1 if it is zero."""
    network = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            size = parameter.abs().square().mean().sqrt().item()
            parameter.add_(noise, alpha=size / 2 if size > 0 else 0.1)
    return network


def _norm(tensors: Iterable[Tensor]) -> float:
    return float(torch.stack([t.norm() for t in tensors]).cpu().double().norm())


def _effective_name(name: str) -> str:
    """Map a.parametrizations.weight.original0 to a.weight; return other names unchanged."""
    owner, _, behind = name.rpartition("parametrizations.")
    return owner + behind.rpartition(".")[0] if owner or behind != name else name
