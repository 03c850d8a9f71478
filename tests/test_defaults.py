"""Every part's defaults in Python equal those in ``conf/``, and it works without Hydra."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from mnist_exp.cv import Holdout
from mnist_exp.data import Dataset
from mnist_exp.data.augment import Augmentation
from mnist_exp.data.batches import Images
from mnist_exp.device import DeviceConstraint
from mnist_exp.files.shipped_config import config_directory
from mnist_exp.gradients import GradientCollector
from mnist_exp.models import MLP, CNN20k, CNN21k
from mnist_exp.optim import AsymmetricSGD, Muon
from mnist_exp.optim.weight_averaging import averaged_model
from mnist_exp.schema.parts import OWN_KEYS
from mnist_exp.train.loop import Recipe, Training, train
from mnist_exp.train.state import TrainState

# The option whose values equal Python's defaults. If a target has several: the base of the others
# (_ideal, light, epoch), or else the default of its group.
BASE = {
    "mnist_exp.models.MLP": "model/mlp",
    "mnist_exp.models.CNN20k": "model/cnn20k",
    "mnist_exp.models.CNN21k": "model/cnn21k",
    "mnist_exp.data.load_mnist": "data/mnist",
    "mnist_exp.data.load_idx_directory": "data/idx",
    "mnist_exp.data.load_torchvision": "data/fashion_mnist",
    "mnist_exp.data.load_npz": "data/npz",
    "mnist_exp.data.load_csv": "data/csv",
    "mnist_exp.data.augment.Augmentation": "augmentation/light",
    "mnist_exp.cv.Holdout": "cv/holdout",
    "mnist_exp.optim.AsymmetricSGD": "optimizer/asymmetric_sgd",
    "mnist_exp.optim.Muon": "optimizer/muon",
    "mnist_exp.train.losses.cross_entropy": "loss/cross_entropy",
    "mnist_exp.train.losses.focal": "loss/focal",
    "mnist_exp.train.losses.mse": "loss/mse",
    "mnist_exp.train.metrics.top_k_accuracy": "metrics/top2",
    "mnist_exp.train.metrics.expected_calibration_error": "metrics/ece",
    "mnist_exp.train.metrics.negative_log_likelihood": "metrics/nll",
    "mnist_exp.train.metrics.f1": "metrics/f1",
    "mnist_exp.train.metrics.ShiftedAccuracy": "metrics/shifted",
    "mnist_exp.trackers.CSV": "tracker/csv",
    "mnist_exp.trackers.MLflow": "tracker/mlflow",
    "mnist_exp.trackers.TensorBoard": "tracker/tensorboard",
    "mnist_exp.trackers.Trackio": "tracker/trackio",
    "mnist_exp.trackers.WandB": "tracker/wandb",
    "mnist_exp.device.DeviceConstraint": "constraint/_ideal",
    "mnist_exp.device.ArrayReading": "constraint/read/analog",
    "mnist_exp.device.Cost": "constraint/cost/counted",
    "mnist_exp.device.programmed.DeviceEvaluation": "evaluation/ideal",
    "mnist_exp.device.ThresholdedWrites": "constraint/update/thresholded_writes",
    "mnist_exp.device.TikiTaka": "constraint/update/tiki_taka",
    "mnist_exp.device.TikiTakaV2": "constraint/update/tiki_taka_v2",
    "mnist_exp.gradients.GradientCollector": "gradients/epoch",
    "mnist_exp.callbacks.early_stopping.EarlyStopping": "callbacks/early_stopping",
}
# Arguments without a default, although conf/ has a value.
REQUIRED = {
    # the optimizer's purpose is the asymmetry, so callers must set it
    "mnist_exp.optim.AsymmetricSGD": {"lr_pos", "lr_neg"},
    # which data to load has no sensible default
    "mnist_exp.data.load_torchvision": {"name"},
    "mnist_exp.data.load_idx_directory": {"root"},
    "mnist_exp.data.load_npz": {"file"},
    "mnist_exp.data.load_csv": {"train_file", "test_file"},
}
# Arguments that the run passes, or that only library users need.
NOT_IN_CONF = {
    "mnist_exp.models.MLP": {"num_classes", "in_features", "generator"},
    "mnist_exp.models.CNN20k": {"num_classes", "image_shape"},
    "mnist_exp.models.CNN21k": {"num_classes", "image_shape"},
    "mnist_exp.data.load_idx_directory": {"name"},
    "mnist_exp.data.load_npz": {"name"},
    "mnist_exp.data.load_csv": {"name"},
    "mnist_exp.optim.AsymmetricSGD": {"params"},
    "mnist_exp.optim.Muon": {"params"},
    "mnist_exp.train.losses.cross_entropy": {"label_smoothing"},
    "mnist_exp.device.DeviceConstraint": {"effects"},  # in conf: how to build them
}
INPUTS = {"logits", "labels"}  # of losses and metrics


def settings_of(option: str) -> dict[str, Any]:
    """Return the group's settings in an option's own file, without composing its defaults."""
    group = option.partition("/")[0]
    content: Any = OmegaConf.to_container(OmegaConf.load(config_directory() / f"{option}.yaml"))
    content = content.get(group, content)  # the group's package, or the global one
    if group in ("metrics", "tracker"):  # one entry, under its name
        (content,) = content.values() or ({},)
    if group == "callbacks" and content:  # an entry with a name of its own
        (content,) = content.values()
    return content if isinstance(content, dict) else {}


def targets_of_ours() -> set[str]:
    files = [p for p in config_directory().rglob("*.yaml") if p.parent != config_directory()]
    options = [f.relative_to(config_directory()).with_suffix("").as_posix() for f in files]
    targets = {settings_of(option).get("_target_") for option in options}
    return {target for target in targets if target and target.startswith("mnist_exp.")}


def find(target: str) -> Callable[..., Any]:
    module, _, name = target.rpartition(".")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def test_every_target_of_ours_has_a_base_option() -> None:
    assert targets_of_ours() == set(BASE)


@pytest.mark.parametrize("target", BASE)
def test_defaults_in_python_are_those_of_the_base_option(target: str) -> None:
    option = BASE[target]
    own = {"_target_", "defaults"} | OWN_KEYS.get(option.partition("/")[0], set())
    expected = {key: value for key, value in settings_of(option).items() if key not in own}
    arguments = inspect.signature(find(target)).parameters
    defaults = {name: plain(argument.default) for name, argument in arguments.items()}
    assert set(defaults) - INPUTS == set(expected) | NOT_IN_CONF.get(target, set())
    for name in REQUIRED.get(target, set()):
        assert defaults[name] is inspect.Parameter.empty
        del expected[name]
    assert {name: defaults[name] for name in expected} == expected


@pytest.mark.parametrize(
    "file",
    sorted(config_directory().rglob("*.yaml")),
    ids=lambda file: f"{file.parent.name}/{file.stem}",
)
def test_every_hyper_parameter_has_a_comment_where_it_is_declared(file: Path) -> None:
    """Options that set ``_global_`` keys or extend others are exempt: they repeat declared keys."""
    text = file.read_text().partition("\nhydra:")[0]
    if re.search(r"@package _global_|defaults: \[(epoch|/)", text):
        return
    stated = [line for line in text.splitlines() if re.match(r" *[a-z]\w*: *[^ ]", line, re.I)]
    silent = [line for line in stated if "#" not in line and not line.startswith("defaults: [")]
    assert [line for line in silent if not line.startswith("name: ")] == []  # torchvision's class


def test_defaults_of_the_loop_are_those_of_training() -> None:
    training = OmegaConf.load(config_directory() / "config.yaml").training
    defaults = {field.name: field.default for field in fields(Recipe)}
    assert defaults.pop("augmentation") is None  # augmentation=none
    assert defaults.pop("loss") is None  # loss=cross_entropy
    assert defaults == {name: training[name] for name in defaults}
    warmup = inspect.signature(averaged_model).parameters["warmup"]
    assert warmup.default == training.averaging_warmup


def test_every_part_works_by_hand(mnist: Dataset) -> None:
    """Train without Hydra: build each part directly with as few arguments as it needs."""
    model = MLP()
    constraint = DeviceConstraint(W_min=0.1, W_max=0.51)
    constraint.attach(model, seed=0)
    (split,) = Holdout().splits(mnist, seed=0)
    state = TrainState(
        model=model,
        optimizer=AsymmetricSGD(model.parameters(), lr_pos=0.1, lr_neg=0.103),
        generator=torch.Generator().manual_seed(0),
        constraint=constraint,
        averaged=averaged_model(model, 0.99),
    )
    images = Images(mnist, device=torch.device("cpu"), mean=0.1307, std=0.3081)
    recipe = Recipe(epochs=1, augmentation=Augmentation())
    train(state, Training(images, split.train[:256], recipe), lambda model: {})
    assert state.epoch == 1
    assert min(p.min().item() for p in model.parameters() if p.ndim > 1) >= 0.1
    inputs, _ = images.batch(split.test[:2])
    for network in (CNN20k(), CNN21k()):
        assert network(inputs).shape == (2, 10)
        Muon(network.parameters())
    assert GradientCollector().collects(1)
