"""The commands, one file each, imported on use; each has ``main(arguments) -> exit code``.

They import what ``app`` may import, torch only inside functions to keep ``--help`` fast.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from pathlib import Path

from mnist_exp.errors import UserError
from mnist_exp.terminal import printable_lines

# The command view-results is the module view_results.
COMMANDS = {
    "view-results": "list, filter, sort and export runs and sweeps, also as means over seeds",
    "report": "write the page of a run or sweep, or a page that compares several",
    "reproduce": "run a finished run again and compare the results",
    "evaluate": "test the network of a run again, on its own test images or on other data",
    "seeds": "train recipes with several seeds: mean and spread of the accuracy",
    "export": "write a run's network for other programs: onnx, safetensors or torch",
    "evaluate-device": "test a run's network on devices that age: accuracy over time",
    "fit-device": "fit a measured device; write an option to train with, and a picture of the fit",
    "settings": "describe keys: meaning, allowed values, defaults, and the options that have them",
    "env-check": "show versions, processor, compiled kernels and data",
    "check-models": "check the networks' parameter counts and layer shapes",
}


def is_word(argument: str) -> bool:
    """Whether a first argument names a command, not a Hydra flag or override."""
    return "=" not in argument and not argument.startswith(("-", "+", "~"))


def run(word: str, *arguments: str) -> int:
    """Run a command and return its exit code; 2 for a user's mistake."""
    try:
        if word not in COMMANDS:
            raise UserError(_unknown(word))
        module = importlib.import_module(f"{__name__}.{word.replace('-', '_')}")
        code: int = module.main(list(arguments))
    except UserError as error:
        print(f"error: {printable_lines(error)}", file=sys.stderr)
        return 2
    return code


def _unknown(word: str) -> str:
    close = difflib.get_close_matches(word, COMMANDS, n=1)
    meant = f"; did you mean {close[0]}?" if close else "."
    return (
        f"{word}: there is no such command{meant} The commands are\n{listed()}\n"
        f"Settings are KEY=VALUE; {program()} --help lists them."
    )


def listed() -> str:
    """Return the commands with their descriptions, one per line."""
    width = max(map(len, COMMANDS))
    return "\n".join(f"  {word:<{width}}  {text}" for word, text in COMMANDS.items())


def program() -> str:
    """Return how this process was called: as console script or as module."""
    script = os.path.basename(sys.argv[0]).removesuffix(".exe")
    return script if script == "mnist_exp" else "python -m mnist_exp"


def argument_parser(word: str) -> argparse.ArgumentParser:
    """Return a command's parser, with no arguments defined yet."""
    return argparse.ArgumentParser(
        prog=f"{program()} {word}",
        description=f"{COMMANDS[word].capitalize()}.",
        allow_abbrev=False,
    )


def add_run(parser: argparse.ArgumentParser, of_fold: str) -> None:
    """Add the arguments that name a run and which of its weights to take.

    They are ``run_dir``, ``epoch`` (a number or a word) and ``fold``, whose help is ``of_fold``.
    """
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="directory of a run")
    parser.add_argument(
        "--epoch",
        type=lambda text: int(text) if text.isdecimal() else text,
        default="best",
        help="best (the reported one, default), last, or a number",
    )
    parser.add_argument("--fold", type=int, help=of_fold)
