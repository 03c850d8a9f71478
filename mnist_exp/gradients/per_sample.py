"""The gradient of each sample of a batch, from one forward and one backward pass.

Hooks keep the input and output of each layer. One ``torch.autograd.grad`` gives the gradients of
the outputs without any gradient of a weight. Input and output gradient then give the gradients of
the layer's parameters, sample by sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mnist_exp.errors import UserError
from mnist_exp.gradients.exactness import Probe
from mnist_exp.gradients.layer_gradients import (
    BatchGradients,
    Call,
    Layer,
    formula_of,
    function_gradients,
    linear_gradients,
    network_gradients,
    probe_calls,
)
from mnist_exp.models import MLP
from mnist_exp.models.effective_copy import (
    effective_copy,
    effective_tensor,
    load_effective_weights,
    parametrized_names,
)


class PerSampleModel:
    """A copy of a model that gives the gradient of each sample's loss.

    The copy shares nothing with the model, whose mode, ``.grad`` fields and buffers stay unchanged.
    Gradients are with respect to effective weights, also of parametrized layers. Batch
    normalisation uses its running statistics: with batch statistics, a sample's loss would depend
    on the other samples and have no gradient of its own.

    Parameters
    ----------
    model
        A network from inputs [B, ...] to logits [B, num_classes].
    inputs
        Two or more samples, to probe the calls of each layer.
    parameters
        Shell patterns of parameter names, or None for all trainable ones.
    dropout
        Whether dropout acts as in training.
    label_smoothing
        Of the cross-entropy, 0 <= s < 1. A sample's loss is not divided by the batch size.

    Raises
    ------
    UserError
        If a pattern matches nothing, or a layer's gradients cannot be separated by sample, which
        is checked on two samples against autograd's gradient of one sample's loss.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Tensor,
        *,
        parameters: Sequence[str] | None,
        dropout: bool,
        label_smoothing: float,
    ):
        self.label_smoothing = label_smoothing
        self.parametrized = parametrized_names(model)
        self.copy = effective_copy(model).train(dropout)
        trainable = [n for n, p in self.copy.named_parameters() if p.requires_grad]
        self.names = select_parameters(trainable, parameters)
        self.copy.requires_grad_(False)
        self.copy.zero_grad(set_to_none=True)
        freeze_batch_norm(self.copy)
        calls = probe_calls(self.copy, inputs)
        # a second batch size, to find dimensions that equal the first only by chance
        more = probe_calls(self.copy, inputs[torch.arange(len(inputs) + 1) % len(inputs)])
        probe = Probe(self.copy, trainable, inputs, label_smoothing=label_smoothing)
        probe.check_samples(model, self.names)
        usable = {
            name: call
            for name, call in calls.items()
            if call.is_per_sample(len(inputs))
            and name in more
            and more[name].is_per_sample(len(inputs) + 1)
        }
        self.layers = exact_layers(assign_layers(self.copy, self.names, usable), self.copy, probe)
        self.sample_bytes = self._sample_bytes(calls, inputs)

    def load_weights(self, model: nn.Module) -> None:
        """Copy the current weights and buffers of ``model``."""
        load_effective_weights(self.copy, model)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the parameters, by name."""
        return {name: tuple(effective_tensor(self.copy, name).shape) for name in self.names}

    def following(self) -> dict[str, str]:
        """Map the weight of a linear layer to the next one's, if only a ReLU is between them."""
        if type(self.copy) is not MLP or "forward" in vars(self.copy):
            return {}
        modules = [
            (name, module)
            for name, module in self.copy.network.named_children()
            if not (isinstance(module, nn.Dropout) and not module.training)
        ]
        return {
            f"network.{name}.weight": f"network.{later}.weight"
            for (name, one), (_, between), (later, other) in zip(
                modules, modules[1:], modules[2:], strict=False
            )
            if type(one) is type(other) is nn.Linear and type(between) is nn.ReLU
            if not any(m._forward_hooks or m._forward_pre_hooks for m in (one, between, other))
        }

    def weight(self, name: str) -> Tensor:
        """Return the effective value of a weight."""
        return effective_tensor(self.copy, name).detach()

    def _sample_bytes(self, calls: dict[str, Call], inputs: Tensor) -> int:
        """Estimate the working memory per sample: activations, and gradients if built."""
        modules = dict(self.copy.named_modules())
        outputs = [
            call.output
            for name, call in calls.items()
            if isinstance(call.output, Tensor) and not any(modules[name].children())
        ]
        # Each output counts three times: itself, its copy for the next layer, its gradient.
        elements = inputs.numel() + 3 * sum(output.numel() for output in outputs)
        built = [
            effective_tensor(self.copy, name).numel()
            for layer in self.layers
            if layer.formula is not linear_gradients
            for name in layer.parameters
        ]
        return (elements // len(inputs) + 2 * sum(built)) * inputs.element_size()

    def __call__(self, inputs: Tensor, labels: Tensor) -> BatchGradients:
        """Compute the gradients of the samples ``inputs`` [B, ...] with ``labels`` [B]."""
        batch = network_gradients(self.copy, self.layers, inputs, labels, self.label_smoothing)
        return replace(batch, gradients={name: batch.gradients[name] for name in self.names})


def exact_layers(layers: Sequence[Layer], network: nn.Module, probe: Probe) -> list[Layer]:
    """Differentiate the whole network for parameters whose layer gives wrong gradients.

    Such a parameter is used outside its layer's call, or a hook changes the layer's output.
    Differentiating the network per sample is slow but misses nothing.

    Raises
    ------
    UserError
        If those gradients are wrong too.
    """
    wrong = probe.errors(layers)
    if not wrong:
        return list(layers)
    right = [
        replace(layer, parameters=tuple(n for n in layer.parameters if n not in wrong))
        for layer in layers
    ]
    chosen = [layer for layer in right if layer.name and layer.parameters]
    whole = [name for layer in right if not layer.name for name in layer.parameters]
    chosen.append(Layer("", network, function_gradients, (*whole, *wrong)))
    wrong = probe.errors(chosen)
    if wrong:
        name, error = max(wrong.items(), key=lambda item: item[1])
        names = [name for layer in layers for name in layer.parameters if name not in wrong]
        raise UserError(
            f"The gradients of {', '.join(wrong)} cannot be separated by sample: on two samples, "
            f"those of {name} differ from autograd's by {error:.2g} of their norm. "
            f"Choose others: gradients.parameters=[{','.join(names)}]."
        )
    return chosen


def freeze_batch_norm(model: nn.Module) -> None:
    """Make batch normalisation use its running statistics.

    Raises
    ------
    UserError
        If a layer keeps no running statistics.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            module.eval()
            if module.running_mean is None:
                raise UserError(
                    f"Layer {name} ({type(module).__name__}) keeps no running statistics, so a "
                    "sample's loss depends on the rest of its batch and has no gradient of its "
                    "own. Set track_running_stats=True, or use GroupNorm or LayerNorm."
                )


def assign_layers(model: nn.Module, names: Sequence[str], usable: dict[str, Call]) -> list[Layer]:
    """Group parameters by the innermost module that can separate their gradients by sample.

    That is the parameter's own layer if its call is in ``usable``, else the nearest enclosing
    module that is. ``usable`` has the calls of modules called once, with the batch first.
    """
    modules = dict(model.named_modules())
    owned: dict[str, list[str]] = {}
    for name in names:
        owned.setdefault(owner_of(name, model, usable), []).append(name)
    return [
        Layer(name, modules[name], formula_of(modules[name], usable[name]), tuple(parameters))
        for name, parameters in owned.items()
    ]


def owner_of(name: str, model: nn.Module, usable: dict[str, Call]) -> str:
    """Return the innermost usable module that contains every holder of a parameter."""
    tensor = effective_tensor(model, name)
    aliases = model.named_parameters(remove_duplicate=False)
    holders = [alias.split(".")[:-1] for alias, other in aliases if other is tensor]
    path = []
    for parts in zip(*holders, strict=False):  # a tied weight has several holders
        if len(set(parts)) > 1:
            break
        path.append(parts[0])
    while ".".join(path) not in usable:
        if not path:
            raise UserError(
                f"The gradients of {name} cannot be separated by sample: no module that holds it "
                "is called exactly once with tensors whose first dimension is the batch. Choose "
                "other parameters with gradients.parameters=[...]."
            )
        path.pop()
    return ".".join(path)


def select_parameters(names: Sequence[str], patterns: Sequence[str] | None) -> list[str]:
    """Return the names that match any of the shell patterns; None: all names.

    Raises
    ------
    UserError
        If a pattern matches no name, or there are no names.
    """
    if not names:
        raise UserError("gradients: the model has no trainable parameter; set gradients=none.")
    if patterns is None:
        return list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(
                f"gradients.parameters: {pattern!r} matches no trainable parameter. "
                f"The model has {', '.join(names)}; patterns are those of the shell (*, ?)."
            )
    return [name for name in names if any(fnmatchcase(name, p) for p in patterns)]
