"""A first step that cannot be taken is refused before the run begins, and a trial changes none."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import LBFGS, SGD
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from mnist_exp.errors import UserError
from mnist_exp.experiment import first_step
from mnist_exp.experiment.run import run_experiment
from mnist_exp.schema import check
from tests.helpers.fault_injection import SMALL, composed, outcome

HERE = __name__
RUN = (
    *(f"model._target_={HERE}.Linear", "optimizer=sgd", "scheduler=constant", "augmentation=none"),
    *("cv.validation=100", "data.subset=100", *SMALL),
)


class Linear(nn.Module):
    """Ten logits of an image; subclasses give something else."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(784, 10)

    def forward(self, images: Tensor) -> Any:
        return self.layer(images.flatten(1))


class Pair(Linear):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images), images


class PairInTraining(Linear):
    def forward(self, images: Tensor) -> Any:
        logits = super().forward(images)
        return (logits, images) if self.training else logits


class Few(Linear):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images)[:, :3]


class Whole(Linear):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images).long()


class Detached(Linear):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images).detach()


class Squeezing(Linear):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images).squeeze(0)


class Bug(Linear):
    def forward(self, images: Tensor) -> Any:
        return self.missing(images)  # type: ignore[operator]


class Normalised(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, 16), nn.BatchNorm1d(16), nn.Linear(16, 10))


class InPlace(Linear):
    def forward(self, images: Tensor) -> Any:
        weights = torch.sigmoid(super().forward(images))
        result = weights * weights
        with torch.no_grad():
            weights.add_(1)  # which the backward pass needs
        return result


class Asks(SGD):
    """An optimizer whose step takes something that nobody gives."""

    def step(self, closure: Any, *, temperature: float) -> Any:  # type: ignore[override]
        return super().step(closure)


class Breaks(SGD):
    def step(self, closure: Any = None) -> Any:
        raise ZeroDivisionError("no rate")


class Twice(LBFGS):
    """LBFGS whose closure returns what it does not."""

    def step(self, closure: Any) -> Any:  # type: ignore[override]
        return closure().item().backward()


class Keeps(SGD):
    """An optimizer whose state no checkpoint holds."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            group["function"] = lambda: None
        return super().step(closure)


class Watches(ReduceLROnPlateau):
    """A scheduler that watches two values."""

    def step(self, losses: Any, accuracies: Any) -> None:  # type: ignore[override]
        raise AssertionError


class Fails(LRScheduler):
    """A scheduler that fails once the optimizer has taken a step."""

    def get_lr(self) -> list[float]:  # type: ignore[override]
        if self.optimizer.state:
            raise KeyError("rate")
        return [group["lr"] for group in self.optimizer.param_groups]


def halved(images: Tensor, *, generator: Any, erase_value: float) -> Tensor:
    return images[::2]


def broken(images: Tensor, *, generator: Any, erase_value: float) -> Tensor:
    raise IndexError("no pixel")


def augmentation(which: str) -> Any:
    return globals()[which]


MODELS = {
    "Pair": r"Pair gives a tuple .*expected are logits \[2, 10\].*Return the tensor of logits",
    "PairInTraining": r"gives a tuple .*in training mode; expected are logits \[25, 10\]",
    "Few": r"Few gives \[2, 3\] .*expected are logits \[2, 10\].*Give the last layer 10 outputs",
    "Whole": r"Whole gives \[2, 10\] torch\.int64 .*Convert them to float",
    "Detached": r"Detached gives logits without gradient.*without detach",
    "Bug": r"Bug fails on a batch .*AttributeError: .*'missing'.*test_first_step.py, line \d+",
    "InPlace": r"InPlace fails in the first step of training: RuntimeError: .*inplace operation",
}
OPTIMIZERS = {
    "Asks": r"Asks fails in the first step.*TypeError: .*'temperature'.*Step it as torch's do",
    "Breaks": r"Breaks fails in the first step.*ZeroDivisionError: no rate .*line \d+",
    "Twice": r"Twice fails in the first step.*AttributeError: 'float'.*line \d+",
    "Keeps": r"optimizer\.state_dict\(\).*'function'.*is a function",
}
WRONG: dict[str, tuple[list[str], str]] = {
    **{name: ([f"model._target_={HERE}.{name}"], message)
       for name, message in MODELS.items()},
    **{name: ([f"optimizer={'lbfgs' if name == 'Twice' else 'sgd'}",
               f"optimizer._target_={HERE}.{name}"], message)
       for name, message in OPTIMIZERS.items()},
    "a scheduler of two values": (
        [f"scheduler._target_={HERE}.Watches", "scheduler.interval=epoch"],
        r"scheduler: .*Watches fails in the first step.*'accuracies'.*step\(value\)",
    ),
    "a scheduler that fails after a step": (
        [f"scheduler._target_={HERE}.Fails", "optimizer=adam"],
        r"scheduler: .*Fails fails in the first step.*KeyError: 'rate'.*line \d+",
    ),
    "an augmentation that drops images": (
        [f"augmentation._target_={HERE}.augmentation", "+augmentation.which=halved"],
        r"augmentation: .* gives \[13, 1, 28, 28\].*\[25, 1, 28, 28\]",
    ),
    "an augmentation that fails": (
        [f"augmentation._target_={HERE}.augmentation", "+augmentation.which=broken"],
        r"augmentation: .*fails in the first step.*IndexError: no pixel.*line \d+",
    ),
    "BatchNorm of a last batch of one image": (
        [f"model._target_={HERE}.Normalised",
         "training.batch_size=33"],
        r"last batch of an epoch has a single image \(100 images in batches of 33\).*"
        r"set training\.batch_size=32",
    ),
    "logits squeezed for one image": (
        [f"model._target_={HERE}.Squeezing",
         "training.batch_size=33"],
        r"Squeezing gives \[10\] for a batch of images \[1, 1, 28, 28\]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_it_is_told_in_a_sentence_before_anything_is_written(tmp_path: Path, name: str) -> None:
    overrides, message = WRONG[name]
    config = composed(*RUN, *overrides)
    check(config)
    with pytest.raises(UserError, match=f"(?s){message}"):
        run_experiment(config, tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


class Draws(Linear):
    """Draws from every random generator when it is built and used."""

    def forward(self, images: Tensor) -> Any:
        noise = random.random() + np.random.random() + torch.rand(1)
        return super().forward(images) * (1 + 0.01 * noise)


VALIDATED = ("cv=holdout", "cv.validation=100")
RECIPES: dict[str, tuple[str, ...]] = {
    "everything of the package": (
        *("model=cnn20k", "augmentation=strong", "optimizer=muon", "training.averaging=0.9"),
        *("model.dropout=[0.1,0.1]", "training.precision=fp32", *VALIDATED),
    ),
    "devices": ("model=mlp100", "constraint=memristor", "constraint.write_noise=0.1", *VALIDATED),
    "folds": ("model=mlp100", "cv=kfold", "cv.n_splits=2", "cv.n_jobs=1"),
    "watched": (
        "model=mlp",
        "scheduler=plateau",
        "model.dropout=0.3",
        "optimizer=lbfgs",
        *VALIDATED,
    ),
    "random numbers of the user's": (f"model._target_={HERE}.Draws",),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_trial_changes_no_bit_of_the_run(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = composed("data.subset=100", *SMALL, "training.epochs=1", *RECIPES[name])
    found = []
    for tried in (True, False):
        if not tried:
            monkeypatch.setattr("mnist_exp.experiment.checks.try_first_step", lambda fold: None)
        monkeypatch.setattr(first_step, "_passed", set())  # other tests may have tried the same
        random.seed(0)
        np.random.seed(0)
        run_experiment(config, tmp_path / str(tried))
        found.append(outcome(tmp_path / str(tried)))
    assert found[0] == found[1]


def test_a_loss_that_diverges_at_once_is_left_to_the_training(tmp_path: Path) -> None:
    config = composed(*RUN, "optimizer=sgd", "optimizer.lr=1e38")
    with pytest.raises(UserError, match=r"the loss is (nan|inf) in epoch 1, batch"):
        run_experiment(config, tmp_path)


def test_a_large_batch_is_tried_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_step, "LARGEST", 8)
    sizes: list[int] = []

    def forward(layer: nn.Linear, inputs: Tensor) -> Tensor:
        sizes.append(len(inputs))
        return F.linear(inputs, layer.weight, layer.bias)

    monkeypatch.setattr(nn.Linear, "forward", forward)
    run_experiment(composed(*RUN, "training.batch_size=30", "training.epochs=1"), tmp_path)
    before = sizes[: sizes.index(30)]
    assert (8 in before, max(before)) == (True, 8)
