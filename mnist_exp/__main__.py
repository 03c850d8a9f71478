"""``python -m mnist_exp``."""

import sys

if __name__ == "__main__":
    try:
        from mnist_exp.app.main import main
    except KeyboardInterrupt:
        print("stopped by SIGINT", file=sys.stderr)
        sys.exit(130)
    main()
