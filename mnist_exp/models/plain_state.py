"""What a checkpoint can hold: plain values and tensors, which load without executing code."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Any

from torch import Tensor

PLAIN = (type(None), bool, int, float, str, bytes)


def not_plain(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield the place, within ``place``, and value of everything a checkpoint cannot hold."""
    if type(value) in (list, tuple):
        for index, item in enumerate(value):
            yield from not_plain(item, f"{place}[{index}]")
    elif type(value) in (dict, OrderedDict, Counter):
        for key, item in value.items():
            yield from not_plain(key, f"a key of {place}")
            yield from not_plain(item, f"{place}[{key!r}]")
    elif not isinstance(value, Tensor) and type(value) not in PLAIN:
        yield place, value
