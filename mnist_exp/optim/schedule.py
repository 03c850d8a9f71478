"""Check of a run's learning rates and momenta before it starts."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mnist_exp.errors import UserError
from mnist_exp.wording import counted

MOST_STEPS = 200_000  # checked at the start of a run; takes about three seconds
ROUNDING = 1e-9  # tolerance below 0, as a share of the rate
LEAST_SHARE = 1e-3  # of the peak; a rate that stays below trains nothing
# Other rates of a group, stored as multiples of lr.
RATIOS = ("neg_to_pos", "vector_to_matrix")


def check_schedule(
    optimizer: Optimizer,
    build_scheduler: Callable[[Optimizer], LRScheduler | None],
    steps: int,
    names: tuple[str, str],
) -> bool:
    """Step a scheduler through a run without training, and check every rate and momentum.

    Schedulers whose ``step()`` needs arguments, such as ReduceLROnPlateau, are not stepped.

    Parameters
    ----------
    optimizer : Optimizer
        Without a scheduler yet; its rates change, its parameters do not.
    build_scheduler : callable
        Makes the optimizer's scheduler, or None for constant rates.
    steps : int
        Scheduler steps in the run, batches or epochs.
    names : tuple of str
        Optimizer and scheduler as named in messages, settings included.

    Returns
    -------
    bool
        Whether any rate or momentum changes within the run.

    Raises
    ------
    UserError
        If a rate is negative or not finite, a momentum is outside [0, 1), all rates are 0 or
        nearly so, or the scheduler fails; names the first such step.
    """
    for mistake in _mistakes(optimizer):
        raise UserError(f"{names[0]}: {mistake}.")
    scheduler = build_scheduler(optimizer)
    first = [dict(group) for group in optimizer.param_groups]
    if scheduler is None or not steps_alone(scheduler):
        if all(group.get("lr") == 0 for group in first):
            raise UserError(f"{names[0]}: at a learning rate of 0 nothing is trained.")
        return scheduler is not None
    largest, changes = 0.0, False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the missing optimizer.step()
        for step in range(1, min(steps, MOST_STEPS) + 1):
            for mistake in _mistakes(optimizer):
                raise UserError(f"{names[1]}: {mistake}, at step {step} of {steps}.")
            largest = max(largest, *(float(group["lr"]) for group in optimizer.param_groups))
            changes = changes or _differ(first, optimizer.param_groups)
            try:
                scheduler.step()
            except Exception as error:
                raise UserError(f"{names[1]}: fails at step {step} of {steps}: {error}") from error
    peak = max(float(group.get("max_lr", 0.0)) for group in first)
    if largest <= LEAST_SHARE * peak and steps <= MOST_STEPS:
        raise UserError(
            f"{names[1]}: in {counted(steps, 'step')} the learning rate never exceeds {largest:g}, "
            "so nothing is trained. Take more epochs, smaller batches or a constant rate."
        )
    return changes


def steps_alone(part: Optimizer | LRScheduler) -> bool:
    """Whether ``step()`` needs no argument, such as a closure or a monitored value."""
    try:
        # of the class: schedulers replace that of the optimizer itself
        inspect.signature(type(part).step).bind(part)
    except TypeError:
        return False
    return True


def _differ(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> bool:
    keys = ("lr", "momentum", "betas")
    return any(
        one.get(key) != other.get(key)
        for one, other in zip(before, now, strict=True)
        for key in keys
    )


def _mistakes(optimizer: Optimizer) -> Iterator[str]:
    """Describe every rate and momentum that is out of range."""
    for group in optimizer.param_groups:
        rate = float(group.get("lr", 0.0))
        lowest = -ROUNDING * abs(group.get("max_lr", group.get("initial_lr", 0.0)))
        for value in (rate, *(rate * group[ratio] for ratio in RATIOS if ratio in group)):
            if not lowest <= value < math.inf:
                yield f"a learning rate of {value:g}; it must be finite and at least 0"
        for momentum in (group.get("momentum"), *group.get("betas", ())):
            if momentum is not None and not -ROUNDING <= momentum < 1:
                yield f"a momentum of {momentum:g}; it must be at least 0 and below 1"
