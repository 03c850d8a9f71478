"""Entry point of ``python -m mnist_exp``."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C prints no traceback, even while modules load."""
    try:
        from mnist_exp.app.main import main as run

        run()
    except KeyboardInterrupt:
        print("stopped by SIGINT", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
