"""Declarations by which a network can be trained faster than by autograd.

A network class with a method ``stages()`` declares the layers that a sample passes through, and
that its forward pass does nothing else. A class with other layers can declare
``independent_samples = True`` if no sample affects another's output and nothing is random, and
``fixed_operations = True`` if its forward pass launches the same work for every batch of a shape:
no branch depends on values, nothing is computed on the CPU or drawn from a generator other than
torch's own, and within an epoch nothing changes but the values of parameters and buffers.
Subclasses do not inherit declarations.
"""

from __future__ import annotations

from itertools import chain

from torch import nn

from mnist_exp.models.parametrizations import parametrizations

# Pairs (3x3 convolution, whether 2x2 max pooling follows), then linear layers on flattened inputs.
# A ReLU follows each layer, after its pooling, except the last. Without convolutions, inputs of any
# shape are flattened.
Stages = tuple[list[tuple[nn.Conv2d, bool]], list[nn.Linear]]


def says_stages(kind: type[nn.Module]) -> bool:
    """Return whether a network class itself defines ``stages()``."""
    return "stages" in vars(kind)


def stages(model: nn.Module) -> Stages | None:
    """Return the declared layers of a network; None without a declaration, or with hooks.

    Also None if ``stages()`` returns None, for settings that it cannot describe, or if the layers
    are not torch's own or do not hold all parameters exactly once.
    """
    if not says_stages(type(model)) or not runs_as_its_class_says(model):
        return None
    said: Stages | None = model.stages()  # type: ignore[operator]
    if said is None:
        return None
    convolutions, linear = said
    layers = [*(convolution for convolution, _ in convolutions), *linear]
    kinds = [nn.Conv2d] * len(convolutions) + [nn.Linear] * len(linear)
    own = [p for _, p in model.named_parameters(remove_duplicate=False)]
    of_layers = set(chain(*(layer.parameters() for layer in layers)))
    once = len(set(layers)) == len(layers) and len(set(own)) == len(own)
    as_torch_has_them = all(map(_is_kind, layers, kinds))
    return said if linear and once and as_torch_has_them and of_layers == set(own) else None


def has_independent_samples(model: nn.Module) -> bool:
    """Return whether a network declares ``stages()`` or ``independent_samples``."""
    in_a_word = vars(type(model)).get("independent_samples") is True
    return stages(model) is not None or (in_a_word and runs_as_its_class_says(model))


def has_fixed_operations(model: nn.Module) -> bool:
    """Return whether a network declares ``stages()`` or ``fixed_operations``.

    So must its modules that are not torch's own; no weight may be parametrized.
    """
    if stages(model) is None and not _says_fixed_operations(model):
        return False
    return runs_as_its_class_says(model) and not any(
        parametrizations(module) or not (_is_torchs(module) or _says_fixed_operations(module))
        for module in model.modules()
        if module is not model
    )


def _says_fixed_operations(module: nn.Module) -> bool:
    return vars(type(module)).get("fixed_operations") is True


def _is_torchs(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn.modules.")


def _is_kind(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether a layer is of exactly this class, parametrized or not."""
    return (type(layer).__bases__[0] if parametrizations(layer) else type(layer)) is kind


def runs_as_its_class_says(model: nn.Module) -> bool:
    """Return whether a model has no hooks, and no ``forward`` set on an instance."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return not any(
        [
            *("forward" in vars(module) for module in model.modules()),
            *(getattr(module, kind) for module in model.modules() for kind in kinds),
            *(getattr(nn.modules.module, f"_global{kind}") for kind in kinds),
            *(p._backward_hooks or p._post_accumulate_grad_hooks for p in model.parameters()),
        ]
    )
