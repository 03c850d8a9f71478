"""``python -m mnist_exp reproduce RUN_DIR``: the key ``reproduce=RUN_DIR`` as a word."""

from __future__ import annotations

import sys

from mnist_exp.app.commands import argument_parser


def main(arguments: list[str]) -> int:
    """Run a run again in a directory of its own; the exit code is 1 where the results differ."""
    parser = argument_parser("reproduce")
    parser.usage = "%(prog)s [-h] RUN_DIR [KEY=VALUE ...]"
    parser.epilog = (
        "KEY=VALUE may be data.root (the data lies elsewhere by now), trust=true (the directory "
        "is somebody else's, and you trust it) and hydra.* keys. The exit code is 1 if any "
        "result differs."
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="directory of a completed run")
    options, overrides = parser.parse_known_args(arguments)
    from hydra.core.override_parser.types import Quote, QuotedString

    from mnist_exp.app import hydra_app

    directory = QuotedString(options.run_dir, Quote.single).with_quotes()
    sys.argv[1:] = [f"reproduce={directory}", *overrides]
    hydra_app.main()
    return 0
