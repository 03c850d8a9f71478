"""Rules of every key of a composed configuration.

In groups with a ``_target_`` (model, optimizer, ...) the keys are the arguments of that target.
`mnist_exp.schema.parts` declares them for the targets in ``conf/``; for a user's own target,
``mnist_exp.experiment.instantiate`` reads its signature.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mnist_exp.files.names import is_plain_name
from mnist_exp.schema.device_parts import SPREADS
from mnist_exp.schema.parts import PARTS
from mnist_exp.schema.programmed_parts import NESTED
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
)

LARGEST_SEED = 2**32 - 1  # numpy's limit, which applies to scikit-learn's splitters
LABELS = list_of(WHOLE, "a list of labels such as [3,5]")
_NAMES = list_of(TEXT, "")
CLASS_NAMES = Rule(
    lambda value: _NAMES.accepts(value) and len(set(value)) == len(value),
    "a list of different texts, one per class, such as [cat,dog]",
)

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

OBJECTIVE = Rule(
    lambda value: isinstance(value, str) and re.fullmatch(r"validation[._]\S+", value) is not None,
    "a value of the validation images: validation_accuracy, validation_loss or, with metrics=top2, "
    "validation_top2; what is measured on other images must not choose a setting",
)


def _is_group(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(key, str) for key in value)


def _are_groups(value: Any) -> bool:
    groups = [value] if _is_group(value) else value
    if not isinstance(groups, list) or not groups or not all(map(_is_group, groups)):
        return False
    keys = [key for group in groups for key in group]
    return len({*keys}) == len(keys)


ZIPPED = Rule(
    _are_groups,
    "a list of two or more swept settings, [a,b], or several such lists, [[a,b],[c,d]], with each "
    "setting once",
)

RULES: dict[str, Rule] = {
    "extra": Rule(
        lambda value: isinstance(value, Mapping), "a group of values of your own, as in {a: 1}"
    ),
    "seed": integer(0),
    "deterministic": BOOLEAN,
    "threads": optional(integer(1, 4096)),
    "verbose": BOOLEAN,
    "resume": optional(TEXT),
    "reproduce": optional(TEXT),
    "sweep.resume": optional(TEXT),
    "sweep.zip": optional(ZIPPED),
    "sweep.filter": optional(TEXT),
    "sweep.dry_run": BOOLEAN,
    "sweep.objective": OBJECTIVE,
    "sweep.direction": optional(one_of("maximize", "minimize")),
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
    "plots.enabled": optional(BOOLEAN),
    "plots.dpi": integer(10, 2400),
    "plots.format": one_of("png", "svg", "pdf"),
    "plots.num_samples": integer(1),
    "report.enabled": optional(BOOLEAN),
    "report.predictions": optional(BOOLEAN),
    "checkpoints.keep": optional(integer(1)),
    "data._target_": TEXT,
    "data.classes": optional(LABELS),
    "data.class_names": optional(CLASS_NAMES),
    "data.transpose": BOOLEAN,
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
    "evaluation._target_": TEXT,
    "runtime.device": one_of("auto", "cpu", "cuda", "mps"),
}
# Keys missing from some options of their group or from runs of older versions.
NOT_EVERYWHERE = {
    *("cv.n_jobs", "cv.random_state", "sweep.objective", "sweep.direction"),
    *("sweep.zip", "sweep.filter", "sweep.dry_run"),
    *("data.class_names", "data.transpose"),
    "evaluation._target_",
    *("optimizer.lr", "trust", "model.weights", "model.strict", "extra"),
}


# Settings of a group that are parts themselves.
WITHIN = {"constraint": ("curve", "update", "read", "cost"), "evaluation": NESTED}


def rules_for(values: Mapping[str, Any]) -> dict[str, Rule]:
    """Return the rules of all declared keys, including the arguments of each ``_target_``."""
    rules = RULES.copy()
    for key, settings in parts_of(values):
        rules[f"{key}._target_"] = RULES.get(f"{key}._target_", TEXT)
        of_part = PARTS.get(target_of(settings), {})
        rules |= {f"{key}.{name}": of_part[name] for name in settings if name in of_part}
        for group in (name for name in SPREADS if isinstance(settings.get(name), Mapping)):
            rules |= {f"{key}.{group}.{name}": AT_LEAST_0 for name in settings[group]}
    return rules


def parts_of(values: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the key and the settings of every part: of groups with a ``_target_``, of entries.

    Parts of `WITHIN` lie within others.
    """
    for group, settings in values.items():
        if RULES.get(group) is ENTRIES:
            if ENTRIES.accepts(settings):
                yield from ((f"{group}.{name}", entry) for name, entry in settings.items())
        elif f"{group}._target_" in RULES and isinstance(settings, Mapping):
            yield group, settings
            yield from (
                (f"{group}.{name}", settings[name])
                for name in WITHIN.get(group, ())
                if isinstance(settings.get(name), Mapping)
            )


def target_of(settings: Mapping[str, Any]) -> str:
    """Return the ``_target_`` of a part; empty text if it is null or no text."""
    target = settings.get("_target_")
    return target if isinstance(target, str) else ""


ABSENT = object()


def select(values: Any, dotted: str) -> Any:
    """Return the value at a dotted key of nested dicts, or `ABSENT`."""
    for part in dotted.split("."):
        if not isinstance(values, dict) or part not in values:
            return ABSENT
        values = values[part]
    return values
