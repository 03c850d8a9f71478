"""Location of the package's own configuration."""

from __future__ import annotations

from pathlib import Path

# In an installed package, and at the top of a checkout.
CONFIG_DIRECTORIES = (Path(__file__).parents[1] / "conf", Path(__file__).parents[2] / "conf")


def config_directory() -> Path:
    """Return the directory with config.yaml."""
    return next(path for path in CONFIG_DIRECTORIES if (path / "config.yaml").is_file())
