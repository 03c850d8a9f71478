"""Location of the package's own configuration, under the name that it had in this room."""

from mnist_exp.files.shipped_config import CONFIG_DIRECTORIES, config_directory

__all__ = ["CONFIG_DIRECTORIES", "config_directory"]
