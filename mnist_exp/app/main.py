"""The command line: run the command that the first argument names, or pass it all to Hydra."""

from __future__ import annotations

import os
import sys

from mnist_exp._version import __version__
from mnist_exp.app import commands
from mnist_exp.cpu.openmp import wait_briefly
from mnist_exp.terminal import outlive_readers

HELP = {"--help", "-h"}
COMPLETION = {"--shell-completion", "-sc"}


def main() -> None:
    """Run the command the first argument names; without one, train."""
    outlive_readers()
    wait_briefly(os.environ)  # before anything imports torch
    arguments = sys.argv[1:]
    if arguments and commands.is_word(arguments[0]):
        sys.exit(commands.run(*arguments))
    if "--version" in arguments:
        print(f"mnist_exp {__version__}")
        return
    if not (HELP | COMPLETION).isdisjoint(arguments):
        from mnist_exp.app import listing

        listing.list_choices_only()
        if not HELP.isdisjoint(arguments):
            sys.argv.append(listing.help_page())
        elif any(text.startswith("query=") for text in arguments) and listing.complete_command():
            return
    from mnist_exp.app import hydra_app

    hydra_app.main()
