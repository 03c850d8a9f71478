"""A fitted classifier from a run directory."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from omegaconf import DictConfig, ListConfig

from mnist_exp import device
from mnist_exp.errors import UserError
from mnist_exp.experiment.build import build_dataset, pixel_mean_std
from mnist_exp.experiment.fold import fold_seed
from mnist_exp.experiment.instantiate import plain_values
from mnist_exp.experiment.trained import image_shape_of, trained_model
from mnist_exp.models import MLP
from mnist_exp.models.effective_copy import effective_copy
from mnist_exp.run.results import read_results
from mnist_exp.run.rows import read_rows
from mnist_exp.run.saved_config import load_config
from mnist_exp.run.weights import read_weights
from mnist_exp.sklearn.device_parameters import DEVICE_FIELDS

if TYPE_CHECKING:
    from mnist_exp.sklearn import PyTorchNNWrapper

ASYMMETRIC_SGD = "mnist_exp.optim.AsymmetricSGD"
# What this package defines, and nothing else, is called: a run directory may come from elsewhere.
NETWORKS = ("mnist_exp.models.MLP", "mnist_exp.models.mlp.MLP")
CONSTRAINTS = (None, "mnist_exp.device.DeviceConstraint")
LOADERS = tuple(
    f"mnist_exp.data.load_{name}"
    for name in ("mnist", "idx_directory", "torchvision", "npz", "csv")
)
NO_DEVICES = {"mapping": "direct", "clip": False, "quantize": False, "retain": False}
# Of a constraint; they act in training alone, and may be the user's own code.
IN_TRAINING = ("effects", "curve", "update", "cost")


def fitted_classifier(
    kind: type[PyTorchNNWrapper], directory: Path, epoch: int | str, fold: int | None
) -> PyTorchNNWrapper:
    """Return a classifier of class ``kind`` with the network of a run.

    Raises
    ------
    UserError
        If the run is none of a network with one hidden layer, or has no such checkpoint.
    """
    config = load_config(directory, "directory")
    in_training = {name: config.constraint.pop(name, None) for name in IN_TRAINING}
    _check_network(config, directory)
    weights = read_weights(directory, epoch, fold)
    results = read_results(directory) or {}
    class_names = results.get("class_names")
    if class_names is None:
        raise UserError(f"{directory}: its results.json, which names the classes, is missing.")
    classifier = kind(**_parameters(config, fold), **_own_parts(in_training))
    image_shape = image_shape_of(results)
    network = effective_copy(trained_model(config, weights, len(class_names), image_shape))
    assert isinstance(network, MLP)  # for the type checker
    classifier.classes_, order = np.unique(_labels(class_names), return_index=True)
    classifier.model_ = network.double()
    _take_pixels(network, *pixel_mean_std(config, lambda: _dataset(config)))
    _reorder(network, order)
    classifier.n_features_in_ = math.prod(image_shape)
    rows = [row for row in read_rows(directory / "metrics.jsonl") if row.get("fold") == fold]
    classifier._set_history(rows, len(rows), None)
    return classifier


def _check_network(config: DictConfig, directory: Path) -> None:
    """Refuse a run whose network the classifier is not."""
    if wrong := list(_differences(config)):
        raise UserError(
            f"{directory}: from_run needs a network with one hidden layer of ReLU units "
            "(model=mlp100, or model=mlp model.hidden_sizes=[N]), with or without "
            f"mnist_exp.device.DeviceConstraint; this run has {', '.join(wrong)}. "
            "mnist_exp.load_run opens any run."
        )


def _differences(config: DictConfig) -> Iterator[str]:
    model, constraint = config.model, config.constraint.get("_target_")
    if model.get("_target_") not in NETWORKS:
        yield f"model._target_={model.get('_target_')}"
    elif len(model.get("hidden_sizes", [])) != 1:
        yield f"model.hidden_sizes={list(model.get('hidden_sizes', []))}"
    elif model.get("activation", "relu") != "relu":
        yield f"model.activation={model.activation}"
    if constraint not in CONSTRAINTS:
        yield f"constraint._target_={constraint}"
    for group in ("model", "constraint", "data"):  # a map inside may be a target to call
        for key, value in config[group].items():
            if not _is_plain(value):
                yield f"{group}.{key}={value}"


def _is_plain(value: Any) -> bool:
    items = value if isinstance(value, ListConfig) else [value]
    return all(isinstance(item, str | int | float | None) for item in items)


def _parameters(config: DictConfig, fold: int | None) -> dict[str, Any]:
    """Return the run's settings that the classifier has too."""
    training, constraint = config.training, config.constraint
    found = {
        "hidden_dim": config.model.hidden_sizes[0],
        "epochs": training.epochs,
        "batch_size": training.batch_size,
        "label_smoothing": training.label_smoothing,
        "random_state": fold_seed(config.seed, fold),
    }
    if config.optimizer.get("_target_") == ASYMMETRIC_SGD:
        found |= {name: config.optimizer[name] for name in ("lr_pos", "lr_neg", "momentum")}
        varied = str(config.scheduler.get("_target_")).endswith(".OneCycleLR")
        found["scheduler"] = "onecycle" if varied else "constant"
    if constraint.get("_target_") is None:
        return found | NO_DEVICES
    names = {field.name for field in DEVICE_FIELDS} - {*IN_TRAINING}
    settings = plain_values(constraint)
    return found | {name: settings[name] for name in names if name in settings}


def _own_parts(of_constraint: Mapping[str, Any]) -> dict[str, Any]:
    """Build the step model and the update scheme of a run; warn of code that is the user's own."""
    built, left_out = {}, []
    for name, value in of_constraint.items():
        if isinstance(value, DictConfig):
            arguments = plain_values(value)
            target = arguments.pop("_target_")
            where, _, word = target.rpartition(".")
            if where == device.__name__ and word in device.__all__:
                built[name] = getattr(device, word)(**arguments)
            else:
                left_out.append(f"{name} ({target})")
        elif value and not isinstance(value, str):  # effects
            left_out.append(name)
    if left_out:
        warnings.warn(
            f"the classifier's parameters lack {', '.join(left_out)} of the run's constraint, as "
            "from_run calls no code but this package's; set them before fit.",
            stacklevel=4,  # points at the caller of from_run
        )
    return built


def _dataset(config: DictConfig) -> Any:
    if config.data.get("_target_") not in LOADERS:
        raise UserError(
            f"data._target_={config.data.get('_target_')}: the mean and std that normalise the "
            "pixels of this run follow from its data, and from_run calls no code but this "
            "package's. Use mnist_exp.load_run(directory, trust=True).predict."
        )
    return build_dataset(config)


def _labels(class_names: list[str]) -> np.ndarray:
    """Return the names as labels: as numbers, if all of them are."""
    digits = all(name.isascii() and name.isdigit() for name in class_names)
    return np.array([int(name) for name in class_names] if digits else class_names)


@torch.no_grad()
def _take_pixels(network: MLP, mean: float, std: float) -> None:
    """Let the first layer normalise its input: W (x - mean) / std = (W / std) x - W mean / std."""
    first = network.network[0]
    first.weight.div_(std)  # type: ignore[operator]
    first.bias.sub_(first.weight.sum(1) * mean)  # type: ignore[operator]


@torch.no_grad()
def _reorder(network: MLP, order: np.ndarray) -> None:
    """Sort the network's outputs as the classes are."""
    last = network.network[-1]
    for parameter in last.parameters():
        parameter.copy_(parameter[torch.from_numpy(order)])
