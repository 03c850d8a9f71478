"""Try the first step of a training before the run begins, on parts built for that alone."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mnist_exp.data.batches import Augmentation
from mnist_exp.errors import UserError
from mnist_exp.experiment import build
from mnist_exp.experiment.fold import Fold
from mnist_exp.experiment.logits import check_logits, place_of
from mnist_exp.run.saved_state import check_plain
from mnist_exp.schema.parts import PARTS
from mnist_exp.train.evaluate import evaluate
from mnist_exp.train.functions import FunctionFailed
from mnist_exp.train.loop import TrainState, train
from mnist_exp.train.random_state import random_state_kept
from mnist_exp.train.state import Row
from mnist_exp.train.training import Training

LARGEST = 256  # images in a batch that is tried; a larger one takes longer and shows no more
# Settings of torch's and our optimizers that make no step fail, whatever number they are; but 0
# may be a case of its own.
RATES = ("lr", "lr_pos", "lr_neg", "vector_lr", "weight_decay")
_passed: set[str] = set()  # trials of this process, as `_tried`


def try_first_step(fold: Fold) -> None:
    """Train a new network on a batch and on one as small as an epoch's last, and evaluate it.

    The training loop itself does so, with an optimizer, a scheduler and a constraint built as the
    fold's. Nothing of the fold changes, no random generator moves and nothing is printed. Where an
    earlier run of this process, as a job of the same sweep, tried the same, this does nothing.

    Raises
    ------
    UserError
        Naming the part that fails, what it raised and where.
    """
    config, parts = fold.parts.config, fold.parts
    tried = _tried(fold)
    if tried in _passed:
        return
    where = Where()
    with _nothing_left(parts.device), fold.signals.at_once():
        state = build.build_state(
            config,
            parts.dataset.num_classes,
            len(fold.split.train),
            parts.device,
            fold.seed,
            validated=fold.split.validation is not None,
            metrics=parts.metrics,
            pretrained=parts.pretrained,
            image_shape=parts.dataset.image_shape,
        )
        training = _short(fold, where)
        _check_forward(fold, state.model, training)
        where.watch("optimizer", state.optimizer, "step")
        where.watch("scheduler", state.scheduler, "step")
        where.watch("constraint", state.constraint, "step")
        where.watch("training.averaging", state.averaged, "update_parameters")
        try:
            train(state, training, lambda model: _evaluated(fold, state, where))
            where.part = "optimizer"
            check_plain(state.optimizer.state_dict(), "optimizer.state_dict()")
        except (UserError, FunctionFailed):
            raise
        except Exception as error:
            if where.part is None and not isinstance(error, RuntimeError):  # a bug of this package
                raise
            raise UserError(_failure(fold, where.part or "model", error)) from error
    if tried is not None:
        _passed.add(tried)


def _tried(fold: Fold) -> str | None:
    """Name all that decides whether the trial passes; None if code of the user's has a say."""
    config = {key: value for key, value in fold.run.config.items() if key != "seed"}
    if not all(target in PARTS for target in _targets(config)):
        return None
    optimizer = config["optimizer"]
    config["optimizer"] = optimizer | {k: bool(optimizer[k]) for k in RATES if k in optimizer}
    sizes = {name: len(indices) for name, indices in fold.split.parts.items()}
    files = [fold.run.data_sha256, fold.run.weights_sha256]
    return json.dumps([config, sizes, files], sort_keys=True)


def _targets(value: Any) -> Iterator[str]:
    """Yield every ``_target_`` in a plain value that is not null."""
    if isinstance(value, dict):
        if (target := value.get("_target_")) is not None:
            yield target
        for item in value.values():
            yield from _targets(item)
    elif isinstance(value, list):
        for item in value:
            yield from _targets(item)


class Where:
    """Which part is at work, to name it in a message; None: forward or backward pass."""

    part: str | None = None

    def watch(self, part: str, owner: Any, method: str) -> None:
        """Have ``part`` named while a method of an object that is tried runs."""
        if owner is not None:
            setattr(owner, method, self.named(part, getattr(owner, method)))

    def named(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same, and leaves the part's name where it fails."""

        def call(*arguments: Any, **keywords: Any) -> Any:
            before, self.part = self.part, part
            result = function(*arguments, **keywords)
            self.part = before
            return result

        return call


@contextlib.contextmanager
def _nothing_left(device: torch.device) -> Iterator[None]:
    """Restore the random generators after a block, and drop what it prints and warns of."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with (
            random_state_kept(device),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # training warns of the same
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _sizes(fold: Fold) -> tuple[int, int]:
    """Return the images in a full batch and in an epoch's last one, at most `LARGEST`."""
    images, batch_size = len(fold.train_indices), fold.training.recipe.batch_size
    full = min(images, batch_size, LARGEST)
    return full, min(images % batch_size or batch_size, full)


def _short(fold: Fold, where: Where) -> Training:
    """Return the fold's training of one epoch of a full and a last batch."""
    full, last = _sizes(fold)
    recipe = fold.training.recipe
    augmentation = copy.deepcopy(recipe.augmentation)
    if augmentation is not None:
        augmentation = where.named("augmentation", _checked(augmentation, fold))
    return replace(
        fold.training,
        indices=fold.train_indices[: full + (last if last < full else 0)],
        recipe=replace(
            recipe,
            epochs=1,
            batch_size=full,
            augmentation=augmentation,
            loss=copy.deepcopy(recipe.loss),
            on_nan="skip",  # training reports a step that diverges
            log_every=None,
        ),
    )


def _checked(augmentation: Augmentation, fold: Fold) -> Augmentation:
    """Return an augmentation whose images are checked to be as many and of the same size."""

    def call(images: Tensor, **keywords: Any) -> Tensor:
        before, after = list(images.shape), augmentation(images, **keywords)
        found = list(after.shape) if isinstance(after, Tensor) else type(after).__name__
        if found != before:
            raise UserError(
                f"augmentation: {fold.parts.config.augmentation.get('_target_')} gives {found} "
                f"for a batch of images {before}; allowed is a tensor of the same shape."
            )
        return after

    return call


def _check_forward(fold: Fold, model: nn.Module, training: Training) -> None:
    """Check the logits of both batches in training mode, where BatchNorm and dropout act."""
    config, classes = fold.parts.config, fold.parts.dataset.num_classes
    for size in dict.fromkeys(_sizes(fold)):
        inputs, _ = fold.parts.images.batch(training.indices[:size])
        try:
            logits = check_logits(config, model, inputs, classes, training=True)
        except UserError as error:
            if size > 1 or len(fold.train_indices) == 1:
                raise
            raise UserError(f"{error} {_last_batch(fold)}") from error
        if not logits.requires_grad:
            raise UserError(
                f"model: {config.model.get('_target_')} gives logits without gradient, so nothing "
                "would be trained. Compute them from parameters, outside of torch.no_grad() and "
                "without detach()."
            )


def _last_batch(fold: Fold) -> str:
    images, batch_size = len(fold.train_indices), fold.training.recipe.batch_size
    fitting = next(b for b in range(batch_size - 1, 0, -1) if images % b != 1 or b == 1)
    return (
        f"The last batch of an epoch has a single image ({images:,} images in batches of "
        f"{batch_size:,}), of which BatchNorm takes no statistics: set training.batch_size="
        f"{fitting}, for instance."
    )


def _evaluated(fold: Fold, state: TrainState, where: Where) -> Row:
    """Evaluate on a few images; return a number for the scheduler to monitor."""
    parts = fold.parts
    for indices in fold.split.parts.values():
        # as many as in the last batch of an evaluation, which may be a single one
        size = len(indices) % parts.config.training.eval_batch_size or 2
        where.named("model", evaluate)(
            state.evaluated_model,
            parts.images,
            indices[: min(size, LARGEST)].to(parts.device),
            batch_size=LARGEST,
            precision=parts.recipe.precision,
        )
    watched = state.scheduler_monitor
    return {} if watched is None or watched.startswith("train_") else {watched: 1.0}


def _failure(fold: Fold, part: str, error: Exception) -> str:
    config = fold.parts.config
    names = [part]
    if part in ("model", "optimizer", "scheduler", "constraint", "augmentation"):
        names.append(str(config[part].get("_target_")))
    return (
        f"{': '.join(names)} fails in the first step of training: {type(error).__name__}: "
        f"{_one_line(error)}{place_of(error)}.{_advice(part, error)}"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _advice(part: str, error: Exception) -> str:
    advice: Sequence[tuple[str, str]] = (
        ("scheduler", " Step it as torch's do: step() without arguments, or step(value)."),
        ("optimizer", " Step it as torch's do: step(), or step(closure) that it evaluates."),
    )
    signature = isinstance(error, TypeError) and "argument" in str(error)
    return next((text for name, text in advice if name == part and signature), "")
