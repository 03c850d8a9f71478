"""The norm of the first layer's gradient, batch by batch."""

from torch import Tensor

from mnist_exp.cpu.ops import norm
from mnist_exp.train import Callback
from mnist_exp.training_state import Row, TrainState


class GradientNorm(Callback):
    """Record the Euclidean norm of the first weight's gradient for every batch.

    Where devices hold the weights, it is the gradient of the first layer's conductances.
    """

    first: Tensor | None = None

    def on_batch_end(self, state: TrainState, loss: float) -> None:
        """Append the norm to ``state.gradient_norms``."""
        if self.first is None:
            # a parametrized layer lists its bias first; weights have two dimensions and more
            parameters = state.model.parameters()
            self.first = next(p for p in parameters if p.ndim > 1 and p.grad is not None)
        gradient = self.first.grad
        assert gradient is not None, "it had one before"
        state.gradient_norms.append(norm(gradient))

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """Report the epoch's norms in order of the batches."""
        row["gradient_norms"] = state.gradient_norms
