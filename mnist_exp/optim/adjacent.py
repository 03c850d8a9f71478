"""Tensors that lie side by side in memory, worked on as one."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def adjacent_runs(rows: Sequence[Sequence[Tensor]]) -> list[list[Sequence[Tensor]]]:
    """Sort rows of tensors into runs in which, column by column, each follows the one before it.

    Parameters
    ----------
    rows : sequence
        Each row has contiguous tensors of one size, such as a parameter and its gradient.
    """
    runs: list[list[Sequence[Tensor]]] = []
    for row in sorted(rows, key=lambda row: (_storage(row[0]), row[0].storage_offset())):
        if runs and all(map(_follows, row, runs[-1][-1])):
            runs[-1].append(row)
        else:
            runs.append([row])
    return runs


def as_one(tensors: Sequence[Tensor]) -> Tensor:
    """Return a flat view of tensors each of which follows the one before it; one alone as it is."""
    if len(tensors) == 1:
        return tensors[0]
    return tensors[0].as_strided((sum(t.numel() for t in tensors),), (1,))


def _follows(tensor: Tensor, before: Tensor) -> bool:
    return bool(
        tensor.is_contiguous()
        and before.is_contiguous()
        and _storage(tensor) == _storage(before)
        and tensor.storage_offset() == before.storage_offset() + before.numel()
    )


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
