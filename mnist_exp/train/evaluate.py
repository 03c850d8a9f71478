"""Metrics of a trained model on images it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_exp.data.batches import Images
from mnist_exp.train.backprop.autograd import fast_products


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
    """

    loss: float
    accuracy: float
    confusion_matrix: Tensor
    predictions: Tensor

    @property
    def per_class_accuracy(self) -> list[float]:
        """Share of each class's images predicted correctly (its recall)."""
        matrix = self.confusion_matrix.double()
        return (matrix.diag() / matrix.sum(1)).tolist()


@torch.no_grad()
def evaluate(
    model: nn.Module, images: Images, indices: Tensor, *, batch_size: int, precision: str
) -> Evaluation:
    """Evaluate ``model`` in eval mode on ``images`` at ``indices``, then restore its mode."""
    was_training = model.training
    model.eval()
    loss = torch.zeros((), dtype=torch.float64, device="cpu")
    predictions = []
    for inputs, labels in images.batches(indices, batch_size):
        with fast_products(images.device, precision):
            logits = model(inputs)
        loss += F.cross_entropy(logits.float(), labels, reduction="sum").cpu()
        predictions.append(logits.argmax(1))
    model.train(was_training)
    predicted = torch.cat(predictions).cpu()
    true = images.labels[indices].cpu()
    return Evaluation(
        loss=loss.item() / len(indices),
        accuracy=(predicted == true).double().mean().item(),
        confusion_matrix=confusion_matrix(true, predicted, logits.shape[1]),
        predictions=predicted,
    )


def confusion_matrix(true: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """Count predictions: int64 [num_classes, num_classes], rows true, columns predicted."""
    cells = torch.bincount(true * num_classes + predicted, minlength=num_classes**2)
    return cells.view(num_classes, num_classes)
