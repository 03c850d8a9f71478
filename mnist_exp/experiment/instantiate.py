"""The only place that calls the ``_target_`` of a config group."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mnist_exp.errors import UserError
from mnist_exp.schema.arguments import wrong_kinds
from mnist_exp.schema.rule import refuse

# keys that mnist_exp reads itself, not arguments of the target
OWN_KEYS = {
    "model": {"name"},
    "data": {"classes", "subset", "normalization", "mean", "std"},
    "scheduler": {"interval"},
    "cv": {"n_jobs"},
}


def call_target(config: DictConfig, group: str, *args: Any, **extra: Any) -> Any:
    """Call the ``_target_`` of a config group with its other keys; return None if it is null.

    Parameters
    ----------
    config : DictConfig
        The whole configuration.
    group : str
        For example ``"optimizer"``, or ``"callbacks.mine"``.
    *args, **extra
        Further arguments of the call; ``extra`` overrides the group's keys.

    Raises
    ------
    UserError
        If the target does not exist, rejects a value, or an argument is unknown, missing or of
        the wrong type.
    """
    target = find_target(config, group)
    if target is None:
        return None
    path, keywords = target_path(config, group), settings(config, group) | extra
    _check_arguments(target, path, group, args, keywords)
    refuse(f"{group}.{mistake}" for mistake in wrong_kinds(target, keywords))
    try:
        return target(*args, **keywords)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"{group}: {path} refuses its settings: {error}") from error


def function_of(config: DictConfig, key: str, inputs: Sequence[str], **extra: Any) -> Any:
    """Return the function at the ``_target_`` of ``key``, with its other keys as arguments.

    A class is called with them, and makes the function. Null settings that the target does not
    know are left out.

    Parameters
    ----------
    config : DictConfig
        The whole configuration.
    key : str
        For example ``"loss"`` or ``"metrics.mine"``.
    inputs : sequence of str
        What the function will be called with.
    **extra
        Further arguments, which override those of the configuration.

    Raises
    ------
    UserError
        As `call_target`, or if the target makes nothing that can be called.
    """
    target, path = find_target(config, key), target_path(config, key)
    assert target is not None, "a rule of the schema"
    keywords = settings(config, key) | extra
    known = argument_names(target)
    keywords = {name: v for name, v in keywords.items() if v is not None or name in known}
    is_class = inspect.isclass(target)
    _check_arguments(target, path, key, () if is_class else tuple(inputs), keywords)
    refuse(f"{key}.{mistake}" for mistake in wrong_kinds(target, keywords))
    if not is_class:
        return partial(target, **keywords)
    try:
        function = target(**keywords)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"{key}: {path} refuses its settings: {error}") from error
    if not callable(function):
        raise UserError(
            f"{key}._target_={path}: makes a {type(function).__name__}, which cannot be called; "
            f"allowed is a function of {' and '.join(inputs)}, or a class that makes one."
        )
    return function


def settings(config: DictConfig, key: str) -> dict[str, Any]:
    """Return the arguments of the target of ``key``, nested targets instantiated."""
    own = {"_target_"} | OWN_KEYS.get(key, set())
    node = OmegaConf.select(config, key)
    values = {name: value for name, value in node.items() if name not in own}
    found: dict[str, Any] = instantiate(values, _convert_="all")
    return found


def target_path(config: DictConfig, key: str) -> str:
    """Return the dotted path of the target of ``key``."""
    path: str = OmegaConf.select(config, key)["_target_"]
    return path


def argument_names(target: Callable[..., Any]) -> dict[str, str]:
    """Return the names of a target's parameters with their annotations as text."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except ValueError:  # some built-in types have no signature
        return {}
    return {p.name: str(p.annotation) for p in parameters}


def find_target(config: DictConfig, group: str) -> Callable[..., Any] | None:
    """Import the ``_target_`` of a config group; return None if it is null.

    Raises
    ------
    UserError
        If it does not exist.
    """
    path = OmegaConf.select(config, group).get("_target_")
    if path is None:
        return None
    try:
        # Hydra rejects targets that let an untrusted config run commands
        target = instantiate({"_target_": path, "_partial_": True}).func
    except InstantiationException as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise UserError(
            f"{group}._target_={path}: is no usable target ({reason}). Give the dotted path of a "
            "class or function that Python finds, such as torch.optim.SGD."
        ) from error
    return target


def _check_arguments(
    target: Callable[..., Any],
    path: str,
    group: str,
    args: tuple[Any, ...],
    keywords: Mapping[str, Any],
) -> None:
    try:
        signature = inspect.signature(target)
    except ValueError:  # some built-in types have no signature; rely on their own error
        return
    try:
        signature.bind(*args, **keywords)
    except TypeError as error:
        taken = list(signature.parameters)[len(args) :]
        raise UserError(
            f"{group}: {path}: {error}. Its settings are: {', '.join(taken) or 'none'}."
        ) from error
