"""Commands and options that ``--help`` and shell completion list."""

from __future__ import annotations

import os

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.completion_plugin import CompletionPlugin
from hydra.plugins.search_path_plugin import SearchPathPlugin

from mnist_exp.app import commands

PAGE = """\
mnist_exp trains small networks on MNIST under hardware limits.

Usage:
  {program} [KEY=VALUE ...]           train
  {program} -m KEY=VALUE,VALUE ...    train once for each combination of values
  {program} COMMAND ...               run a command; COMMAND --help describes it

Commands:
{commands}

Examples:
  # a convolutional network for five epochs
  {program} model=cnn20k training.epochs=5
  # a perceptron whose weights are pairs of memristors
  {program} model=mlp100 constraint=memristor
  # a sweep of four runs over both learning rates: of weights that rise, and of weights that fall
  {program} -m model=mlp100 constraint=memristor \\
      optimizer.lr_pos=0.05,0.1 optimizer.lr_neg=0.05,0.1

Groups and their options, chosen by GROUP=OPTION:

$APP_CONFIG_GROUPS
Keys and their values, set by KEY=VALUE (nested keys with dots: training.epochs=5):

$CONFIG
Flags such as --multirun, --cfg and --config-dir are Hydra's: {program} --hydra-help
"""


class ChoicesSource(FileConfigSource):
    """A directory of options that hides common parts and recipes (``_name``)."""

    @staticmethod
    def scheme() -> str:
        """Return the scheme in front of paths to such a directory."""
        return "choices"

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """List the options or groups in a folder."""
        names = super().list(config_path, results_filter)
        return [name for name in names if not name.startswith("_")]


class ChoicesOnly(SearchPathPlugin):
    """Make every directory of the search path a `ChoicesSource`."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the scheme to paths that have none."""
        for element in search_path.get_path():
            if element.path is not None and "://" not in element.path:
                element.path = f"{ChoicesSource.scheme()}://{element.path}"


def list_choices_only() -> None:
    """Hide options that users do not choose from Hydra's lists; they still compose."""
    for plugin in (ChoicesSource, ChoicesOnly):
        Plugins.instance().register(plugin)


def help_page() -> str:
    """Register the text of ``--help`` with Hydra and return the override that selects it."""
    page = PAGE.format(program=commands.program(), commands=commands.listed())
    ConfigStore.instance().store("mnist_exp", {"template": page}, group="hydra/help")
    return "hydra/help=mnist_exp"


def complete_command() -> bool:
    """Print the commands that complete the first word of ``COMP_LINE``.

    Returns
    -------
    bool
        Whether the line already holds a command, whose arguments Hydra cannot complete.
    """
    line = CompletionPlugin.strip_python_or_app_name(os.environ["COMP_LINE"])
    first, space, _ = line.partition(" ")
    if space:
        return commands.is_word(first)
    for word in commands.COMMANDS:
        if word.startswith(first):
            print(word)
    return False
