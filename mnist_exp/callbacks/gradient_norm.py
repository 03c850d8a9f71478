"""The norm of the first layer's gradient, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from mnist_exp.cpu.ops import norm
from mnist_exp.errors import UserError
from mnist_exp.train.callback import Callback
from mnist_exp.train.state import Row, TrainState
from mnist_exp.train.training import Training


class GradientNorm(Callback):
    """Record the Euclidean norm of the first weight's gradient for every batch.

    If devices hold the weights, it is the gradient of the first layer's conductances.
    """

    first: Tensor | None = None

    def check(self, state: TrainState, training: Training, folds: int) -> Iterable[str]:
        """Raise UserError if the model has no weight whose gradient could be recorded."""
        first_weight(state.model)
        return ()

    def on_batch_end(self, state: TrainState, loss: Tensor) -> None:
        """Append the norm to ``state.gradient_norms``."""
        if self.first is None:
            self.first = first_weight(state.model, with_gradient=True)
        gradient = self.first.grad
        assert gradient is not None, "it had one before"
        state.gradient_norms.append(norm(gradient))

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """Report the epoch's norms in order of the batches."""
        row["gradient_norms"] = state.gradient_norms

    def figures(self, folds: Sequence[Any]) -> dict[str, Any]:
        """Draw the norm for every batch."""
        from mnist_exp.plots.run import gradient_norms_figure  # loads matplotlib

        return {"gradient_norms": gradient_norms_figure([fold.history for fold in folds])}


def first_weight(model: nn.Module, with_gradient: bool = False) -> Tensor:
    """Return the first trained weight; ``with_gradient``: the first that has a gradient.

    Raises
    ------
    UserError
        If the model has no such weight.
    """
    for p in model.parameters():
        # a parametrized layer lists its bias first; weights have two or more dimensions
        if p.ndim > 1 and p.requires_grad and not (with_gradient and p.grad is None):
            return p
    raise UserError(
        f"training.gradient_norm=true: {type(model).__name__} has no weight of two or more "
        "dimensions whose gradient could be recorded; set it, and verbose, to false."
    )
