"""Every optimizer and scheduler of torch trains and resumes, or is refused by name."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig
from torch import optim
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

from mnist_exp.errors import UserError
from mnist_exp.experiment.run import run_experiment
from mnist_exp.interruption import Interrupted
from mnist_exp.schema import check
from tests.app.test_resume import StopAfter
from tests.helpers.fault_injection import SMALL, composed, outcome

RUN = ("model=mlp", "model.hidden_sizes=[16]", "cv.validation=100", "data.subset=100", *SMALL)
PARAMETERS = ("momentum", "nesterov", "weight_decay", "fused")
IN_SECOND_EPOCH = 6  # checks for a stop: four batches, an epoch's end and a batch


def subclasses(module: Any, base: type) -> dict[str, str]:
    return {
        name: f"{module.__name__}.{name}"
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, base)
    }


OPTIMIZERS = subclasses(optim, optim.Optimizer)
SCHEDULERS = subclasses(lr_scheduler, lr_scheduler.LRScheduler)
SCHEDULERS["SWALR"] = f"{SWALR.__module__}.SWALR"
ARGUMENTS = {
    "StepLR": ["step_size=1"],
    "MultiStepLR": ["milestones=[1]"],
    "ExponentialLR": ["gamma=0.5"],
    "CosineAnnealingLR": ["T_max=null"],
    "CyclicLR": ["base_lr=0.001", "max_lr=0.01"],
    "CosineAnnealingWarmRestarts": ["T_0=2"],
    "OneCycleLR": ["max_lr=null", "total_steps=null"],
    "PolynomialLR": ["total_iters=null"],
    "SWALR": ["swa_lr=0.01", "anneal_epochs=2"],
}
REFUSED = {
    "Optimizer": "is the base class",
    "SparseAdam": "takes sparse gradients only.*optimizer=adam",
    "Muon": "takes matrices only.*optimizer=muon",
    "LRScheduler": "is the base class",
    "_LRScheduler": "is the base class",
    "LambdaLR": "missing a required argument: 'lr_lambda'",
    "MultiplicativeLR": "missing a required argument: 'lr_lambda'",
    "SequentialLR": "is made of schedulers.*function of the optimizer",
    "ChainedScheduler": "is made of schedulers.*function of the optimizer",
}


def check_and_run(config: DictConfig, directory: Path) -> None:
    check(config)
    run_experiment(config, directory)


def runs_or_is_refused(name: str, path: str, overrides: list[str], directory: Path) -> None:
    config = composed(*RUN, *overrides)
    check(config)
    if name in REFUSED:
        with pytest.raises(UserError, match=rf"{path}.*{REFUSED[name]}"):
            run_experiment(config, directory / "whole")
        assert not list((directory / "whole").iterdir())
        return
    run_experiment(config, directory / "whole")
    with pytest.raises(Interrupted):
        run_experiment(config, directory / "pieces", StopAfter(IN_SECOND_EPOCH))
    run_experiment(config, directory / "pieces")
    assert outcome(directory / "pieces") == outcome(directory / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(tmp_path: Path, name: str) -> None:
    others = [f"~optimizer.{key}" for key in PARAMETERS]
    overrides = ["optimizer=sgd", *others, f"optimizer._target_={OPTIMIZERS[name]}"]
    runs_or_is_refused(name, OPTIMIZERS[name], [*overrides, "optimizer.lr=0.01"], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers(tmp_path: Path, name: str, interval: str) -> None:
    overrides = [f"scheduler._target_={SCHEDULERS[name]}", f"scheduler.interval={interval}"]
    overrides += [f"+scheduler.{argument}" for argument in ARGUMENTS.get(name, [])]
    config = ["scheduler=constant", *overrides, "optimizer=sgd", "optimizer.momentum=0.9"]
    if name == "ReduceLROnPlateau" and interval == "step":
        with pytest.raises(UserError, match=r"set scheduler\.interval=epoch"):
            run_experiment(composed(*RUN, *config), tmp_path)
        return
    if name == "OneCycleLR" and interval == "epoch":
        config.append("scheduler.total_steps=3")  # of two steps, the rate would rise in none
    runs_or_is_refused(name, SCHEDULERS[name], config, tmp_path)


def test_a_scheduler_whose_state_no_checkpoint_holds_is_refused(tmp_path: Path) -> None:
    overrides = ["scheduler=constant", f"scheduler._target_={__name__}.Lambda"]
    with pytest.raises(UserError, match=r"scheduler\.state_dict\(\)\['function'\]: is a function"):
        run_experiment(composed(*RUN, *overrides), tmp_path)
    assert not list(tmp_path.iterdir())


class Lambda(lr_scheduler.ExponentialLR):
    """Keeps a function, which `torch.load(weights_only=True)` would refuse."""

    def __init__(self, optimizer: optim.Optimizer) -> None:
        self.function = lambda: None
        super().__init__(optimizer, 0.5)


@pytest.mark.parametrize("option", ["optimizer=lbfgs", "scheduler=plateau", "scheduler=swalr"])
def test_options_train_and_resume(tmp_path: Path, option: str) -> None:
    runs_or_is_refused("", "", [option, "model.dropout=0.2", "augmentation=light"], tmp_path)


def test_lbfgs_takes_one_group_of_parameters(tmp_path: Path) -> None:
    overrides = ["optimizer=lbfgs", "training.decay_norm_and_bias=false"]
    with pytest.raises(UserError, match=r"decay_norm_and_bias=false: torch\.optim\.LBFGS"):
        run_experiment(composed(*RUN, *overrides), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["scheduler.monitor=test_loss"], "test images decide nothing"),
        (["scheduler.monitor=validation_best"], "allowed is one of: train_loss, .*validation_acc"),
        (["cv.validation=0"], "there are no validation images; set cv=holdout.*monitor train_loss"),
        (["cv=stratified_kfold"], "there are no validation images; set cv=holdout"),
        (["scheduler=step", "+scheduler.monitor=train_loss"], "StepLR monitors nothing"),
    ],
)
def test_what_cannot_be_monitored_is_refused(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    words = [word for word in RUN if not word.startswith("cv.validation")]
    words = [*words, "cv=holdout", "cv.validation=100", "scheduler=plateau", *overrides]
    if "cv=stratified_kfold" in words:
        words = [word for word in words if not word.startswith("cv.validation")]
    config = composed(*words)
    with pytest.raises(UserError, match=message):
        check_and_run(config, tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_a_name_plateau_monitors_the_validation_loss_or_that_of_training(
    tmp_path: Path,
) -> None:
    config = composed(*RUN, "scheduler=plateau", "scheduler.monitor=null", "cv.validation=0")
    assert run_experiment(config, tmp_path)["status"] == "completed"
