"""The only place that calls the ``_target_`` of a config group."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from mnist_exp.errors import UserError
from mnist_exp.schema.arguments import wrong_kinds
from mnist_exp.schema.parts import HYDRA_KEYS, OWN_KEYS, PARTS
from mnist_exp.schema.rule import refuse


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
    return _call(target, target_path(config, group), group, args, settings(config, group) | extra)


def plain_values(config: DictConfig | ListConfig) -> Any:
    """Return a part of the configuration as dicts and lists, interpolations resolved."""
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


def call_nested(value: Any, key: str) -> Any:
    """Return a plain value with every ``_target_`` inside it called, innermost first.

    Parameters
    ----------
    value
        A setting; without targets it comes back as it is.
    key : str
        Its dotted key, for messages.

    Raises
    ------
    UserError
        As in `call_target`.
    """
    if isinstance(value, list):
        return [call_nested(item, f"{key}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    path = value.get("_target_")
    if path is not None and not HYDRA_KEYS.isdisjoint(value):
        try:
            return instantiate(value, _convert_="all")
        except InstantiationException as error:
            reason = " ".join(str(error.__cause__ or error).split())
            raise UserError(f"{key}: {path} cannot be called: {reason}") from error
    inside = {name: call_nested(item, f"{key}.{name}") for name, item in value.items()}
    if path is None:
        return inside
    del inside["_target_"]
    return _call(_import(path, key), path, key, (), inside)


def _call(
    target: Callable[..., Any],
    path: str,
    key: str,
    args: tuple[Any, ...],
    keywords: Mapping[str, Any],
) -> Any:
    keywords = dict(keywords)
    args = (*args, *keywords.pop("_args_", ()))  # Hydra's key for positional arguments
    _check_arguments(target, path, key, args, keywords)
    try:
        return target(*args, **keywords)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"{key}: {path} refuses its settings: {error}") from error


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
    if not inspect.isclass(target):
        _check_arguments(target, path, key, inputs, keywords)
        return partial(target, **keywords)
    function = _call(target, path, key, (), keywords)
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
    values = {name: value for name, value in plain_values(node).items() if name not in own}
    found: dict[str, Any] = call_nested(values, key)
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
    return None if path is None else _import(path, group)


def _import(path: str, key: str) -> Callable[..., Any]:
    if path in PARTS:  # ours and torch's own, which need no check; a job imports a dozen
        with contextlib.suppress(Exception):  # a package that is not installed: reported below
            return get_object(path)
    try:
        # Hydra rejects targets that let an untrusted config run commands
        target: Callable[..., Any] = instantiate({"_target_": path, "_partial_": True}).func
    except InstantiationException as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise UserError(
            f"{key}._target_={path}: is not a usable target ({reason}). Give the dotted path of a "
            "class or function that Python finds, such as torch.optim.SGD."
        ) from error
    return target


def takes_argument(target: Callable[..., Any], name: str) -> bool:
    """Return whether a target can be called with the keyword ``name``."""
    try:
        parameters = inspect.signature(target).parameters
    except ValueError:  # some built-in types have no signature
        return False
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    any_name = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    return any_name or (name in parameters and parameters[name].kind in by_name)


def _check_arguments(
    target: Callable[..., Any],
    path: str,
    key: str,
    args: Sequence[Any],
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
            f"{key}: {path}: {error}. Its settings are: {', '.join(taken) or 'none'}."
        ) from error
    refuse(f"{key}.{mistake}" for mistake in wrong_kinds(target, keywords))
