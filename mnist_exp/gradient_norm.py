"""The norm of the first layer's gradient, batch by batch."""

from mnist_exp.train import Callback
from mnist_exp.training_state import Row, TrainState


class GradientNorm(Callback):
    """Record the Euclidean norm of the first weight's gradient for every batch."""

    def on_batch_end(self, state: TrainState, loss: float) -> None:
        """Append the norm to ``state.gradient_norms``."""
        first = next(p.grad for p in state.model.parameters() if p.grad is not None)
        state.gradient_norms.append(first.norm().item())

    def on_epoch_end(self, state: TrainState, row: Row) -> None:
        """Report the epoch's norms in order of the batches."""
        row["gradient_norms"] = state.gradient_norms
