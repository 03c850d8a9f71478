"""Forward and backward pass on an NVIDIA GPU, recorded once and launched as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mnist_exp.errors import UserError

WARM_UP = 3  # batches before the recording; libraries choose their kernels in them


class InCudaGraph:
    """A way to the gradients that launches all its work on an NVIDIA GPU at once.

    A pass of a small network is a hundred kernels of microseconds each, and launching one takes
    longer than running it. The pass is recorded after `WARM_UP` batches; batches of another shape,
    such as the last of an epoch, and the first ones go through the way itself, as do all once a
    parameter or buffer has another place in memory, is frozen, or a module changes its mode.

    Parameters
    ----------
    way : callable
        Of the kind of `mnist_exp.train.backprop.choose.Backpropagation`.
    model : nn.Module
        Declares ``fixed_operations`` or ``stages()``.
    """

    def __init__(
        self, way: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], model: nn.Module
    ) -> None:
        self.way = way
        self.model = model
        self.parameters = list(model.parameters())
        self.warm_up = WARM_UP
        self.graph: torch.cuda.CUDAGraph | None = None
        self.recorded = self._what_a_graph_keeps()

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Set ``.grad`` of the parameters; return the mean loss [] and the logits [B, classes].

        Raises
        ------
        UserError
            If the network does what cannot be recorded, although it declares that it does not.
        """
        self.warm_up -= 1
        if self.warm_up >= 0 or self._what_a_graph_keeps() != self.recorded:
            return self.way(inputs, labels)
        if self.graph is None:
            self.graph = self._record(inputs, labels)
        if inputs.shape != self.inputs.shape:
            return self.way(inputs, labels)
        self.inputs.copy_(inputs)
        self.labels.copy_(labels)
        self.graph.replay()
        for p, gradient in zip(self.parameters, self.gradients, strict=True):
            p.grad = gradient
        return self.loss.clone(), self.logits.clone()

    def _what_a_graph_keeps(self) -> list[object]:
        tensors = [*self.parameters, *self.model.buffers()]
        return [
            *(tensor.data_ptr() for tensor in tensors),
            *(p.requires_grad for p in self.parameters),
            *(module.training for module in self.model.modules()),
        ]

    def _record(self, inputs: Tensor, labels: Tensor) -> torch.cuda.CUDAGraph:
        self.inputs, self.labels = inputs.clone(), labels.clone()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.loss, self.logits = self.way(self.inputs, self.labels)
        except RuntimeError as error:
            name = type(self.model).__name__
            raise UserError(
                f"model: {name} declares fixed_operations, but its work on a batch cannot be "
                f"recorded as a CUDA graph: {error}. Remove the declaration; training is then "
                "slower on a GPU."
            ) from error
        self.gradients = [p.grad for p in self.parameters]
        return graph
