"""How many CPU threads torch uses for a part of a training step."""

from __future__ import annotations

import torch

# Tensors with fewer elements are worked through sooner by one thread than others are woken up.
SMALL = 2**18


class Threads:
    """Let torch use ``count`` CPU threads in a block; not to be nested in itself.

    A Python thread that uses torch for the first time meanwhile keeps this number.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        torch.set_num_threads(self.count)

    def __exit__(self, *error: object) -> None:
        torch.set_num_threads(self._before)


def threads_for(elements: int) -> Threads:
    """Return one thread for work on so few elements, else all that torch uses now."""
    return Threads(1 if elements < SMALL else torch.get_num_threads())
