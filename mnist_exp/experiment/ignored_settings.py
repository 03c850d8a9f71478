"""Warnings, before training, about settings the user gave that have no effect."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf

from mnist_exp.experiment.sweep_defaults import draws
from mnist_exp.run.saved_config import key_of
from mnist_exp.schema.rule import shown
from mnist_exp.wording import counted

# keys without effect, and the reason
Ignored = tuple[tuple[str, ...], str]


@dataclass(frozen=True)
class Facts:
    """Facts about a run that its configuration does not contain.

    Attributes
    ----------
    train_size, test_size : int
        Images of the first split.
    folds : int
        Number of splits.
    momentum : bool
        Whether the optimizer has a momentum or beta1 that a scheduler can change.
    schedule_changes : bool
        Whether any rate or momentum changes within the run.
    smoothing : bool
        Whether the loss smooths labels by ``training.label_smoothing``.
    in_sweep : bool
        Whether it is a job of a sweep.
    """

    train_size: int
    test_size: int
    folds: int
    momentum: bool
    schedule_changes: bool
    smoothing: bool
    in_sweep: bool = False


def keys_of(overrides: Iterable[str]) -> frozenset[str]:
    """Return the keys and groups set by command-line overrides."""
    return frozenset(key_of(override).partition("@")[0] for override in overrides)


def ignored_settings(config: DictConfig, said: Collection[str], facts: Facts) -> list[str]:
    """Return a warning for each key in ``said`` that has no effect.

    Keys set only by a preset are not reported.
    """
    found = [
        *_of_data(config, facts),
        *_of_training(config, facts),
        *_of_scheduler(config, facts),
        *_of_constraint(config.constraint),
        *_of_gradients(config, facts),
    ]
    lines = [
        f"{key}={shown(OmegaConf.select(config, key))} has no effect: {reason}."
        for keys, reason in found
        for key in keys
        if key in said
    ]
    of_scheduler = any(key.partition(".")[0] == "scheduler" for key in said)
    target = config.scheduler.get("_target_")
    if of_scheduler and target is not None and not facts.schedule_changes:
        lines.append(f"scheduler: {target} changes nothing within this run.")
    return lines


def _of_data(config: DictConfig, facts: Facts) -> Iterator[Ignored]:
    if config.data.normalization == "unit":
        yield ("data.mean", "data.std"), "data.normalization=unit leaves pixels in [0, 1]"
    if config.augmentation.get("strength") == 0:
        keys = tuple(f"augmentation.{key}" for key in config.augmentation if key != "strength")
        yield keys, "augmentation.strength=0 multiplies it"
    if config.model.get("weights") is None:
        yield ("model.strict",), "model.weights=null starts from random weights"
    if config.model.get("hidden_sizes") == []:
        yield ("model.activation", "model.dropout"), "the network has no hidden layer"
    if (config.cv.get("n_jobs") or 1) > facts.folds:
        yield ("cv.n_jobs",), f"the run has {counted(facts.folds, 'fold')} to train at once"


def _of_training(config: DictConfig, facts: Facts) -> Iterator[Ignored]:
    training = config.training
    if training.batch_size > facts.train_size:
        yield (
            ("training.batch_size",),
            f"a batch is all {facts.train_size} training images, one step an epoch",
        )
    if not facts.smoothing:
        where = "loss.label_smoothing is given" if "label_smoothing" in config.loss else None
        reason = where or f"the loss, {config.loss.get('_target_')}, smooths no labels"
        yield ("training.label_smoothing",), reason
    if training.averaging is None:
        yield ("training.averaging_warmup",), "training.averaging=null averages no weights"
    if not (training.decay_norm_and_bias or config.optimizer.get("weight_decay")):
        yield ("training.decay_norm_and_bias",), "the optimizer has no weight decay"
    if not draws(config, facts.in_sweep):
        reason = "plots.enabled=false draws nothing"
        if config.plots.enabled is None:
            reason = "the jobs of a sweep draw nothing without plots.enabled=true"
        yield ("plots.dpi", "plots.format", "plots.num_samples"), reason
    elif config.plots.num_samples > (fewest := min(facts.train_size, facts.test_size)):
        yield ("plots.num_samples",), f"there are {fewest} images to show"


def _of_scheduler(config: DictConfig, facts: Facts) -> Iterator[Ignored]:
    scheduler, optimizer = config.scheduler, config.optimizer
    if scheduler.get("_target_") is None:
        yield ("scheduler.interval",), "the rate is constant"
    of_cycle = ("scheduler.base_momentum", "scheduler.max_momentum")
    cycles = scheduler.get("cycle_momentum")
    if cycles and not facts.momentum:
        yield ("scheduler.cycle_momentum", *of_cycle), "the optimizer has no momentum"
    elif cycles is False:
        yield of_cycle, "scheduler.cycle_momentum=false leaves the momentum as it is"
    elif cycles:
        low, high = scheduler.get("base_momentum"), scheduler.get("max_momentum")
        first_beta = (optimizer.get("betas") or [None])[0]
        for key, value in (("momentum", optimizer.get("momentum")), ("betas", first_beta)):
            # a value between the two is close enough to the cycle
            if None not in (low, high, value) and not low <= value <= high:
                reason = f"scheduler.cycle_momentum=true moves the momentum from {low} to {high}"
                yield (f"optimizer.{key}",), reason
    if scheduler.get("max_lr") is not None and "vector_lr" not in optimizer:
        yield ("optimizer.lr",), "scheduler.max_lr is the peak of the learning rate"


def _of_constraint(constraint: DictConfig) -> Iterator[Ignored]:
    def keys(*names: str) -> tuple[str, ...]:
        return tuple(f"constraint.{name}" for name in names)

    if constraint.get("retain") is False:
        names = keys("retention", "retention_tau", "retention_target")
        yield names, "constraint.retain=false lets nothing drift"
    if constraint.get("mapping") == "direct":
        yield keys("gain"), "with constraint.mapping=direct a weight is a conductance"
    if isinstance(constraint.get("curve"), DictConfig):
        yield keys("clip"), "constraint.curve is a step model, whose devices keep their bounds"
    flaws = ("nonlinearity_ltp", "nonlinearity_ltd", "write_noise", "rate_variation")
    in_pulses = constraint.get("pulse_rounding") != "none" or any(map(constraint.get, flaws))
    if constraint.get("quantize") is False:
        names = keys("rounding") if in_pulses else keys("rounding", "levels")
        yield names, "constraint.quantize=false rounds to no levels"
    elif constraint.get("clip") is False and constraint.get("rounding") != "straight_through":
        yield keys("clip"), "constraint.quantize=true keeps the bounds as well"


def _of_gradients(config: DictConfig, facts: Facts) -> Iterator[Ignored]:
    gradients = config.gradients
    if gradients.get("_target_") is None:
        return
    samples = gradients.get("max_samples") or facts.train_size
    if gradients.get("mode") == "batch":
        names = ("gradients.sample_choice", "gradients.augmented")
        yield names, "gradients=batch takes what training sees"
    else:
        if samples >= facts.train_size:
            yield ("gradients.sample_choice",), "all training images are taken"
        if samples > facts.train_size:
            yield ("gradients.max_samples",), f"there are {facts.train_size} training images"
        if gradients.get("augmented") and config.augmentation.get("_target_") is None:
            yield ("gradients.augmented",), "augmentation=none changes no image"
    if gradients.get("top_k", 0) > min(samples, facts.train_size):
        yield ("gradients.top_k",), "all samples are listed, there are fewer"
    if gradients.get("format") == "statistics":
        yield ("gradients.dtype",), "gradients.format=statistics stores no gradient"
