"""Hypothesis strategy that drops or replaces values in valid file content."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

WRONG = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**30),
    st.just(-1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["\x1b[2J", "../../x", "a/b", "\udc80"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of keys and indices to every value inside ``value``."""
    items: list[Any] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    inner = [found for key, item in items for found in paths_in(item, (*path, key))]
    return [*([path] if path else []), *inner]


@st.composite
def mutated(draw: st.DrawFn, sound: Any, most: int = 2) -> Any:
    """Draw a copy of ``sound`` with 1 to ``most`` values dropped or replaced by arbitrary ones."""
    value = copy.deepcopy(sound)
    for _ in range(draw(st.integers(1, most))):
        *way, last = draw(st.sampled_from(paths_in(value)))
        place = value
        for key in way:
            place = place[key]
        if draw(st.booleans()):
            del place[last]
        else:
            place[last] = draw(WRONG)
        if not paths_in(value):
            break
    return value
