"""Device settings for the tests, read from the configuration."""

from functools import cache
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from mnist_exp.experiment.instantiate import call_nested
from mnist_exp.files.shipped_config import config_directory


@cache
def _option(name: str) -> dict[str, Any]:
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        config = compose("config", [f"constraint={name}"])
    return OmegaConf.to_container(config.constraint)  # type: ignore[return-value]


def device_settings(option: str = "_ideal", **changes: Any) -> dict[str, Any]:
    """Return the settings of an option of the group ``constraint``, with some changed.

    A step model and an update scheme are built.
    """
    settings = _option(option) | changes
    settings = call_nested({n: v for n, v in settings.items() if n != "_target_"}, "constraint")
    return settings
