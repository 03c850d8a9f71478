"""Per-sample gradients of a layer's parameters, from its input and output gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from mnist_exp.errors import UserError
from mnist_exp.gradients.factors import (
    Convolution,
    ConvolutionGradients,
    DenseGradients,
    OuterProductGradients,
    SampleGradients,
)
from mnist_exp.wording import counted


@dataclass
class Call:
    """The arguments and output of a module's first call, and the number of calls."""

    inputs: tuple[Any, ...]
    keywords: dict[str, Any]
    output: Any
    count: int = 1

    def is_per_sample(self, batch: int) -> bool:
        """Return whether the module was called once, with tensors of ``batch`` rows in and out."""
        tensors = (*self.inputs, self.output)
        return (
            self.count == 1
            and not self.keywords
            and all(isinstance(t, Tensor) and t.ndim > 0 and len(t) == batch for t in tensors)
        )


@contextmanager
def recorded_calls(modules: dict[str, nn.Module]) -> Iterator[dict[str, Call]]:
    """Record the calls of ``modules`` by name and make their outputs differentiable."""
    calls: dict[str, Call] = {}

    def hook_of(name: str) -> Callable[..., Any]:
        def hook(_: nn.Module, inputs: tuple[Any, ...], keywords: Any, output: Any) -> Any:
            if name in calls:
                calls[name].count += 1
                return None
            calls[name] = Call(inputs, keywords, output)
            if not isinstance(output, Tensor):
                return None
            if not output.requires_grad:
                output.requires_grad_()
            return output.clone()  # keeps `output` from a later in-place activation

        return hook

    handles = [
        module.register_forward_hook(hook_of(name), with_kwargs=True)
        for name, module in modules.items()
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def probe_calls(model: nn.Module, inputs: Tensor) -> dict[str, Call]:
    """Run the model once and return the calls of all its modules."""
    with torch.enable_grad(), recorded_calls(dict(model.named_modules())) as calls:
        model(inputs.clone())
    return calls


@dataclass(frozen=True)
class BatchGradients:
    """The gradients of B samples' own losses.

    Attributes
    ----------
    losses : Tensor
        [B].
    gradients : dict
        Gradients of the B losses, by parameter name.
    predictions : Tensor
        int64 [B], the class with the largest logit.
    """

    losses: Tensor
    gradients: dict[str, SampleGradients]
    predictions: Tensor


@dataclass(frozen=True)
class Layer:
    """A module whose input and output gradient give the gradients of ``parameters``."""

    name: str
    module: nn.Module
    formula: Callable[[Layer, tuple[Tensor, ...], Tensor], dict[str, SampleGradients]]
    parameters: tuple[str, ...]

    def local_names(self) -> dict[str, str]:
        """Map the module's own names of ``parameters`` to their full names."""
        prefix = f"{self.name}." if self.name else ""
        return {name.removeprefix(prefix): name for name in self.parameters}


def network_gradients(
    network: nn.Module,
    layers: Sequence[Layer],
    inputs: Tensor,
    labels: Tensor,
    label_smoothing: float,
) -> BatchGradients:
    """Form the gradients of all ``layers`` in one forward and one backward pass of ``network``.

    Raises
    ------
    UserError
        If a layer is not called exactly once with the batch, as it was on the probe.
    """
    modules = {layer.name: layer.module for layer in layers}
    with torch.enable_grad(), recorded_calls(modules) as calls:
        logits = network(inputs)
        for layer in layers:
            call = calls.get(layer.name)
            if call is None or not call.is_per_sample(len(inputs)):
                raise UserError(_other_call_message(layer, call))
        losses = F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")
        outputs = [calls[name].output for name in modules]
        output_gradients = torch.autograd.grad(
            losses.sum(), outputs, allow_unused=True, materialize_grads=True
        )
    gradients: dict[str, SampleGradients] = {}
    for layer, output_gradient in zip(layers, output_gradients, strict=True):
        layer_inputs = tuple(tensor.detach() for tensor in calls[layer.name].inputs)
        gradients |= layer.formula(layer, layer_inputs, output_gradient)
    return BatchGradients(losses.detach(), gradients, logits.detach().argmax(1))


def _other_call_message(layer: Layer, call: Call | None) -> str:
    found = "it is not called" if call is None else f"it is called {counted(call.count, 'time')}"
    return (
        f"Layer {layer.name or 'the model'} ({type(layer.module).__name__}) was called once with "
        f"the batch, but on other samples {found}. If the calls depend on the inputs, the "
        f"gradients of {', '.join(layer.parameters)} cannot be separated by sample. Leave them out "
        "with gradients.parameters=[...]."
    )


def formula_of(module: nn.Module, call: Call) -> Callable[..., dict[str, SampleGradients]]:
    """Choose the function that forms the gradients of a module's parameters."""
    forward = type(module).forward
    if forward is nn.Linear.forward and call.inputs[0].ndim == 2:
        return linear_gradients
    if forward is nn.Conv2d.forward and call.inputs[0].ndim == 4:
        return convolution_gradients
    return function_gradients


def linear_gradients(
    layer: Layer, inputs: tuple[Tensor, ...], output_gradient: Tensor
) -> dict[str, SampleGradients]:
    """Form a linear layer's gradients: factors for the weight, output gradient for the bias."""
    gradients: dict[str, SampleGradients] = {
        "weight": OuterProductGradients(output_gradient, inputs[0]),
        "bias": DenseGradients(output_gradient),
    }
    return {full: gradients[local] for local, full in layer.local_names().items()}


def convolution_gradients(
    layer: Layer, inputs: tuple[Tensor, ...], output_gradient: Tensor
) -> dict[str, SampleGradients]:
    """Form a convolution's gradients, the weight's as factors if these are smaller."""
    assert isinstance(layer.module, nn.Conv2d)  # for the type checker; formula_of ensures it
    gradients: dict[str, SampleGradients] = {}
    for local, full in layer.local_names().items():
        if local == "bias":
            gradients[full] = DenseGradients(output_gradient.sum((2, 3)))
            continue
        geometry = Convolution.of(layer.module)
        factored = ConvolutionGradients(output_gradient, inputs[0], geometry)
        size = output_gradient[0].numel() + inputs[0][0].numel()
        smaller = size < layer.module.weight.numel()
        gradients[full] = factored if smaller else DenseGradients(factored.dense())
    return gradients


def function_gradients(
    layer: Layer, inputs: tuple[Tensor, ...], output_gradient: Tensor
) -> dict[str, SampleGradients]:
    """Form any layer's gradients by differentiating it per sample, vectorised by vmap."""
    local_names = layer.local_names()
    parameters = {name: layer.module.get_parameter(name).detach() for name in local_names}

    def projection(parameters: dict[str, Tensor], inputs: tuple[Tensor, ...], d: Tensor) -> Tensor:
        batch_of_one = tuple(tensor.unsqueeze(0) for tensor in inputs)
        output = functional_call(layer.module, parameters, batch_of_one)
        return (output.squeeze(0) * d).sum()

    try:
        rows = vmap(grad(projection), in_dims=(None, 0, 0))(parameters, inputs, output_gradient)
    except RuntimeError as error:
        raise UserError(
            f"torch.func cannot differentiate layer {layer.name or 'the model'} "
            f"({type(layer.module).__name__}) sample by sample: {error}. Leave out "
            f"{', '.join(layer.parameters)} with gradients.parameters=[...], or, if the layer "
            "draws random numbers, set gradients.dropout=false."
        ) from error
    return {local_names[name]: DenseGradients(values) for name, values in rows.items()}
