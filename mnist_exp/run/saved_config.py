"""Save, load and hash run configurations; bring older ones up to date."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from mnist_exp.errors import UserError
from mnist_exp.files.atomic import write_atomic
from mnist_exp.run.command_line import literal
from mnist_exp.run.config_differences import NOT_HASHED, PLACES, flat
from mnist_exp.run.yaml_files import dump_yaml, load_yaml
from mnist_exp.schema import resolved_values, unresolved

# keys that select a run and do not affect its training
RUN_KEYS = ("resume", "reproduce", "sweep", "trust")
# Groups of what happens after the training: to the network, and a page about the run.
AFTERWARDS = ("evaluation", "report")
# Keys missing from configurations saved by older versions, with the value that reproduces the
# behaviour of that time.
OLD_BEHAVIOUR: dict[str, dict[str, Any]] = {
    "training": {"averaging_warmup": False, "log_every": None},
    "constraint": {"effects": [], "curve": "exponential", "update": "direct", "cost": None},
    "data": {"class_names": None, "transpose": False},
    "model": {"weights": None, "strict": True},
    "plots": {"format": "png"},
}
# What null means in a run by itself, as older versions wrote it. It hashes and compares as that, in
# a sweep's jobs too, where it means less: neither changes what is trained.
AS_WRITTEN_OUT: dict[str, dict[str, Any]] = {
    "plots": {"enabled": True},
    "checkpoints": {"keep": 5},
}
# Cross-entropy with training.label_smoothing.
PLAIN_LOSS = {"_target_": "mnist_exp.train.losses.cross_entropy", "weight": None}
# Groups missing there, with the content that reproduces that behaviour.
NEW_GROUPS: dict[str, dict[str, Any]] = {
    **{"callbacks": {}, "metrics": {}, "extra": {}},
    "report": {"enabled": None, "predictions": None},
    "loss": PLAIN_LOSS,
}
# Version 0.1 had one tracker, without a name: null, or TensorBoard's writer.
TENSORBOARD = "mnist_exp.trackers.TensorBoard"
OLD_TENSORBOARD = "torch.utils.tensorboard.SummaryWriter"
CONFIG_FILE = "config.yaml"  # the resolved configuration, in the run directory


def as_typed(overrides: Any) -> list[str]:
    """Return Hydra's list of overrides as typed, interpolations unresolved."""
    typed: list[str] = OmegaConf.to_container(overrides, resolve=False)  # type: ignore[assignment]
    return typed


def key_of(override: str) -> str:
    """Return the key or group that an override sets, adds or removes."""
    return override.lstrip("+~").partition("=")[0]


def values_by_key(overrides: Iterable[str]) -> dict[str, str]:
    """Return the values of overrides as typed, by key or group; the later of two holds."""
    return {key_of(text): text.partition("=")[2] for text in overrides}


def own_part(config: DictConfig) -> DictConfig:
    """Return the configuration without its ``hydra`` node; itself if it has none."""
    if "hydra" not in config:
        return config
    keys: list[Any] = [key for key in config if key != "hydra"]  # a user may write 5: 3
    return OmegaConf.masked_copy(config, keys)


@contextlib.contextmanager
def writable(config: DictConfig) -> Iterator[None]:
    """Let a composed configuration be changed in a block, Hydra's part too."""
    hydra = config.hydra  # Hydra 1.4 protects it with flags of its own
    with read_write(config), open_dict(config), read_write(hydra), open_dict(hydra):
        yield


def training_config(config: DictConfig) -> dict[str, Any]:
    """Return the settings that affect training, resolved, as plain values."""
    return without_old_behaviour(_without(resolved_values(config), (*RUN_KEYS, *AFTERWARDS)))


def with_values(config: DictConfig) -> DictConfig:
    """Return the configuration with its interpolations resolved for good; itself without any.

    Raises
    ------
    UserError
        If one cannot be resolved.
    """
    values = _resolved(config)
    if values == OmegaConf.to_container(config, resolve=False):
        return config
    plain = OmegaConf.create(_escaped(values))
    OmegaConf.set_struct(plain, True)
    return plain


def _resolved(config: DictConfig) -> dict[str, Any]:
    try:
        return resolved_values(config)
    except OmegaConfBaseException as error:
        raise UserError(unresolved(error)) from error


def bring_up_to_date(config: DictConfig) -> None:
    """Add keys missing from an older saved configuration, with values that keep its behaviour."""
    with open_dict(config):
        if isinstance(config.get("tracker"), DictConfig):
            config.tracker = _entries(OmegaConf.to_container(config.tracker))
        for group, keys in OLD_BEHAVIOUR.items():
            values = config.get(group)
            if isinstance(values, DictConfig) and values.get("_target_", "") is not None:
                for key in keys.keys() - values.keys():
                    values[key] = keys[key]
        for group in NEW_GROUPS.keys() - config.keys():
            config[group] = NEW_GROUPS[group]


def _entries(tracker: Any) -> Any:
    """Return the entries of a tracker group, also of version 0.1."""
    if "_target_" not in tracker:
        return tracker
    if tracker["_target_"] == OLD_TENSORBOARD:
        return {"tensorboard": {**tracker, "_target_": TENSORBOARD}}
    return {} if tracker["_target_"] is None else {"old": tracker}


def _as_in_version_0_1(tracker: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a tracker group as version 0.1 wrote it, where it could."""
    if not tracker:
        return {"_target_": None}
    settings = tracker.get("tensorboard", {})
    if len(tracker) == 1 and settings.get("_target_") == TENSORBOARD:
        return {**settings, "_target_": OLD_TENSORBOARD}
    return tracker


def without_old_behaviour(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resolved configuration without newer keys and groups that change no behaviour.

    Configurations then compare and hash equal across versions.
    """
    values = flat(config)
    old = flat(OLD_BEHAVIOUR)
    keys = {key for key in old if key in values and values[key] == old[key]}
    keys |= {group for group, content in NEW_GROUPS.items() if config.get(group) == content}
    if values.get("training.averaging") is None:
        keys.add("training.averaging_warmup")
    if values.get("model.weights") is None:
        keys.add("model.strict")
    if values.get("augmentation.noise") == 0:
        keys.add("augmentation.noise")
    if values.get("augmentation.elastic_alpha") == 0:
        keys |= {"augmentation.elastic_alpha", "augmentation.elastic_sigma"}
    normal = _without(config, keys)
    if isinstance(normal.get("tracker"), Mapping):
        normal["tracker"] = _as_in_version_0_1(normal["tracker"])
    for group, written in AS_WRITTEN_OUT.items():
        given = normal.get(group)
        if isinstance(given, Mapping):
            normal[group] = {k: written.get(k) if v is None else v for k, v in given.items()}
    return normal


def hash_config(config: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a resolved configuration, ignoring key order and `NOT_HASHED`."""
    return _sha256(_without(config, NOT_HASHED))


def has_hash(config: Mapping[str, Any], recorded: str | None) -> bool:
    """Whether ``recorded`` is this configuration's hash, as computed by this or an older version.

    Older versions included `NOT_HASHED`, and ``averaging_warmup`` with its old value.
    """
    training = {"averaging_warmup": False, **config.get("training", {})}
    forms = (config, {**config, "training": training})
    return recorded in [take(form) for form in forms for take in (hash_config, _sha256)]


def _sha256(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def _without(config: Mapping[str, Any], keys: Iterable[str], prefix: str = "") -> dict[str, Any]:
    """Return a copy without the given dotted keys."""
    return {
        key: _without(value, keys, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in config.items()
        if f"{prefix}{key}" not in keys
    }


def make_paths_absolute(config: DictConfig, start: str | Path) -> None:
    """Resolve relative `PLACES` against ``start``, the directory the command ran in."""
    for key in PLACES:
        path = OmegaConf.select(config, key)
        if isinstance(path, str):
            absolute = Path(start).absolute() / Path(path).expanduser()
            OmegaConf.update(config, key, str(absolute))


def config_file(directory: Path) -> Path:
    """Return the path of Hydra's saved configuration, with interpolations unresolved."""
    return directory / ".hydra" / "config.yaml"


def run_directory(path: Path) -> Path:
    """Return the run directory that a path names, or in which the file lies that it names."""
    if path.is_file():
        for parent in [*path.parents][:3]:  # checkpoints/fold_1/best.pt
            if (parent / CONFIG_FILE).is_file() or config_file(parent).is_file():
                return parent
    return path


def load_config(directory: Path, key: str) -> DictConfig:
    """Read the configuration of the run given as ``key=directory``, with missing keys added.

    Older versions saved only Hydra's file, with interpolations unresolved. The ``hydra`` node is
    dropped: a run's files must not control the process beyond training.

    Raises
    ------
    UserError
        If the run does not exist, or its configuration is missing or damaged.
    """
    if directory.is_file():
        raise UserError(f"{key}={directory}: is a file; give the directory of a run.")
    if not directory.is_dir():
        raise UserError(f"{key}={directory}: there is no such directory.")
    path = directory / CONFIG_FILE
    if not path.is_file():
        path = config_file(directory)
    if not path.is_file():
        raise UserError(
            f"{key}={directory}: is not a run directory, or its {CONFIG_FILE} and .hydra, which "
            "hold the run's configuration, were deleted. Give the directory that holds "
            "results.json."
        )
    try:
        config = load_yaml(path)
    except UserError as error:
        raise UserError(f"{key}={directory}: {error}") from error
    except OSError as error:
        raise UserError(f"{key}={directory}: {path} cannot be read ({error}).") from error
    if not isinstance(config, DictConfig) or "training" not in config:
        raise UserError(f"{key}={directory}: {path} is damaged; it holds no configuration.")
    config.pop("hydra", None)
    bring_up_to_date(config)
    return config


def save_config(directory: Path, config: DictConfig) -> None:
    """Write the configuration, interpolations resolved, to the run directory."""
    write_atomic(directory / CONFIG_FILE, dump_yaml(_escaped(_resolved(config))).encode())


def _escaped(value: Any) -> Any:
    """Escape strings that look like interpolations."""
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if isinstance(value, str):
        return literal(value)
    return value
