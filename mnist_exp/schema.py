"""Types and ranges of every fixed configuration key, checked before anything is loaded.

Keys of groups whose option names a ``_target_`` (model, optimizer, ...) are the arguments of that
target; ``mnist_exp.experiment.instantiate`` checks them against its signature.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mnist_exp.errors import UserError
from mnist_exp.files.names import PLAIN_NAME, is_plain_name


@dataclass(frozen=True)
class Rule:
    """What a key may hold: a test, and the words that say it."""

    accepts: Callable[[Any], bool]
    allowed: str


def integer(least: int) -> Rule:
    """Whole numbers from ``least``."""
    return Rule(
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least,
        f"a whole number of at least {least}",
    )


def number(test: Callable[[float], bool], allowed: str) -> Rule:
    """Finite numbers that pass ``test``."""
    return Rule(
        lambda value: (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and abs(value) <= sys.float_info.max  # also of whole numbers beyond floats
            and test(value)
        ),
        f"a number, {allowed}",
    )


def one_of(*options: str) -> Rule:
    """One of some words."""
    return Rule(lambda value: value in options, " or ".join(options))


def optional(rule: Rule) -> Rule:
    """Null or what ``rule`` accepts."""
    return Rule(lambda value: value is None or rule.accepts(value), f"null or {rule.allowed}")


BOOLEAN = Rule(lambda value: isinstance(value, bool), "true or false")
TEXT = Rule(lambda value: isinstance(value, str) and value != "", "a text that is not empty")
NAME = Rule(is_plain_name, PLAIN_NAME)
# What else a run keeps in its directory.
TAKEN = ("checkpoints", "plots", "tensorboard", "config.yaml", "results.json", "metrics.jsonl")
DIRECTORY = Rule(
    lambda value: is_plain_name(value) and value.casefold() not in TAKEN,
    f"{PLAIN_NAME}; none of {', '.join(TAKEN)}",
)
ABSOLUTE = Rule(
    lambda value: isinstance(value, str) and os.path.isabs(os.path.expanduser(value)),
    "an absolute path",
)
LABELS = Rule(
    lambda value: (
        isinstance(value, list)
        and all(isinstance(label, int) and not isinstance(label, bool) for label in value)
    ),
    "a list of labels such as [3,5]",
)

# Arguments of torch's schedulers that are known only once the data is: null in the YAML.
LENGTH_ARGUMENTS = ("total_steps", "T_max", "total_iters")

RULES: dict[str, Rule] = {
    "seed": integer(0),
    "deterministic": BOOLEAN,
    "threads": optional(integer(1)),
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
    "training.averaging": optional(number(lambda value: 0 < value < 1, "0 < decay < 1")),
    "training.averaging_warmup": BOOLEAN,
    "training.decay_norm_and_bias": BOOLEAN,
    "training.selection": one_of("auto", "validation", "last"),
    "training.test_every_epoch": BOOLEAN,
    "training.on_nan": one_of("stop", "skip"),
    "training.gradient_norm": BOOLEAN,
    "plots.enabled": BOOLEAN,
    "plots.dpi": integer(10),
    "plots.num_samples": integer(1),
    "checkpoints.keep": integer(1),
    "data.classes": optional(LABELS),
    "data.subset": optional(integer(1)),
    "data.normalization": one_of("mean_std", "unit"),
    "data.mean": optional(number(lambda value: True, "of pixels in [0,1]")),
    "data.std": optional(number(lambda value: value > 0, "above 0")),
    "optimizer.lr": number(lambda value: value >= 0, "at least 0"),
    "runtime.device": one_of("auto", "cpu", "cuda", "mps"),
    "scheduler.interval": one_of("step", "epoch"),
    "model.name": NAME,
    "cv.n_jobs": optional(integer(1)),
    "gradients.directory": DIRECTORY,
    "gradients.root": optional(ABSOLUTE),
}
# Keys that only some options of their group have, and one that saved configurations lack.
NOT_EVERYWHERE = {"cv.n_jobs", "optimizer.lr", "trust", "gradients.directory", "gradients.root"}


def check(config: DictConfig) -> None:
    """Check every fixed key of a composed configuration.

    Raises
    ------
    UserError
        Listing every mistake: the key, the value got and what is allowed.
    """
    mistakes = [f"{key}: a value is required" for key in sorted(OmegaConf.missing_keys(config))]
    if not mistakes:
        values = OmegaConf.to_container(config, resolve=True)
        for key, rule in RULES.items():
            value = _select(values, key)
            if value is _ABSENT:
                if key not in NOT_EVERYWHERE:
                    mistakes.append(f"{key}: is missing; allowed is {rule.allowed}")
            elif not rule.accepts(value):
                mistakes.append(f"{key}={_shown(value)}: allowed is {rule.allowed}")
        mistakes += _words_for_truth(values, "")
    if mistakes:
        raise UserError("\n".join(mistakes))


_ABSENT = object()


def _words_for_truth(values: Any, prefix: str) -> Iterator[str]:
    """Name keys that hold text which Python takes for true, whatever it says."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _words_for_truth(value, f"{prefix}{key}.")
        elif isinstance(value, str) and value.lower() in ("on", "off", "yes", "no"):
            yield f"{prefix}{key}={value}: is text here; write true or false"


def _select(values: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        if not isinstance(values, dict) or part not in values:
            return _ABSENT
        values = values[part]
    return values


def _shown(value: Any) -> str:
    return (
        "null"
        if value is None
        else str(value).lower()
        if value is True or value is False
        else str(value)
    )
