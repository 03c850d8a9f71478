"""Check of every key of a composed configuration, before anything is loaded.

In groups with a ``_target_`` (model, optimizer, ...) the keys are the arguments of that target.
`mnist_exp.schema.parts` declares them for the targets in ``conf/``; for a user's own target,
``mnist_exp.experiment.instantiate`` reads its signature.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mnist_exp.files.names import is_plain_name
from mnist_exp.schema.parts import PARTS, PLACE
from mnist_exp.schema.rule import (
    ABOVE_0,
    AT_LEAST_0,
    BOOLEAN,
    NAME,
    TEXT,
    WHOLE,
    Rule,
    integer,
    list_of,
    number,
    one_of,
    optional,
    refusal,
    refuse,
)

LARGEST_SEED = 2**32 - 1  # numpy's limit, which applies to scikit-learn's splitters
LABELS = list_of(WHOLE, "a list of labels such as [3,5]")

# Lengths of torch's schedulers, null in the YAML because they depend on the data.
LENGTH_ARGUMENTS = ("total_steps", "T_max", "total_iters")

# Groups of parts with names of their own: callbacks.mine._target_=...
ENTRIES = Rule(
    lambda value: (
        isinstance(value, Mapping)
        and all(
            is_plain_name(name)
            and "." not in name
            and isinstance(entry, Mapping)
            and "_target_" in entry
            for name, entry in value.items()
        )
    ),
    "a group of names with a _target_ each, such as {mine: {_target_: my_module.MyClass}}",
)

RULES: dict[str, Rule] = {
    "seed": integer(0),
    "deterministic": BOOLEAN,
    "threads": optional(integer(1, 4096)),
    "verbose": BOOLEAN,
    "resume": optional(TEXT),
    "reproduce": optional(TEXT),
    "sweep.resume": optional(TEXT),
    "trust": BOOLEAN,
    "training.epochs": integer(1),
    "training.batch_size": integer(1),
    "training.eval_batch_size": integer(1),
    "training.label_smoothing": number(lambda value: 0 <= value < 1, "0 <= s < 1"),
    "training.precision": one_of("fp32", "bf16", "auto"),
    "training.memory_format": one_of("contiguous", "channels_last"),
    "training.averaging": optional(number(lambda value: 0 < value < 1, "above 0 and below 1")),
    "training.averaging_warmup": BOOLEAN,
    "training.decay_norm_and_bias": BOOLEAN,
    "training.selection": one_of("auto", "validation", "last"),
    "training.test_every_epoch": BOOLEAN,
    "training.on_nan": one_of("stop", "skip"),
    "training.gradient_norm": BOOLEAN,
    "training.log_every": optional(integer(1)),
    "callbacks": ENTRIES,
    "metrics": ENTRIES,
    "loss._target_": TEXT,
    "tracker": ENTRIES,
    "plots.enabled": BOOLEAN,
    "plots.dpi": integer(10, 2400),
    "plots.num_samples": integer(1),
    "checkpoints.keep": integer(1),
    "data._target_": TEXT,
    "data.classes": optional(LABELS),
    "data.subset": optional(integer(1)),
    "data.normalization": one_of("mean_std", "unit"),
    "data.mean": optional(number(lambda value: True, "of pixels in [0,1]")),
    "data.std": optional(ABOVE_0),
    "augmentation._target_": optional(TEXT),
    "model._target_": TEXT,
    "model.name": NAME,
    "model.weights": optional(TEXT),
    "model.strict": BOOLEAN,
    "optimizer._target_": TEXT,
    "optimizer.lr": AT_LEAST_0,
    "scheduler._target_": optional(TEXT),
    "scheduler.interval": one_of("step", "epoch"),
    "cv._target_": TEXT,
    "cv.random_state": optional(integer(0, LARGEST_SEED)),
    "cv.n_jobs": optional(integer(1)),
    "constraint._target_": optional(TEXT),
    "gradients._target_": optional(TEXT),
    "runtime.device": one_of("auto", "cpu", "cuda", "mps"),
}
# Keys missing from some options of their group or from runs of older versions.
NOT_EVERYWHERE = {
    *("cv.n_jobs", "cv.random_state"),
    *("optimizer.lr", "trust", "model.weights", "model.strict"),
}


def check(config: DictConfig) -> None:
    """Check every declared key of a composed configuration.

    Raises
    ------
    UserError
        Listing every mistake: the key, the value got and what is allowed.
    """
    refuse(f"{key}: a value is required" for key in sorted(OmegaConf.missing_keys(config)))
    values: Any = OmegaConf.to_container(config, resolve=True)
    rules = rules_for(values)
    found = [*_mistakes(values, rules), *_wrong_effects(values.get("constraint"))]
    refuse([*found, *_words_for_truth(values, "", rules)])


def rules_for(values: Mapping[str, Any]) -> dict[str, Rule]:
    """Return the rules of all declared keys, including the arguments of each ``_target_``."""
    rules = RULES.copy()
    for group, settings in values.items():
        if RULES.get(group) is ENTRIES and ENTRIES.accepts(settings):
            for name, entry in settings.items():
                rules[f"{group}.{name}._target_"] = TEXT
                rules |= _rules_of_part(f"{group}.{name}", entry)
        elif isinstance(settings, dict):
            rules |= _rules_of_part(group, settings)
    return rules


def _rules_of_part(key: str, settings: Mapping[str, Any]) -> dict[str, Rule]:
    target = settings.get("_target_")
    of_part = PARTS.get(target, {}) if isinstance(target, str) else {}
    return {f"{key}.{name}": of_part[name] for name in settings if name in of_part}


def _mistakes(values: Mapping[str, Any], rules: Mapping[str, Rule]) -> Iterator[str]:
    for key, rule in rules.items():
        value = _select(values, key)
        if value is _ABSENT:
            if key not in NOT_EVERYWHERE:
                yield f"{key}: is missing; allowed is {rule.allowed}"
        elif not rule.accepts(value):
            yield refusal(key, value, rule)


def _wrong_effects(constraint: Any) -> Iterator[str]:
    """Yield a message for each entry of ``constraint.effects`` that is no effect's."""
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


_ABSENT = object()


def _words_for_truth(values: Any, prefix: str, rules: Mapping[str, Rule]) -> Iterator[str]:
    """Yield a message for each key without a rule that holds on, off, yes or no as text."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _words_for_truth(value, f"{prefix}{key}.", rules)
        elif f"{prefix}{key}" in rules:
            continue
        elif isinstance(value, str) and value.lower() in ("on", "off", "yes", "no"):
            yield f"{prefix}{key}={value}: is text here; write true or false"


def _select(values: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        if not isinstance(values, dict) or part not in values:
            return _ABSENT
        values = values[part]
    return values
