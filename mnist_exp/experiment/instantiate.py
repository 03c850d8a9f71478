"""The only place that calls the ``_target_`` of a config group."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mnist_exp.errors import UserError
from mnist_exp.schema.arguments import wrong_kinds
from mnist_exp.schema.rule import refuse

# keys that mnist_exp reads itself, not arguments of the target
OWN_KEYS = {
    "model": {"name", "weights", "strict"},
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
    node = OmegaConf.select(config, group)
    path = node["_target_"]
    own = {"_target_"} | OWN_KEYS.get(group, set())
    settings = {key: value for key, value in node.items() if key not in own}
    # instantiates nested targets too
    keywords = instantiate(settings, _convert_="all") | extra
    args = (*args, *keywords.pop("_args_", ()))  # Hydra's key for positional arguments
    _check_arguments(target, path, group, args, keywords)
    refuse(f"{group}.{mistake}" for mistake in wrong_kinds(target, keywords))
    try:
        return target(*args, **keywords)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"{group}: {path} refuses its settings: {error}") from error


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
