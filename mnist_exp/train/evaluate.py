"""Metrics of a trained model on images it was not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_exp.data.batches import Images
from mnist_exp.device.reading.layers import restarted
from mnist_exp.train.backprop.autograd import fast_products
from mnist_exp.train.functions import call_named
from mnist_exp.train.metrics import Metric, OfInputs, measure


@dataclass(frozen=True)
class Evaluation:
    """Result of evaluating a model on some images.

    Attributes
    ----------
    loss : float
        Mean cross-entropy in nats, without label smoothing.
    accuracy : float
        Share of correct predictions, in [0, 1].
    confusion_matrix : Tensor
        int64 [num_classes, num_classes], rows are true classes, columns predicted ones.
    predictions : Tensor
        int64 [N], in the order of the evaluated indices.
    metrics : dict
        Values of the metrics asked for, by name; None for one that is not finite.
    logits : Tensor or None
        float32 [N, num_classes] on the CPU, where asked for.
    """

    loss: float
    accuracy: float
    confusion_matrix: Tensor
    predictions: Tensor
    metrics: dict[str, float | None] = field(default_factory=dict)
    logits: Tensor | None = None

    @property
    def per_class_accuracy(self) -> list[float]:
        """Share of each class's images predicted correctly (its recall)."""
        matrix = self.confusion_matrix.double()
        return (matrix.diag() / matrix.sum(1)).tolist()


@torch.no_grad()
def evaluate(
    model: nn.Module,
    images: Images,
    indices: Tensor,
    *,
    batch_size: int,
    precision: str,
    metrics: Mapping[str, Metric] | None = None,
    keep_logits: bool = False,
) -> Evaluation:
    """Evaluate ``model`` in eval mode on ``images`` at ``indices``, then restore its mode.

    ``metrics`` are measured besides, on all logits at once, or on those they compute themselves.
    Where arrays of devices are read, every evaluation draws the same noise.
    """
    was_training = model.training
    model.eval()
    loss = torch.zeros((), dtype=torch.float64, device="cpu")
    predictions, kept = [], []
    with restarted(model):
        for inputs, labels in images.batches(indices, batch_size):
            with fast_products(images.device, precision):
                logits = model(inputs)
            loss += F.cross_entropy(logits.float(), labels, reduction="sum").cpu()
            predictions.append(logits.argmax(1))
            if metrics or keep_logits:
                kept.append(logits.float().cpu())
    own = {
        name: _own_logits(name, metric, model, images.batches(indices, batch_size), precision)
        for name, metric in (metrics or {}).items()
        if isinstance(metric, OfInputs)
    }
    model.train(was_training)
    predicted = torch.cat(predictions).cpu()
    true = images.labels[indices].cpu()
    all_logits = torch.cat(kept) if kept else None
    found = measure(metrics, all_logits, true, own) if metrics and all_logits is not None else {}
    return Evaluation(
        loss=loss.item() / len(indices),
        accuracy=(predicted == true).double().mean().item(),
        confusion_matrix=confusion_matrix(true, predicted, logits.shape[1]),
        predictions=predicted,
        metrics=found,
        logits=all_logits if keep_logits else None,
    )


def _own_logits(
    name: str,
    metric: OfInputs,
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    precision: str,
) -> Tensor:
    """Return the logits of all batches that a metric computes."""
    logits = []
    with restarted(model):
        for inputs, _ in batches:
            with fast_products(inputs.device, precision):
                logits.append(call_named(f"metrics.{name}", metric.logits, model, inputs))
    return torch.cat(logits)


def confusion_matrix(true: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """Count predictions: int64 [num_classes, num_classes], rows true, columns predicted."""
    cells = torch.bincount(true * num_classes + predicted, minlength=num_classes**2)
    return cells.view(num_classes, num_classes)
