"""A package outside the repository with one of each extension: used, killed and resumed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from mnist_exp.__main__ import find_modules_here
from tests.helpers.fault_injection import command, few_images, outcome

LAB = '''
import os
import signal

import torch
from matplotlib.figure import Figure

from mnist_exp.device import Effect
from mnist_exp.train import Callback


class MeanLoss(Callback):
    """A callback with state and a figure; it kills its process where the environment says so."""

    def __init__(self):
        self.total, self.count = 0.0, 0

    def on_batch_end(self, state, loss):
        self.total += float(loss)
        self.count += 1
        if os.environ.get("LAB_KILL_AT") == str(self.count):
            os.kill(os.getpid(), signal.SIGKILL)

    def on_step_logged(self, state, row):
        row["mean_loss"] = self.total / self.count

    def on_epoch_end(self, state, row):
        row["mean_loss"] = self.total / self.count

    def state_dict(self):
        return {"total": self.total, "count": self.count}

    def load_state_dict(self, saved):
        self.total, self.count = saved["total"], saved["count"]

    def figures(self, folds):
        figure = Figure()
        figure.subplots().plot([row["mean_loss"] for row in folds[0].history])
        return {"mean_loss": figure}


class TemperatureDrift(Effect):
    """An effect with state and random numbers."""

    def __init__(self, rate):
        self.rate, self.steps = rate, 0

    def __call__(self, w, before):
        self.steps += 1
        heat = torch.rand(len(w), generator=self.generator, device=w.device)
        w.mul_(1 + self.rate * self.steps * heat)

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, saved):
        self.steps = saved["steps"]


def margin(logits, labels):
    """A metric: mean distance of the true logit to the largest other one."""
    true = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    return {"mean": (true - others).mean().item(), "worst": (true - others).min().item()}


def hinge(logits, labels, distance=1.0):
    """A loss."""
    return torch.nn.functional.multi_margin_loss(logits, labels, margin=distance)


class Notebook(Callback):
    """A tracker."""

    def on_epoch_end(self, state, row):
        with open("notebook.txt", "a") as file:
            print(state.epoch, row["mean_loss"], row["validation_margin.worst"], file=file)
'''
RUN = (
    *("model=mlp100", "constraint=memristor", "cv=holdout", "cv.validation=100"),
    *("data.subset=200", "training.epochs=3", "training.batch_size=25", "training.log_every=3"),
    *("threads=1", "plots.dpi=20", "plots.num_samples=4", "+callbacks.mean._target_=lab.MeanLoss"),
    "constraint.effects=[{_target_: lab.TemperatureDrift, rate: 1e-6}]",
    *("+metrics.margin._target_=lab.margin", "loss._target_=lab.hinge"),
    *("+loss.distance=0.5", "+tracker.notebook._target_=lab.Notebook"),
)


def run(cwd: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run ``python -m mnist_exp`` in the package's directory."""

    def prepare() -> None:
        find_modules_here()
        os.environ.update(environment)

    return command(*arguments, cwd=cwd, prepare=prepare)


@pytest.mark.slow
def test_one_of_each_is_used_killed_and_resumed_bit_for_bit(tmp_path: Path) -> None:
    for name in ("whole", "pieces"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lab.py").write_text(LAB)
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    settings = (*few_images(), *RUN, "hydra.run.dir=run")
    code, output = run(whole, *settings)
    assert code == 0, output
    assert run(pieces, *settings, LAB_KILL_AT="13")[0] == -signal.SIGKILL
    code, output = run(pieces, "resume=run")
    assert code == 2
    assert "lab.MeanLoss" in output
    assert "trust=true" in output
    code, output = run(pieces, "resume=run", "trust=true")
    assert code == 0, output
    assert outcome(pieces / "run") == outcome(whole / "run")
    for file in ("run/steps.jsonl", "notebook.txt"):
        assert (pieces / file).read_text() == (whole / file).read_text()
    assert (pieces / "run" / "plots" / "mean_loss.png").stat().st_size > 500
    results = json.loads((pieces / "run" / "results.json").read_text())
    assert set(results["metrics"]) == {"margin.mean", "margin.worst"}
    assert "autograd" in results["backpropagation"]
    last = json.loads((pieces / "run" / "steps.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 24
    assert "mean_loss" in last
