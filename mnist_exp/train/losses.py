"""Losses: functions of a batch's logits [B, C] and labels [B] to a scalar tensor [].

`cross_entropy` without weights is the default, which the ways of `train.backprop` compute
themselves; any other loss goes through autograd.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from mnist_exp.errors import UserError
from mnist_exp.train.functions import call_named, name_of

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the cross-entropy in nats, a mean over the batch, weighted by class if asked.

    Parameters
    ----------
    logits : Tensor
        float32 [B, C].
    labels : Tensor
        int64 [B].
    weight : Tensor or None
        Weight of each class, [C]. As in `torch.nn.CrossEntropyLoss`, the mean is over weights.
    label_smoothing : float
        Share of the target spread over all classes.
    """
    _check_classes("weight", weight, logits)
    return F.cross_entropy(logits, labels, weight, label_smoothing=label_smoothing)


def focal(
    logits: Tensor, labels: Tensor, *, gamma: float = 2.0, alpha: Tensor | None = None
) -> Tensor:
    """Return the focal loss, ``-alpha (1 - p)^gamma log p`` of the label's probability p.

    Images that the network is sure about count less. Lin et al., "Focal Loss for Dense Object
    Detection", ICCV 2017, with the softmax in place of the sigmoid, as the mean over the batch.

    Parameters
    ----------
    logits : Tensor
        float32 [B, C].
    labels : Tensor
        int64 [B].
    gamma : float
        How much less; 0: cross-entropy.
    alpha : Tensor or None
        Weight of each class, [C]; None: all weigh 1.
    """
    _check_classes("alpha", alpha, logits)
    log_p = logits.log_softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
    # above 0, where the gradient of a power below 1 is infinite
    doubt = -torch.expm1(log_p).clamp(max=-torch.finfo(log_p.dtype).tiny)
    losses = -(doubt**gamma) * log_p
    return (losses if alpha is None else losses * alpha[labels]).mean()


def mse(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean squared difference of the logits and the one-hot labels.

    Of the logits themselves, without a softmax: Hui & Belkin, "Evaluation of Neural Architectures
    Trained with Square Loss vs Cross-Entropy in Classification Tasks", ICLR 2021.
    """
    return F.mse_loss(logits, F.one_hot(labels, logits.shape[1]).to(logits.dtype))


def apply_loss(loss: Loss, logits: Tensor, labels: Tensor) -> Tensor:
    """Return ``loss`` of a batch, checked to be a scalar that leads back to the logits.

    Raises
    ------
    UserError
        If it is not.
    FunctionFailed
        If the loss raises anything but a `UserError`.
    """
    value = call_named("loss", loss, logits, labels)
    if not isinstance(value, Tensor) or value.shape != () or not value.requires_grad:
        kind = type(value).__name__
        if isinstance(value, Tensor):
            kind = f"{kind} {list(value.shape)} {'with' if value.requires_grad else 'without'} grad"
        raise UserError(
            f"loss ({name_of(loss)}): returns a {kind}; allowed is a scalar tensor [] computed "
            "from the logits by torch, such as the mean over the batch."
        )
    return value


def _check_classes(name: str, weights: Tensor | None, logits: Tensor) -> None:
    if weights is not None and weights.shape != logits.shape[1:]:
        raise UserError(
            f"loss.{name}={weights.tolist()}: allowed is a number for each of the "
            f"{logits.shape[1]} classes."
        )
