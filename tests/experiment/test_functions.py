"""Losses and metrics of the configuration: built, judged, and in everything that a run writes."""

from __future__ import annotations

import csv
import json
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from mnist_exp.__main__ import find_modules_here
from mnist_exp.app.commands.view_results import main as view_results
from mnist_exp.errors import UserError
from mnist_exp.experiment.functions import build_loss, build_metrics
from mnist_exp.experiment.ignored_settings import keys_of
from mnist_exp.experiment.run import run_experiment
from mnist_exp.interruption import Interrupted
from mnist_exp.run.report import summary_lines
from mnist_exp.run.reproduction import compare
from mnist_exp.run.results import finished_results
from mnist_exp.train.functions import FunctionFailed
from mnist_exp.train.losses import focal, mse
from mnist_exp.train.metrics import is_minimized, top_k_accuracy
from tests.app.test_resume import StopAfter
from tests.conftest import Compose
from tests.helpers.fault_injection import CNN, KFOLD, command, composed, outcome

HERE = "tests.experiment.test_functions"
CPU = torch.device("cpu")


def surprise(logits: Tensor, labels: Tensor, power: float = 1.0) -> dict[str, float]:
    """A metric: mean and largest of -log p, and a number that does not exist."""
    values = -(logits.log_softmax(1).gather(1, labels[:, None]) ** power)
    return {"mean": values.mean().item(), "max": values.max().item(), "none": float("nan")}


class Share:
    """A metric with settings: the share of images of one class."""

    minimize = True

    def __init__(self, label: int) -> None:
        self.label = label

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return (labels == self.label).double().mean()


class Hinge(nn.Module):
    """A loss with a tensor on the compute device."""

    margin: Tensor

    def __init__(self, margin: Tensor) -> None:
        super().__init__()
        self.register_buffer("margin", margin)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        own = logits.gather(1, labels[:, None])
        return (logits - own + self.margin).relu().mean()


class Trained(nn.Linear):
    def __init__(self) -> None:
        super().__init__(1, 1)


class Counting:
    """A metric whose values are called differently each time."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        self.calls += 1
        return {str(self.calls): 1.0}


def fails(logits: Tensor, labels: Tensor) -> float:
    raise KeyError("lost")


def no_number(logits: Tensor, labels: Tensor) -> Tensor:
    return logits


def metric(name: str, **settings: object) -> list[str]:
    return [
        f"+metrics.mine._target_={HERE}.{name}",
        *(f"+metrics.mine.{key}={value}" for key, value in settings.items()),
    ]


def test_the_default_loss_is_that_of_the_fast_ways(compose_config: Compose) -> None:
    assert build_loss(compose_config("training.label_smoothing=0.1"), 10, CPU) is None


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["loss=mse"], mse),
        (["loss=focal", "loss.gamma=3"], partial(focal, gamma=3)),
        (
            ["loss=focal", "loss.alpha=[1,2,3]"],
            partial(focal, alpha=torch.tensor([1.0, 2.0, 3.0])),
        ),
        (
            ["loss.weight=[1,2,3]", "training.label_smoothing=0.2"],
            nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0]), label_smoothing=0.2),
        ),
        (
            [
                "loss._target_=torch.nn.CrossEntropyLoss",
                "loss.weight=[1,2,3]",
                "training.label_smoothing=0.1",
            ],
            nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0]), label_smoothing=0.1),
        ),
        (
            ["loss._target_=torch.nn.functional.cross_entropy", "+loss.label_smoothing=0.3"],
            nn.CrossEntropyLoss(label_smoothing=0.3),
        ),
        (["loss._target_=torch.nn.MultiMarginLoss", "+loss.p=2"], nn.MultiMarginLoss(p=2)),
        ([f"loss._target_={HERE}.Hinge", "+loss.margin=[1,2,3]"], Hinge(torch.tensor([1, 2, 3]))),
    ],
)
def test_a_loss_is_what_its_target_makes(
    compose_config: Compose, overrides: list[str], expected: Any
) -> None:
    loss = build_loss(compose_config(*overrides), 3, CPU)
    assert loss is not None
    logits, labels = torch.randn(20, 3), torch.arange(20) % 3
    assert torch.equal(loss(logits, labels), expected(logits, labels))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss._target_=nowhere.Loss"], r"^loss\._target_=nowhere\.Loss: is not a usable target"),
        (["loss=focal", "+loss.delta=1"], r"^loss: .*focal: .*'delta'"),
        (["loss.weight=[1,2]"], r"^loss\.weight=\[1\.0, 2\.0\]: allowed is a number for each of"),
        ([f"loss._target_={HERE}.Trained"], r"^loss\._target_=.*Trained: has parameters"),
        ([f"loss._target_={HERE}.no_number"], r"^loss \(.*no_number\): returns a Tensor \[3, 3\]"),
        ([f"loss._target_={HERE}.Hinge", "+loss.margin=[x]"], r"^loss\.margin=\['x'\]: is not a"),
        (["loss._target_=fractions.Fraction"], r"^loss\._target_=.*makes a Fraction, which cannot"),
    ],
)
def test_a_wrong_loss_is_refused(
    compose_config: Compose, overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        build_loss(compose_config(*overrides), 3, CPU)


def test_metrics_of_every_form_of_the_group(compose_config: Compose) -> None:
    for form, names in {
        "metrics={}": [],
        "metrics=none": [],
        "metrics=top2": ["top2"],
        "metrics=[top2,ece]": ["top2", "ece"],
    }.items():
        metrics = build_metrics(compose_config(form, *metric("Share", label=3)))
        assert list(metrics) == [*names, "mine"]
        assert isinstance(metrics["mine"], Share)
        assert is_minimized(metrics["mine"])
    top3 = build_metrics(compose_config("metrics=top2", "metrics.top2.k=3"))["top2"]
    assert isinstance(top3, partial)
    assert (top3.func, top3.keywords) == (top_k_accuracy, {"k": 3})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (metric("Share"), r"^metrics\.mine: .*Share: missing a required argument: 'label'"),
        (metric("Share", label="x"), r"^metrics\.mine\.label=x: allowed is a whole number"),
        (metric("surprise", powr=2), r"^metrics\.mine: .*surprise: .*'powr'.* settings are: power"),
        (metric("nowhere"), r"^metrics\.mine\._target_=.*nowhere: is not a usable target"),
        (metric("no_number"), r"^metrics\.mine \(.*no_number\): returns a value of type Tensor"),
        ([f"+metrics.loss._target_={HERE}.surprise"], r"^metrics\.loss: every evaluation has"),
        (["loss=focal", "gradients=epoch"], r"^gradients=epoch: .* loss is mnist_exp.*\.focal"),
        (["loss=focal", "gradients=batch"], r"^gradients=batch: .* Use gradients=none"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_written(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run_experiment(composed(*CNN, *overrides), tmp_path / "run")
    assert list((tmp_path / "run").glob("*")) == []


@pytest.mark.parametrize("key", ["metrics.mine", "loss"])
def test_an_error_of_the_users_names_it_before_anything_is_written(
    tmp_path: Path, key: str
) -> None:
    target = metric("fails") if key == "metrics.mine" else [f"loss._target_={HERE}.fails"]
    with pytest.raises(FunctionFailed, match=rf"^{key} \(.*fails\) failed: KeyError: 'lost'"):
        run_experiment(composed(*CNN, *target), tmp_path / "run")
    assert list((tmp_path / "run").glob("*")) == []


def test_values_of_other_names_in_each_epoch_are_refused(tmp_path: Path) -> None:
    config = composed(*CNN, "cv=holdout", "cv.validation=50", "cv.test=50", *metric("Counting"))
    with pytest.raises(UserError, match=r"^metrics\.mine: validation_mine\.1 is a value of only"):
        run_experiment(config, tmp_path / "run")


def test_label_smoothing_of_a_loss_without_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ["training.label_smoothing=0.1"]
    for loss, warns in (("mse", True), ("cross_entropy", False)):
        config = composed(*CNN, f"loss={loss}", *said)
        run_experiment(config, tmp_path / loss, said=keys_of(said))
        errors = capsys.readouterr().err
        assert ("label_smoothing=0.1 has no effect: the loss, mnist_exp" in errors) == warns
        assert ("note: backpropagation by autograd (" in errors) == warns


EVERYTHING = [
    "metrics=[top2,ece,f1]",
    *metric("surprise", power=2),
    f"loss._target_={HERE}.Hinge",
    "+loss.margin=[1,1,1,1,1,1,1,1,1,2]",
    "training.test_every_epoch=true",
]


@pytest.mark.slow
def test_folds_report_metrics_and_go_on_bit_by_bit(tmp_path: Path) -> None:
    config = composed(*KFOLD, *EVERYTHING, "plots.enabled=true", "plots.num_samples=1")
    run_experiment(config, tmp_path / "whole")
    results = finished_results(tmp_path / "whole")
    assert results is not None
    assert results["backpropagation"].startswith("autograd (chain rule of linear layers: for")
    names = ["top2", "ece", *(f"f1.{k}" for k in range(10))]
    names += ["mine.mean", "mine.max", "mine.none"]
    assert list(results["metrics"]) == names
    for name in names:
        values = [fold["metrics"][name] for fold in results["folds"]]
        found = results["metrics"][name]
        if name == "mine.none":
            assert (values, found) == ([None, None], {"mean": None, "std": None, "n": 0})
            continue
        assert found["mean"] == pytest.approx(statistics.mean(values))
        assert found["std"] == pytest.approx(statistics.stdev(values))
        for fold in results["folds"]:  # the reported epoch is the last one
            assert fold["epochs"][-1][f"test_{name}"] == fold["metrics"][name]
    lines = summary_lines(results, tmp_path)
    top2 = results["metrics"]["top2"]
    assert any(line.startswith(f"metrics: top2 {top2['mean']:.2%}") for line in lines)
    assert any(line.startswith("mine: mean:") and line.endswith("none:-") for line in lines)
    for checks in (1, 4):
        with pytest.raises(Interrupted):
            run_experiment(config, tmp_path / "pieces", StopAfter(checks))
    run_experiment(config, tmp_path / "pieces")
    assert outcome(tmp_path / "pieces") == outcome(tmp_path / "whole")
    assert compare(str(tmp_path / "whole"), results)["identical"]
    results["folds"][0]["metrics"]["ece"] += 1e-9
    compared = compare(str(tmp_path / "whole"), results)
    assert compared["result"] == ["fold 1: metrics was another one and is another one"]


@pytest.mark.slow
def test_other_folds_never_see_the_state_of_a_loss(tmp_path: Path) -> None:
    config = composed(*KFOLD, "cv.n_jobs=2", *EVERYTHING)
    run_experiment(config, tmp_path / "parallel", side_by_side=True)
    config.cv.n_jobs = 1
    run_experiment(config, tmp_path / "serial")
    one, other = (finished_results(tmp_path / name) for name in ("parallel", "serial"))
    assert one is not None
    assert other is not None
    assert one["metrics"] == other["metrics"]


MODULE = """
import torch


def margin(logits, labels):
    best = logits.topk(2).values
    return {"mean": (best[:, 0] - best[:, 1]).mean(), "least": (best[:, 0] - best[:, 1]).min()}


def smooth_hinge(logits, labels, scale=1.0):
    own = logits.gather(1, labels[:, None])
    return scale * torch.nn.functional.softplus(logits - own).mean()
"""


@pytest.mark.slow
def test_a_module_of_the_users_by_command_line_in_sweeps_and_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "users_module.py").write_text(MODULE)
    own = ["+metrics.margin._target_=users_module.margin", "metrics=[top2]"]
    own += [
        "loss._target_=users_module.smooth_hinge",
        "+loss.scale=2.0",
        "plots.enabled=false",
        "report.enabled=false",
    ]
    small = ["model=mlp", "data.subset=100", "cv.validation=50", "cv.test=100", "threads=1"]
    small += ["scheduler=constant"]

    def ran(*arguments: str) -> tuple[int, str]:
        return command(*arguments, cwd=tmp_path, prepare=find_modules_here)

    code, output = ran("-m", *own, *small, "seed=0,1", "training.epochs=2", "hydra.sweep.dir=s")
    assert code == 0, output
    assert " | validation " in output
    with (tmp_path / "s" / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ["top2", "margin.mean", "margin.least"]
    columns = [f"{part}_{name}" for name in names for part in ("test", "validation")]
    assert list(rows[0]) == [
        *("job", "seed", "accuracy", "std_accuracy", "validation_accuracy"),
        *(*columns, "wall_seconds", "threads", "host", "status", "error"),
    ]
    for row in rows:
        results = finished_results(tmp_path / "s" / row["job"])
        assert results is not None
        (fold,) = results["folds"]
        reported = fold["epochs"][fold["selected_epoch"] - 1]
        for name in names:
            assert float(row[f"test_{name}"]) == fold["metrics"][name]
            assert float(row[f"validation_{name}"]) == reported[f"validation_{name}"]
    header, *_ = (line for line in output.splitlines() if "seconds" in line)  # of two tables
    assert header.split()[1:5] == ["accuracy", "validation", "test_top2", "validation_top2"]
    assert view_results([str(tmp_path / "s"), "--sort", "accuracy"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["accuracy", "validation", "top2"]
    code, output = ran(*own, *small, "training.epochs=1", "hydra.run.dir=r")
    assert code == 0, output
    _, refused = ran("resume=r", "training.epochs=2")
    assert "metrics.margin._target_=users_module.margin" in refused
    assert "loss._target_=users_module.smooth_hinge" in refused
    code, output = ran("resume=r", "trust=true", "training.epochs=2")
    assert code == 0, output
    one, other = (finished_results(tmp_path / name) for name in ("r", "s/0"))
    assert one is not None
    assert other is not None
    assert one["metrics"] == other["metrics"]
    assert one["folds"][0]["weights_sha256"] == other["folds"][0]["weights_sha256"]
    assert json.loads((tmp_path / "r" / "metrics.jsonl").read_text().splitlines()[1])["epoch"] == 2
    assert OmegaConf.load(tmp_path / "r" / "config.yaml").loss.scale == 2.0
