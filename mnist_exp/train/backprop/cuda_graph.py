"""Forward and backward pass on an NVIDIA GPU, recorded once and launched as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import torch
from torch import Tensor, nn

from mnist_exp.errors import UserError

WARM_UP = 3  # batches before the recording; libraries choose their kernels in them

recording = Lock()  # torch records all graphs on one stream


class InCudaGraph:
    """A way to the gradients that launches all its work on an NVIDIA GPU at once.

    A pass of a small network is a hundred kernels of microseconds each, and launching one takes
    longer than running it. The pass is recorded after `WARM_UP` batches of the first batch's shape.
    Those batches go through the way itself, as do batches of another shape, such as the last of an
    epoch, and all once a parameter or buffer has another place in memory, a parameter is frozen, or
    a module changes its mode. Gradients are in the same memory after each batch.

    Parameters
    ----------
    way : callable
        Of the kind of `mnist_exp.train.backprop.choose.Backpropagation`.
    model : nn.Module
        `mnist_exp.models.stages.has_fixed_operations` holds for it.
    """

    def __init__(
        self, way: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], model: nn.Module
    ) -> None:
        self.way = way
        self.model = model
        self.parameters = list(model.parameters())
        self.shape: torch.Size | None = None
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
        if self.shape is None:
            self.shape = inputs.shape
        if inputs.shape != self.shape or self._what_a_graph_keeps() != self.recorded:
            return self.way(inputs, labels)
        if self.warm_up > 0:
            self.warm_up -= 1
            return self.way(inputs, labels)
        if self.graph is None:
            self.graph = self._record(inputs, labels)
        self.inputs.copy_(inputs)
        self.labels.copy_(labels)
        self.graph.replay()
        for p, gradient in zip(self.parameters, self.gradients, strict=True):
            p.grad = gradient
        return self.loss.clone(), self.logits.clone()

    def _what_a_graph_keeps(self) -> list[object]:
        parameters = list(self.model.parameters())
        return [
            *(tensor.data_ptr() for tensor in (*parameters, *self.model.buffers())),
            *(p.requires_grad for p in parameters),
            *(module.training for module in self.model.modules()),
        ]

    def _record(self, inputs: Tensor, labels: Tensor) -> torch.cuda.CUDAGraph:
        self.inputs, self.labels = inputs.clone(), labels.clone()
        graph = torch.cuda.CUDAGraph()
        try:
            with recording, torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.loss, self.logits = self.way(self.inputs, self.labels)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            name, cause = type(self.model).__name__, error.__context__ or error
            raise UserError(
                f"model: {name} declares fixed_operations or stages(), but its work on a batch "
                f"cannot be recorded as a CUDA graph: {cause}. Remove the declaration; training is "
                "then slower on a GPU."
            ) from error
        self.gradients = [p.grad for p in self.parameters]
        return graph
