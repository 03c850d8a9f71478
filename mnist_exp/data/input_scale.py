"""Warning for network inputs whose scale suits neither the initial weights nor the recipes."""

from __future__ import annotations

from torch import Tensor

# Standard deviations over all inputs that need no warning: 1 is ideal, MNIST in [0, 1] has 0.31.
USUAL_DEVIATION = (0.05, 4.0)
USUAL_SIZE = 15.0  # of the largest input


def scale_warning(inputs: Tensor, remedy: str) -> str | None:
    """Return a warning with range and remedy if inputs are far from the order of 1, else None.

    Parameters
    ----------
    inputs : Tensor
        Network inputs of any shape.
    remedy : str
        Sentence appended to the warning.
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
