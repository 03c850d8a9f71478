"""The one place where the ``_target_`` of a config group becomes a call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from mnist_exp.errors import UserError
from mnist_exp.schema.arguments import wrong_kinds
from mnist_exp.schema.rule import refuse

# Keys of a group that are ours and not arguments of its target.
OWN_KEYS = {
    "model": {"name"},
    "data": {"classes", "subset", "normalization", "mean", "std"},
    "scheduler": {"interval"},
    "cv": {"n_jobs"},
}


def call_target(config: DictConfig, group: str, *args: Any, **extra: Any) -> Any:
    """Call the ``_target_`` of a config group with the group's other keys; None for a null target.

    Parameters
    ----------
    config : DictConfig
        The whole configuration.
    group : str
        For example ``"optimizer"``.
    *args, **extra
        Further arguments of the call; ``extra`` wins over the group's keys.

    Raises
    ------
    UserError
        If the target does not exist, a key is not one of its arguments, one is missing or of the
        wrong kind, or it refuses a value.
    """
    target = find_target(config, group)
    if target is None:
        return None
    path = config[group]["_target_"]
    own = {"_target_"} | OWN_KEYS.get(group, set())
    settings = {key: value for key, value in config[group].items() if key not in own}
    # targets inside the settings become objects too
    keywords = instantiate(settings, _convert_="all") | extra
    _check_arguments(target, path, group, args, keywords)
    refuse(f"{group}.{mistake}" for mistake in wrong_kinds(target, keywords))
    try:
        return target(*args, **keywords)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"{group}: {path} refuses its settings: {error}") from error


def find_target(config: DictConfig, group: str) -> Callable[..., Any] | None:
    """Import the ``_target_`` of a config group, None if it is null.

    Raises
    ------
    UserError
        If it does not exist.
    """
    path = config[group].get("_target_")
    if path is None:
        return None
    try:
        # Hydra refuses targets with which a foreign config could run commands
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
    except ValueError:  # a few built-in types have none; their own error must do
        return
    try:
        signature.bind(*args, **keywords)
    except TypeError as error:
        taken = list(signature.parameters)[len(args) :]
        raise UserError(
            f"{group}: {path}: {error}. Its settings are: {', '.join(taken) or 'none'}."
        ) from error
