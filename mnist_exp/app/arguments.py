"""The command line before Hydra reads it."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from mnist_exp.errors import UserError

CALLBACK = "hydra.callbacks.directories"


def options_first(arguments: list[str]) -> list[str]:
    """Move options such as ``-m`` in front of the overrides, where Hydra takes them.

    Raises
    ------
    UserError
        If there is no such option, or it lacks its value.
    """
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UserError(
            f"{message}. Settings are KEY=VALUE; options: python -m mnist_exp --hydra-help."
        )

    parser.error = refuse  # type: ignore[method-assign]
    overrides = parser.parse_intermixed_args(arguments).overrides
    options = arguments.copy()
    for override in reversed(overrides):  # an option's value stands before its equal
        del options[len(options) - 1 - options[::-1].index(override)]
    return [*options, *overrides]


def check_config_path(arguments: list[str]) -> None:
    """Check that a config path of the user's own leaves the run directory to this package.

    Raises
    ------
    UserError
        If it lacks Hydra's part, as the saved configuration of a run does.
    """
    given = get_args_parser().parse_args(arguments)
    if given.config_path is None or not Path(given.config_path).is_dir():
        return
    directory = Path(given.config_path).absolute()
    try:
        with initialize_config_dir(str(directory), version_base="1.3"):
            config = compose(given.config_name or "config", return_hydra_config=True)
    except Exception:  # Hydra will say what is wrong
        return
    finally:
        GlobalHydra.instance().clear()
    if OmegaConf.select(config, CALLBACK) is None:
        run = directory.parent
        saved = f" To continue a run: resume={run}; to repeat it: reproduce={run}."
        raise UserError(
            f"--config-path={given.config_path}: its {given.config_name or 'config'}.yaml lacks "
            f"{CALLBACK}, which makes the run directory."
            + (saved if directory.name == ".hydra" else "")
        )
