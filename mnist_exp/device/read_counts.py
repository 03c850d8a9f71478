"""Numbers of reads of the arrays that hold a network's weights, and of conversions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reads:
    """Reads and conversions.

    A read is a product of a layer's array with one vector: one for each sample in a linear layer,
    for each output position and group in a convolution (for each input position in a transposed
    one). Both conductances of a differential pair, and all tiles, are read at once. A read converts
    every input line from digital to analog and every output line back; of tiles that share output
    lines, those of each (`Reading.conversions`). The lines of biases are constant and need none.
    The backward pass reads a layer's array from its outputs to its inputs, if anything before the
    layer is trained.

    Attributes
    ----------
    reads, conversions : int
        Their numbers.
    """

    reads: int = 0
    conversions: int = 0

    def __add__(self, other: Reads) -> Reads:
        """Add both numbers."""
        return Reads(self.reads + other.reads, self.conversions + other.conversions)

    def __mul__(self, count: int) -> Reads:
        """Return the reads of ``count`` samples."""
        return Reads(self.reads * count, self.conversions * count)
