"""Gradients by autograd: of a whole batch, or of parts of it in parallel on CPU threads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_exp.cpu.float32_matmul import fast_float32_products
from mnist_exp.cpu.threads import cpu_threads, side_by_side
from mnist_exp.train.losses import Loss, apply_loss

SMALLEST_PART = 32  # images; below it, the handover costs more than a second thread gains


@contextmanager
def fast_products(device: torch.device, precision: str) -> Iterator[None]:
    """Run forward passes in a block at "fp32" or "bf16" precision, with the fastest library."""
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
    with fast_float32_products(device), autocast:
        yield


class Autograd:
    """Plain torch autograd, for any network; arguments as in `backpropagation`."""

    def __init__(
        self, model: nn.Module, label_smoothing: float, precision: str, loss: Loss | None = None
    ) -> None:
        self.model = model
        self.label_smoothing = label_smoothing
        self.precision = precision
        self.loss = loss

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Set ``.grad`` of the parameters; return the mean loss [] and the logits [B, classes]."""
        self.model.zero_grad()  # skips the hooks of optimizer.zero_grad(), 20 us per batch
        loss, logits = self._forward(inputs, labels, "mean")
        with fast_float32_products(inputs.device):
            loss.backward()
        return loss.detach(), logits.detach()

    def _forward(self, inputs: Tensor, labels: Tensor, reduction: str) -> tuple[Tensor, Tensor]:
        with fast_products(inputs.device, self.precision):
            logits: Tensor = self.model(inputs)
            if self.loss is None:
                loss = F.cross_entropy(
                    logits, labels, reduction=reduction, label_smoothing=self.label_smoothing
                )
                return loss, logits
        return apply_loss(self.loss, logits.float(), labels), logits


class AutogradInParts(Autograd):
    """Autograd on parts of the batch in parallel, each with its share of torch's CPU threads.

    Threads that share one operation on small tensors wait longer than they work; threads with a
    part each synchronise once per batch. Only for networks whose classes declare ``stages()`` or
    ``independent_samples``: no image affects another's output (as in BatchNorm) and nothing is
    random (as in dropout). Gradients are summed in a fixed order, so the same number of threads
    gives the same bits. Arguments as in `backpropagation`.
    """

    def __init__(self, model: nn.Module, label_smoothing: float, precision: str) -> None:
        super().__init__(model, label_smoothing, precision)
        self.parameters = [p for p in model.parameters() if p.requires_grad]

    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Set ``.grad`` of the parameters; return the mean loss [] and the logits [B, classes]."""
        threads = torch.get_num_threads()
        count = min(threads, len(labels) // SMALLEST_PART)
        if count < 2:
            return super().__call__(inputs, labels)
        batches = list(zip(inputs.tensor_split(count), labels.tensor_split(count), strict=True))
        parts = side_by_side(lambda part: self._part(*part, len(labels), threads // count), batches)
        losses, logits, gradients = zip(*parts, strict=True)
        with cpu_threads(1):
            for p, *of_parts in zip(self.parameters, *gradients, strict=True):
                p.grad = _sum(of_parts)
            return torch.stack(losses).sum(), torch.cat(logits)

    def _part(
        self, inputs: Tensor, labels: Tensor, batch_size: int, threads: int
    ) -> tuple[Tensor, Tensor, tuple[Tensor | None, ...]]:
        with cpu_threads(threads):
            loss, logits = self._forward(inputs, labels, "sum")
            loss = loss / batch_size
            with fast_float32_products(inputs.device):
                gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        return loss.detach(), logits.detach(), gradients


def _sum(gradients: Iterable[Tensor | None]) -> Tensor | None:
    there = [gradient for gradient in gradients if gradient is not None]
    for other in there[1:]:
        there[0] += other
    return there[0] if there else None
