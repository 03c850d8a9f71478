"""What a network may say of itself, so that faster ways than autograd can train it.

A class of networks says it with a method ``stages()``: which layers a sample goes through, and that
its forward pass does nothing else. One that has other layers, but in which no sample changes what
another gives and nothing is drawn at random, can at least say ``independent_samples = True``. A
class speaks for itself alone, not for those derived from it.
"""

from __future__ import annotations

from itertools import chain

from torch import nn

from mnist_exp.models.parametrizations import parametrizations

# 3x3 convolutions, each with whether 2x2 max pooling follows, and then linear layers, of flattened
# inputs. A ReLU comes after each of them, and after its pooling, but the last. Without convolutions
# any inputs are flattened.
Stages = tuple[list[tuple[nn.Conv2d, bool]], list[nn.Linear]]


def says_stages(kind: type[nn.Module]) -> bool:
    """Return whether a class of networks says its ``stages()``."""
    return "stages" in vars(kind)


def stages(model: nn.Module) -> Stages | None:
    """Return the layers of a network that says its ``stages()``; None if it does not, or is hooked.

    ``stages()`` itself may return None, where the settings of a network make it another one.
    """
    if not says_stages(type(model)) or not _runs_as_its_class_says(model):
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
    """Return whether a network says so of its samples, by ``stages()`` or in a word."""
    in_a_word = vars(type(model)).get("independent_samples") is True
    return stages(model) is not None or (in_a_word and _runs_as_its_class_says(model))


def _is_kind(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether a layer is of this class itself, its weights parametrized or not."""
    return (type(layer).__bases__[0] if parametrizations(layer) else type(layer)) is kind


def _runs_as_its_class_says(model: nn.Module) -> bool:
    """Return whether a model has neither a forward pass of its own nor hooks."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return "forward" not in vars(model) and not any(
        [
            *(getattr(module, kind) for module in model.modules() for kind in kinds),
            *(getattr(nn.modules.module, f"_global{kind}") for kind in kinds),
            *(p._backward_hooks or p._post_accumulate_grad_hooks for p in model.parameters()),
        ]
    )
