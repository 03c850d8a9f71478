"""Interpolations of a configuration, resolved; numbers in them are numbers."""

from __future__ import annotations

import io
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mnist_exp.schema.keys import ABSENT, rules_for, select


def resolved_values(config: DictConfig) -> dict[str, Any]:
    """Return a configuration as plain values, interpolations resolved.

    An environment variable is text, so ``seed=${oc.env:SEED}`` would be the text "5": what an
    interpolation gave is read as YAML where the rule of its key does not take it as text.

    Raises
    ------
    OmegaConfBaseException
        If an interpolation cannot be resolved.
    """
    typed: Any = OmegaConf.to_container(config, resolve=False)
    if not _has_interpolation(typed):
        resolved: dict[str, Any] = typed
        return resolved
    values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    for key, rule in rules_for(values).items():
        value = select(values, key)
        if value is ABSENT or rule.accepts(value):
            continue
        read = _read_as_yaml(select(typed, key), value)
        if rule.accepts(read):
            group, _, name = key.rpartition(".")
            (select(values, group) if group else values)[name] = read
    return values


def unresolved(error: OmegaConfBaseException) -> str:
    """Return, in one line, which key cannot be resolved and why."""
    reason = str(error.msg or error).partition("\n")[0]
    reason = reason.rpartition("raised while resolving interpolation: ")[2].strip("\"'")
    return f"{error.full_key or 'the configuration'} cannot be resolved: {reason}"


def _has_interpolation(typed: Any) -> bool:
    if isinstance(typed, dict):
        return any(map(_has_interpolation, (*typed, *typed.values())))
    if isinstance(typed, list):
        return any(map(_has_interpolation, typed))
    return isinstance(typed, str) and "${" in typed


def _read_as_yaml(typed: Any, value: Any) -> Any:
    """Read text that differs from what was typed, also inside of lists."""
    if isinstance(value, list):
        items = typed if isinstance(typed, list) else [None] * len(value)
        return [_read_as_yaml(*pair) for pair in zip(items, value, strict=True)]
    if not isinstance(value, str) or typed == value:
        return value
    try:
        # in a list, since OmegaConf reads no bare values
        read: Any = OmegaConf.to_container(OmegaConf.load(io.StringIO(f"- {value}")))
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError):
        return value
    return read[0] if len(read) == 1 else value
