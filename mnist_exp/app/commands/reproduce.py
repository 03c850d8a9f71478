"""``python -m mnist_exp reproduce RUN_DIR``: command for the key ``reproduce=RUN_DIR``."""

from __future__ import annotations

import sys

from mnist_exp.app.commands import argument_parser


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
    options, overrides = parser.parse_known_args(arguments)
    from hydra.core.override_parser.types import Quote, QuotedString

    from mnist_exp.app import hydra_app

    directory = QuotedString(options.run_dir, Quote.single).with_quotes()
    sys.argv[1:] = [f"reproduce={directory}", *overrides]
    hydra_app.main()
    return 0
