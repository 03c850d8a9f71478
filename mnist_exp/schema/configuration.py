"""Check of a whole configuration, before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mnist_exp.schema.device_parts import PLACE
from mnist_exp.schema.interpolation import resolved_values
from mnist_exp.schema.keys import (
    ABSENT,
    NOT_EVERYWHERE,
    RULES,
    parts_of,
    rules_for,
    select,
    target_of,
)
from mnist_exp.schema.parts import HYDRA_KEYS, OWN_KEYS, PARTS
from mnist_exp.schema.rule import TEXT, Rule, refusal, refuse, shown

# From a key that nothing reads and the configuration's values: what was meant.
Hint = Callable[[str, Mapping[str, Any]], str]
OURS = "mnist_exp."  # targets whose arguments PARTS declares completely


def check(config: DictConfig, hint: Hint | None = None, unread: bool = False) -> None:
    """Check every key of a composed configuration.

    Parameters
    ----------
    config : DictConfig
        The configuration, without Hydra's own part.
    hint : callable or None
        Makes the end of the message about a key that nothing reads.
    unread : bool
        Whether keys may be there that nothing reads, as in configurations of older versions.

    Raises
    ------
    UserError
        Listing every mistake: the key, the value got and what is allowed.
    OmegaConfBaseException
        If an interpolation cannot be resolved.
    """
    missing = map(str, OmegaConf.missing_keys(config))
    refuse(f"{key}: a value is required; give {key}=..." for key in sorted(missing))
    values = resolved_values(config)
    refuse(mistakes_in(values))
    if not unread:
        refuse(_nothing_reads(values, hint))


def mistakes_in(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield a message for each key that has a rule and is missing or breaks it."""
    rules = rules_for(values)
    for key, rule in rules.items():
        value = select(values, key)
        if value is ABSENT:
            group = key.removesuffix("._target_")
            if key in NOT_EVERYWHERE and group not in values:
                continue
            if group != key:  # ~optimizer took all of the group's keys away
                yield f"{key}: is missing; choose an option: {group}=NAME"
            else:
                yield f"{key}: is missing; allowed is {rule.allowed}"
        elif not rule.accepts(value):
            yield refusal(key, value, rule)
    yield from _wrong_effects(values.get("constraint"))
    yield from _words_for_truth(values, "", rules)


def unread_keys(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every key, and its value, that neither this package nor the part it is given to reads.

    The arguments of targets that `PARTS` does not declare, or not completely, are left to their
    signature, which is read where they are built.
    """
    parts = dict(parts_of(values))
    sections = {key.partition(".")[0] for key in RULES}
    for name, settings in values.items():
        if name in parts or name in RULES:
            continue
        if name not in sections:
            yield str(name), settings
        elif isinstance(settings, Mapping):
            found = ((f"{name}.{key}", value) for key, value in settings.items())
            yield from ((key, value) for key, value in found if key not in RULES)
    for part, settings in parts.items():
        target = target_of(settings)
        if not target or (target in PARTS and target.startswith(OURS)):
            known = {"_target_"} | OWN_KEYS.get(part, set()) | PARTS.get(target, {}).keys()
            unknown = [key for key in settings if key not in known | HYDRA_KEYS]
            yield from ((f"{part}.{key}", settings[key]) for key in unknown)


def _nothing_reads(values: Mapping[str, Any], hint: Hint | None) -> Iterator[str]:
    without_target: dict[str, list[str]] = {}
    for key, value in unread_keys(values):
        group, _, name = key.partition(".")
        if name and select(values, f"{group}._target_") is None:
            without_target.setdefault(group, []).append(name)
        else:
            meant = f"; {hint(key, values)}" if hint is not None else ""
            yield f"{key}={shown(value)}: nothing reads this key{meant}"
    for group, names in without_target.items():
        meant = f"; {hint(f'{group}.{names[0]}', values)}" if hint is not None else ""
        yield f"{group}._target_=null: without a target nothing reads {', '.join(names)}{meant}"


def _wrong_effects(constraint: Any) -> Iterator[str]:
    """Yield a message for each entry of ``constraint.effects`` that is not an effect's."""
    effects = constraint.get("effects") if isinstance(constraint, dict) else None
    if not isinstance(effects, list):
        return
    if effects and constraint.get("_target_") is None:
        yield (
            "constraint.effects: constraint=none has no devices on which effects could act; "
            "choose some, such as constraint=clip, or leave the effects out"
        )
    for index, effect in enumerate(effects):
        key = f"constraint.effects[{index}]"
        if not isinstance(effect, dict) or not TEXT.accepts(effect.get("_target_")):
            yield f"{key}: a _target_ is required, as in [{{_target_: my.TemperatureDrift}}]"
        elif "place" in effect and not PLACE.accepts(effect["place"]):
            yield refusal(f"{key}.place", effect["place"], PLACE)


def _words_for_truth(values: Any, prefix: str, rules: Mapping[str, Rule]) -> Iterator[str]:
    """Yield a message for each key without a rule that holds on, off, yes or no as text."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _words_for_truth(value, f"{prefix}{key}.", rules)
        elif f"{prefix}{key}" in rules:
            continue
        elif isinstance(value, str) and value.lower() in ("on", "off", "yes", "no"):
            yield f"{prefix}{key}={value}: is text here; write true or false"
