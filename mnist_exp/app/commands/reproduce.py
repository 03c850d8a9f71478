"""``python -m mnist_exp reproduce RUN_DIR``: command for the key ``reproduce=RUN_DIR``."""

from __future__ import annotations

import sys

from mnist_exp.app.commands import argument_parser
from mnist_exp.run.command_line import override

HYDRA_FLAGS = ("--config-dir", "--config-path", "--config-name")


def main(arguments: list[str]) -> int:
    """Repeat a run in a new directory; the exit code is 1 if the results differ."""
    parser = argument_parser("reproduce")
    parser.usage = "%(prog)s [-h] RUN_DIR [KEY=VALUE ...]"
    parser.epilog = (
        "KEY=VALUE may be data.root (if the data has moved), trust=true (if the directory comes "
        "from elsewhere and you trust it) and hydra.* keys. The exit code is 1 if any "
        "result differs."
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="directory of a completed run")
    for flag in HYDRA_FLAGS:
        parser.add_argument(flag, help="as given for the run, if it used options of your own")
    options, overrides = parser.parse_known_args(arguments)
    given = {flag: getattr(options, flag[2:].replace("-", "_")) for flag in HYDRA_FLAGS}
    flags = [f"{flag}={value}" for flag, value in given.items() if value is not None]
    from mnist_exp.app import hydra_app

    sys.argv[1:] = [*flags, override("reproduce", options.run_dir), *overrides]
    hydra_app.main()
    return 0
