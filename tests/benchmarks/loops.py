"""Training epochs to time: ours, bare tensor operations, and common ways to write them.

Each function prepares everything and returns ``epoch()``, which trains one epoch on `count` images
(60,000 unless set by `use_images`). All start from the same configuration, with the same network,
optimizer, batch size and data.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from mnist_exp.callbacks.gradient_norm import GradientNorm
from mnist_exp.cpu.float32_matmul import fast_float32_products
from mnist_exp.data import Dataset, load_mnist
from mnist_exp.experiment import build
from mnist_exp.files.shipped_config import config_directory
from mnist_exp.train.backprop.autograd import fast_products
from mnist_exp.train.loop import Training, train
from mnist_exp.train.state import TrainState

Epoch = Callable[[], None]
CPU = torch.device("cpu")


def configured(*overrides: str) -> DictConfig:
    """Compose a configuration that trains on the 60,000 official training images.

    100 epochs, so that a schedule as long as the run does not end while timing.
    """
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        return compose(
            "config", [*overrides, "cv=none", "deterministic=false", "training.epochs=100"]
        )


ALL = 60_000  # training images
_images = ALL


def use_images(images: int) -> None:
    """Set the images per epoch, for all contenders in this process."""
    global _images  # noqa: PLW0603
    _images = images


def count() -> int:
    """Return the number of images per epoch."""
    return _images


@cache
def dataset() -> Dataset:
    """Load MNIST once per process."""
    return load_mnist()


def _state(config: DictConfig) -> TrainState:
    return build.build_state(config, 10, count(), CPU, seed=0)


def ours(*overrides: str) -> Epoch:
    """The package's own training loop."""
    return ours_with_model(*overrides)[0]


def ours_with_model(*overrides: str) -> tuple[Epoch, nn.Module]:
    """The package's own training loop, and the network that it trains."""
    config = configured(*overrides)
    images = build.build_images(config, dataset(), CPU)
    recipe = build.build_recipe(config, CPU)
    state = _state(config)
    indices = torch.arange(count())
    callbacks = [GradientNorm()] if config.training.gradient_norm else []

    def epoch() -> None:
        one_more = replace(recipe, epochs=state.epoch + 1)
        train(state, Training(images, indices, one_more), lambda model: {}, callbacks)

    return epoch, state.model


def bare(*overrides: str, compiled: bool = False) -> Epoch:
    """Only the tensor operations that training needs, with autograd and no framework.

    With ``compiled``, the network goes through torch.compile, which needs a C++ compiler.
    """
    config = configured(*overrides)
    images = build.build_images(config, dataset(), CPU)
    recipe = build.build_recipe(config, CPU)
    state = _state(config)
    model, optimizer, scheduler = state.model, state.optimizer, state.scheduler
    network = torch.compile(model) if compiled else model

    def epoch() -> None:
        with fast_float32_products(CPU):
            steps()

    def steps() -> None:
        model.train()
        for batch in torch.randperm(count()).split(recipe.batch_size):
            inputs, labels = images.batch(batch, recipe.augmentation, state.generator)
            with fast_products(CPU, recipe.precision):
                loss = F.cross_entropy(
                    network(inputs), labels, label_smoothing=recipe.label_smoothing
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if state.constraint is not None:
                state.constraint.step()
            if state.averaged is not None:
                state.averaged.update_parameters(model)
            if scheduler is not None:
                scheduler.step()

    return epoch


def _float_images(config: DictConfig) -> torch.Tensor:
    images = build.build_images(config, dataset(), CPU)
    return images.batch(torch.arange(count()))[0]


def usual_script(*overrides: str) -> Epoch:
    """The usual script: DataLoader over float tensors, autograd, float32, torch's defaults."""
    config = configured(*overrides, "training.precision=fp32", "training.averaging=null")
    state = _state(config)
    model, optimizer, scheduler = state.model, state.optimizer, state.scheduler
    training = TensorDataset(_float_images(config).contiguous(), dataset().train_labels[: count()])
    loader = DataLoader(training, batch_size=config.training.batch_size, shuffle=True)
    criterion = nn.CrossEntropyLoss(label_smoothing=config.training.label_smoothing)
    model.to(memory_format=torch.contiguous_format)

    def epoch() -> None:
        model.train()
        correct, loss_sum = 0, 0.0
        for inputs, labels in loader:
            optimizer.zero_grad()
            logits = model(inputs)
            loss = criterion(logits, labels)
            loss.backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            loss_sum += loss.item() * len(labels)
            correct += (logits.argmax(1) == labels).sum().item()

    return epoch


def skorch(*overrides: str) -> Epoch:
    """The same network and optimizer under skorch's NeuralNetClassifier."""
    from skorch import NeuralNetClassifier

    config = configured(*overrides)
    state = _state(config)
    accepted = inspect.signature(type(state.optimizer)).parameters.keys() - {"params"}
    group = {k: v for k, v in state.optimizer.param_groups[0].items() if k in accepted}
    net = NeuralNetClassifier(
        state.model,
        criterion=nn.CrossEntropyLoss,
        optimizer=type(state.optimizer),
        batch_size=config.training.batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        max_epochs=1,
        verbose=0,
        **{f"optimizer__{key}": value for key, value in group.items()},
    )
    net.initialize()
    images = _float_images(config).numpy()
    labels = dataset().train_labels[: count()].numpy().astype(np.int64)
    return lambda: net.partial_fit(images, labels)


def lightning(*overrides: str) -> Epoch:
    """The same network and optimizer under Lightning's Trainer, logging and progress off."""
    import logging
    import warnings

    from lightning import LightningModule, Trainer

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")  # its advice on worker counts
    config = configured(*overrides)
    state = _state(config)

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = state.model

        def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
            inputs, labels = batch
            return F.cross_entropy(self.network(inputs), labels)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return state.optimizer

    training = TensorDataset(_float_images(config).contiguous(), dataset().train_labels[: count()])
    loader = DataLoader(training, batch_size=config.training.batch_size, shuffle=True)
    module = Module()

    def epoch() -> None:
        trainer = Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, loader)

    return epoch
