"""What each module of a network was given and what it returned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Call:
    """What a module was given and what it returned."""

    inputs: tuple[Any, ...]
    keywords: dict[str, Any]
    output: Any
    count: int = 1

    def is_per_sample(self, batch: int) -> bool:
        """Tell whether row b of every input and of the output belongs to sample b."""
        tensors = (*self.inputs, self.output)
        return (
            self.count == 1
            and not self.keywords
            and all(isinstance(t, Tensor) and t.ndim > 0 and len(t) == batch for t in tensors)
        )


@contextmanager
def recorded_calls(modules: dict[str, nn.Module]) -> Iterator[dict[str, Call]]:
    """Record the calls of ``modules`` by name; outputs become differentiable."""
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
            return output.clone()  # an in-place activation may follow; it must not change `output`

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
