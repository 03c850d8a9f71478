"""Network inputs of a scale for which the initial weights and the recipes are not made."""

from __future__ import annotations

from torch import Tensor

# Standard deviations, over all inputs, that give no cause for a warning: 1 is ideal, pixels of
# MNIST in [0, 1] have 0.31.
USUAL_DEVIATION = (0.05, 4.0)
USUAL_SIZE = 15.0  # of the largest input


def scale_warning(inputs: Tensor, remedy: str) -> str | None:
    """Return a sentence with the range seen, and the remedy, if inputs are far from the order of 1.

    Parameters
    ----------
    inputs : Tensor
        Any shape, as the network gets them.
    remedy : str
        A sentence.
    """
    low, high, deviation = inputs.min().item(), inputs.max().item(), inputs.std().item()
    smallest, largest = USUAL_DEVIATION
    too_large = deviation > largest and max(-low, high) > USUAL_SIZE
    if not (too_large or 0 < deviation < smallest):
        return None
    return (
        f"network inputs run from {low:.3g} to {high:.3g}, with a standard deviation of "
        f"{deviation:.2g}, but should be of the order of 1, or the network may stay at chance. "
        f"{remedy}"
    )
