"""The grid of a sweep: all combinations of the swept values, but for those that are zipped."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import chain, product
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeperConf
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mnist_exp.errors import UserError
from mnist_exp.run.saved_config import key_of
from mnist_exp.schema import RULES, unresolved
from mnist_exp.schema.rule import integer, optional, refusal

BASIC = BasicSweeperConf._target_  # Hydra's own; sweeps of older commits were started with it
GRID = "hydra_plugins.mnist_exp_grid.GridSweeper"
ZIP, FILTER, DRY_RUN = "sweep.zip", "sweep.filter", "sweep.dry_run"
OF_THE_SWEEP = (ZIP, FILTER, DRY_RUN)  # no job needs them
BATCH, BATCH_RULE = "hydra.sweeper.max_batch_size", optional(integer(1))


def setting(config: DictConfig, key: str) -> Any:
    """Return a setting of the sweep as a plain value; None where the configuration lacks it."""
    try:
        value = OmegaConf.select(config, key)
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    except OmegaConfBaseException as error:
        raise UserError(unresolved(error)) from error


def check_grid(config: DictConfig) -> None:
    """Check the settings that say which jobs a sweep has, before any is listed.

    Raises
    ------
    UserError
        If one is not allowed, or the sweeper knows none.
    """
    rules = {key: RULES[key] for key in OF_THE_SWEEP} | {BATCH: BATCH_RULE}
    for key, rule in rules.items():
        value = setting(config, key)
        if value is not None and not rule.accepts(value):
            raise UserError(refusal(key, value, rule))
        if value is not None and key in (ZIP, FILTER) and config.hydra.sweeper._target_ != GRID:
            raise UserError(
                f"{key}: is for a sweep whose jobs are all listed beforehand; choose "
                f"hydra/sweeper=grid, or leave {key} out."
            )


def zipped_groups(config: DictConfig) -> list[list[str]]:
    """Return the groups of keys that advance together."""
    groups = setting(config, ZIP) or []
    return [groups] if groups and isinstance(groups[0], str) else groups


def grid(overrides: Sequence[Override], zipped: Sequence[Sequence[str]] = ()) -> list[list[str]]:
    """Return the overrides of each job: the last swept setting changes fastest, as in Hydra.

    Parameters
    ----------
    overrides : sequence of Override
        Those of the sweep; of two for one key, the later one holds.
    zipped : sequence of sequence of str
        Groups of swept keys that advance together, at the place of the first of each.

    Raises
    ------
    UserError
        If a sweep has no list of values, or settings cannot be zipped.
    """
    values: dict[str, list[str]] = {}  # by key, with a + where one is typed
    swept: dict[str, str] = {}  # those keys by the same without it
    for override in overrides:
        key = override.get_key_element()
        name = key_of(key)
        if override.is_sweep_override():
            swept[name] = key
        elif name in OF_THE_SWEEP:
            continue
        else:
            swept.pop(name, None)
        values[key] = _values(override, key)
    partners: dict[str, list[str]] = {}
    for names in zipped:
        _check_zipped(names, values, swept)
        together = [swept[name] for name in names]
        partners |= dict.fromkeys(together, together)
    axes: list[list[tuple[str, ...]]] = []
    done: set[str] = set()
    for key in values:
        together = partners.get(key, [key])
        if done.isdisjoint(together):
            axes.append([*zip(*(values[each] for each in together), strict=True)])
            done.update(together)
    return [[*chain(*job)] for job in product(*axes)]


def _values(override: Override, key: str) -> list[str]:
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    if key_of(key).startswith("sweep."):
        raise UserError(
            f"{override.input_line}: applies to the whole sweep, so it takes one value; write a "
            "list in brackets and text in quotes."
        )
    if not override.is_discrete_sweep():
        raise UserError(
            f"{override.input_line}: a grid needs values, such as {key_of(key)}=1,2 or range(...); "
            "an interval is searched, with hydra/sweeper=optuna."
        )
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def _check_zipped(keys: Sequence[str], values: dict[str, list[str]], swept: dict[str, str]) -> None:
    for key in keys:
        if key not in swept:
            close = difflib.get_close_matches(key, swept, n=1)
            meant = f"did you mean {close[0]}? " if close else ""
            listed = f"swept are {', '.join(swept)}" if swept else "nothing is swept"
            raise UserError(
                f"{ZIP}: {key} is not swept; {meant}{listed}. Give it several values, "
                f"{key}=A,B, or leave it out of {ZIP}."
            )
    lengths = {key: len(values[swept[key]]) for key in keys}
    if len({*lengths.values()}) > 1:
        counts = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise UserError(
            f"{ZIP}: settings that advance together need equally many values; {counts}."
        )
