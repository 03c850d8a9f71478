"""Settings of the command line that the chosen modes do not read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mnist_exp.run.saved_config import flat

Values = Mapping[str, Any]  # by dotted key


def _is(key: str, *values: Any) -> Callable[[Values], bool]:
    return lambda config: config.get(key) in values


def _has_momentum(config: Values) -> bool:
    return bool(config.get("optimizer.momentum")) or config.get("optimizer.betas") is not None


def _cycles_momentum(config: Values) -> bool:
    return bool(config.get("scheduler.cycle_momentum")) and _has_momentum(config)


# Of each key: when it is not read, and the setting that decides it.
UNUSED: dict[str, tuple[Callable[[Values], bool], str]] = {
    "data.mean": (_is("data.normalization", "unit"), "data.normalization=unit"),
    "data.std": (_is("data.normalization", "unit"), "data.normalization=unit"),
    "optimizer.lr": (
        lambda config: config.get("scheduler.max_lr") is not None,
        "scheduler.max_lr, which sets the rates,",
    ),
    "optimizer.momentum": (_cycles_momentum, "scheduler.cycle_momentum=true"),
    "scheduler.cycle_momentum": (
        lambda config: bool(config.get("scheduler.cycle_momentum")) and not _has_momentum(config),
        "an optimizer without momentum",
    ),
    "scheduler.base_momentum": (lambda config: not _cycles_momentum(config), "constant momentum"),
    "scheduler.max_momentum": (lambda config: not _cycles_momentum(config), "constant momentum"),
    "constraint.gain": (_is("constraint.mapping", "direct"), "constraint.mapping=direct"),
    "constraint.rounding": (_is("constraint.quantize", False), "constraint.quantize=false"),
    "constraint.levels": (
        lambda config: (
            config.get("constraint.quantize") is False
            and config.get("constraint.pulse_rounding") == "none"
            and not config.get("constraint.nonlinearity_ltp")
            and not config.get("constraint.nonlinearity_ltd")
            and not config.get("constraint.write_noise")
        ),
        "constraint.quantize=false",
    ),
    "constraint.retention": (_is("constraint.retain", False), "constraint.retain=false"),
    "constraint.retention_tau": (_is("constraint.retain", False), "constraint.retain=false"),
    "constraint.retention_target": (_is("constraint.retain", False), "constraint.retain=false"),
    "gradients.sample_choice": (_is("gradients.max_samples", None), "gradients.max_samples=null"),
    "gradients.augmented": (_is("gradients.mode", "batch"), "gradients.mode=batch"),
    "gradients.dtype": (_is("gradients.format", "statistics"), "gradients.format=statistics"),
    "plots.dpi": (_is("plots.enabled", False), "plots.enabled=false"),
    "plots.num_samples": (_is("plots.enabled", False), "plots.enabled=false"),
}


def unused_settings(config: Mapping[str, Any], overrides: Iterable[str]) -> list[str]:
    """Return a sentence for each setting that was asked for and has no influence.

    Parameters
    ----------
    config : dict
        The resolved configuration.
    overrides : iterable of str
        Settings as on the command line, ``key=value``. What only a preset says is not judged.
    """
    values = flat(config)
    sentences = []
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key in UNUSED and UNUSED[key][0](values):
            sentences.append(f"{key}={value}: has no influence with {UNUSED[key][1]}")
    return sentences
