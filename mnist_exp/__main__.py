"""Entry point of ``python -m mnist_exp`` and of the console script ``mnist_exp``."""

import contextlib
import os
import sys


def main() -> None:
    """Run the command line; Ctrl-C prints no traceback, even while modules load."""
    try:
        find_modules_here()
        from mnist_exp.app.main import main as run

        run()
    except KeyboardInterrupt:
        print("stopped by SIGINT", file=sys.stderr)
        sys.exit(130)


def find_modules_here() -> None:
    """Let a console script find modules of the current directory, as ``python -m`` does."""
    with contextlib.suppress(OSError):  # the directory was removed
        here = os.getcwd()
        if not getattr(sys.flags, "safe_path", False) and here not in sys.path:
            sys.path.insert(0, here)


if __name__ == "__main__":
    main()
