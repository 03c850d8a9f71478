"""Runs on the other device: nothing is computed across devices, and results are the CPU's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnist_exp import PyTorchNNWrapper, evaluate_device, load_run
from mnist_exp.app.commands import export
from mnist_exp.data import Dataset
from mnist_exp.errors import UserError
from mnist_exp.experiment import run_experiment
from mnist_exp.gradients import open as open_gradients
from mnist_exp.train import Callback
from mnist_exp.train.state import TrainState
from tests.conftest import composed_once
from tests.other_device.conftest import choose
from tests.other_device.device import NAME

pytestmark = pytest.mark.other_device

SMALL = ("data.subset=200", "training.epochs=1", "plots.enabled=false", "report.enabled=false")
HOLDOUT = ("cv=holdout", "cv.validation=200", "cv.test=200")
# On a GPU: batches of all images, as it shuffles them in another order than a CPU.
WHOLE = ("training.batch_size=200", "training.epochs=4")
MLP, CNN = ("model=mlp", "model.hidden_sizes=[32]"), ("model=cnn21k",)
CNN20K = (
    *("model=cnn20k", "model.dropout=[0,0]", "augmentation=none"),
    "training.memory_format=contiguous",  # torch's batch norm in the other loses digits on a CPU
)
DEVICES = ("model=mlp100", "model.hidden_sizes=[16]", "constraint/cost=counted")
TABLE = (
    "{_target_: mnist_exp.device.TableStep, conductance: [-1, 0, 1], up: [1, 1, 0.5], "
    "down: [0.5, 1, 1]}"
)
EQUAL = {
    "mlp100": ("model=mlp100",),
    "mlp300": ("model=mlp300",),
    "mlp": ("model=mlp",),
    "cnn21k": CNN,
    "cnn20k": CNN20K,
    "channels_last": (*CNN, "training.memory_format=channels_last"),
    "auto_precision": (*MLP, "training.precision=auto"),
    "strong": (*MLP, "augmentation=strong"),
    "elastic": (*MLP, "augmentation=elastic", "augmentation.noise=0.1"),
    "averaging": (*MLP, "training.averaging=0.9"),
    "swalr": (*MLP, "scheduler=swalr"),
    "plateau": (*MLP, "scheduler=plateau"),
    "lbfgs": (*MLP, "optimizer=lbfgs"),
    "muon": (*MLP, "optimizer=muon"),
    "adagrad": (*MLP, "optimizer=adagrad"),
    "focal": (*MLP, "loss=focal"),
    "mse": (*MLP, "loss=mse"),
    "metrics": (*MLP, "metrics=[f1,ece,nll,top2,shifted]", "training.gradient_norm=true"),
    "early_stopping": (*MLP, "callbacks=early_stopping", "training.epochs=2"),
    "published": ("model=mlp100", "constraint=published"),
    "accumulate": (*DEVICES, "constraint=memristor", "constraint.rounding=accumulate"),
    "straight_through": (*DEVICES, "constraint=memristor", "constraint.rounding=straight_through"),
}
# Of these, equal on the imitation alone: a GPU augments by other numbers, and LBFGS makes its
# rounding errors large.
NEAR_ON_GPUS = ("strong", "elastic", "lbfgs", "cnn21k", "channels_last")
RANDOM = {  # the devices of a GPU draw other numbers than those of a CPU
    "dropout": ("model=cnn20k", "model.dropout=[0.1,0.1]"),
    "bf16": (*CNN, "training.precision=bf16"),
    "memristor": (*DEVICES, "constraint=memristor"),
    "retention": (
        *DEVICES, "constraint=memristor", "constraint.retain=true",
        "constraint.bound_variation=0.05", "constraint.rate_variation=0.1",
        "constraint.stuck_at_min=0.01", "constraint.stuck_at_max=0.01",
    ),
    "measured": (*DEVICES, "constraint=ag_si"),
    "read": (*DEVICES, "constraint=analog", "constraint.read.in_backward=true"),
    "read_convolutions": (*CNN, "constraint=analog", "constraint/cost=counted"),
    "wires": (*DEVICES, "constraint=analog", "constraint.read.wire_resistance=1e-4"),
    "step_model": (*DEVICES, "constraint=reram_es"),
    "table": (*DEVICES, "constraint=gokmen_vlasov", f"++constraint.curve={TABLE}"),
    "sample": (*DEVICES, "constraint=gokmen_vlasov", "constraint.apply_to=sample"),
    "tiki_taka": (*DEVICES, "constraint=gokmen_vlasov", "constraint/update=tiki_taka"),
    "tiki_taka_v2": (
        *DEVICES, "constraint=gokmen_vlasov", "constraint/update=tiki_taka_v2",
        "constraint.update.flip_probability=0.1", "constraint/read=analog",
    ),
    "thresholded": (*DEVICES, "constraint=pcm", "constraint/update=thresholded_writes"),
}  # fmt: skip


def run_on(where: str, directory: Path, *overrides: str, **more: Any) -> dict[str, Any]:
    """Train a small run on "cpu", or on the other device with "auto"."""
    config = composed_once(*SMALL, *HOLDOUT, f"runtime.device={where}", *overrides)
    return run_experiment(config, directory, **more)


def whole(gpu: torch.device) -> tuple[str, ...]:
    """Return what lets a run on a GPU be compared with one on a CPU; the imitation needs none."""
    return () if gpu.type == NAME else WHOLE


def weights(directory: Path) -> torch.Tensor:
    """Return the weights of the last epoch, as one vector."""
    state = load_run(directory).model("last").state_dict()
    return torch.cat([tensor.float().flatten() for tensor in state.values()])


@pytest.mark.parametrize("option", EQUAL)
def test_training_equals_that_on_the_cpu(
    gpu: torch.device, functions: Any, tmp_path: Path, option: str
) -> None:
    rows, before = [], functions.operations()
    for where in ("cpu", "auto"):
        results = run_on(where, tmp_path / where, *whole(gpu), *EQUAL[option])
        assert results["device"] == (gpu.type if where == "auto" else "cpu")
        rows.append([row["train_loss"] for row in results["folds"][0]["epochs"]])
    assert functions.operations() > before + 100 or gpu.type == "mps"
    if gpu.type != NAME and option in NEAR_ON_GPUS:
        torch.testing.assert_close(rows[1], rows[0], rtol=0.05, atol=0)
        return
    torch.testing.assert_close(rows[1], rows[0], rtol=1e-3, atol=0)
    on_cpu, on_gpu = (weights(tmp_path / where) for where in ("cpu", "auto"))
    assert (on_gpu - on_cpu).norm() < 1e-2 * on_cpu.norm()


@pytest.mark.parametrize("option", RANDOM)
def test_training_with_other_random_numbers_is_near_that_on_the_cpu(
    gpu: torch.device, tmp_path: Path, option: str
) -> None:
    rows = [
        run_on(where, tmp_path / where, *RANDOM[option])["folds"][0]["epochs"][-1]
        for where in ("cpu", "auto")
    ]
    assert rows[0].keys() == rows[1].keys()
    assert rows[1]["train_loss"] == pytest.approx(rows[0]["train_loss"], rel=0.05)


@pytest.mark.parametrize(("kind", "float64"), [("epoch", True), ("batch", False)])
@pytest.mark.parametrize("model", [MLP, CNN20K], ids=["mlp", "cnn20k"])
def test_gradients_of_samples_equal_those_on_the_cpu(
    gpu: torch.device,
    functions: Any,
    tmp_path: Path,
    model: tuple[str, ...],
    kind: str,
    float64: bool,
) -> None:
    functions.allow_float64(float64)
    found = []
    for where in ("cpu", "auto"):
        options = (*model, f"gradients={kind}", "training.batch_size=64", *whole(gpu))
        run_on(where, tmp_path / where, *options)
        found.append(open_gradients(tmp_path / where / "gradients" / "epoch_1"))
    assert list(found[0]) == list(found[1]) != []
    for on_cpu, on_gpu in zip(found[0].values(), found[1].values(), strict=True):
        if gpu.type == NAME:
            torch.testing.assert_close(on_gpu.norms(), on_cpu.norms(), rtol=1e-3, atol=1e-4)
            continue
        of_gpu, of_cpu = (found.norms().sort().values for found in (on_gpu, on_cpu))
        torch.testing.assert_close(of_gpu, of_cpu, rtol=1e-3, atol=1e-3 * float(of_cpu.max()))


class StopsAt(Callback):
    """Interrupt the training after some batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def on_batch_end(self, state: TrainState, loss: torch.Tensor) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "options",
    [
        ("model=cnn20k", "model.dropout=[0.1,0.1]", "augmentation=strong"),
        (*DEVICES, "constraint=reram_es", "constraint/read=analog"),
        (*DEVICES, "constraint=gokmen_vlasov", "constraint/update=tiki_taka_v2"),
        (*MLP, "optimizer=lbfgs", "model.dropout=0.2", "training.averaging=0.9"),
    ],
    ids=["dropout", "devices", "tiki_taka", "lbfgs"],
)
def test_an_interrupted_run_resumes_bit_for_bit(
    gpu: torch.device, tmp_path: Path, options: tuple[str, ...]
) -> None:
    options = (*options, "training.batch_size=30", "training.epochs=2")  # 7 batches an epoch
    run_on("auto", tmp_path / "whole", *options)
    with pytest.raises(KeyboardInterrupt):
        run_on("auto", tmp_path / "parts", *options, callbacks={"stops": StopsAt(9)})
    assert load_run(tmp_path / "parts").results["status"] != "completed"
    run_on("auto", tmp_path / "parts", *options)
    assert torch.equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


@pytest.mark.parametrize("part", [("constraint/read=analog",), ("gradients=epoch",)], ids=str)
def test_pictures_report_and_commands_take_a_run_of_the_device(
    gpu: torch.device, tmp_path: Path, part: tuple[str, ...]
) -> None:
    run = tmp_path / "run"
    options = (*DEVICES, "constraint=memristor", "augmentation=strong", *part)
    shown = ("plots.enabled=true", "report.enabled=true", "evaluation=rram")
    results = run_on("auto", run, *options, *shown, "callbacks=device_evaluation")
    assert (run / "report.html").exists()
    assert len(list((run / "plots").rglob("*.png"))) > 4
    assert (run / "device_evaluation.json").exists()
    opened = load_run(run)
    assert opened.evaluate().accuracy == results["accuracy"]["mean"]
    assert opened.predict(opened.dataset().test_images[:3].numpy()).shape == (3,)
    again = evaluate_device(opened, "evaluation.times=[1s,1d]", "evaluation.repetitions=2")
    assert len(again.table) == 4
    assert export.main([str(run), "--format", "torch"]) == 0


@pytest.mark.parametrize("starts_on_gpu", [True, False])
@pytest.mark.parametrize(
    "options", [MLP, (*DEVICES, "constraint=memristor")], ids=["mlp", "devices"]
)
def test_a_run_is_evaluated_but_not_resumed_on_another_device(
    gpu: torch.device,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    options: tuple[str, ...],
    starts_on_gpu: bool,
) -> None:
    cpu = torch.device("cpu")
    first, then = (gpu, cpu) if starts_on_gpu else (cpu, gpu)
    options = (*options, "training.batch_size=50", "training.epochs=2")
    losses = []
    for device in (first, then):
        choose(monkeypatch, device)
        if device == first:
            with pytest.raises(KeyboardInterrupt):
                run_on("auto", tmp_path, *options, callbacks={"stops": StopsAt(6)})
        else:
            with pytest.raises(UserError, match=r"was not saved on .*; resume on the kind"):
                run_on("auto", tmp_path, *options)
        losses.append(load_run(tmp_path).evaluate(epoch="last").loss)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_the_classifier(gpu: torch.device, mnist: Dataset) -> None:
    X = (mnist.train_images[:500].reshape(500, -1) / 255).numpy()
    y = mnist.train_labels[:500].numpy()
    weight = np.linspace(0.5, 1, 500)
    on_cpu, on_gpu = (
        PyTorchNNWrapper(
            epochs=2,
            batch_size=128 if gpu.type == NAME else 500,
            device=device,
            random_state=0,
            early_stopping=True,
            quantize=False,
        ).fit(X, y, sample_weight=weight)
        for device in ("cpu", "auto")
    )
    assert on_gpu.loss_curve_ == pytest.approx(on_cpu.loss_curve_, rel=1e-3)
    np.testing.assert_allclose(on_gpu.predict_proba(X), on_cpu.predict_proba(X), atol=1e-3)


CUDA_IN_A_FORK = """
import torch
from mnist_exp.cpu import fork_server
with fork_server.process_context().Pool(1) as pool:
    print("CUDA can start:", not pool.apply(torch.cuda._is_in_bad_fork))
"""


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="torch is built without CUDA")
def test_cuda_can_start_in_a_fork_of_the_server() -> None:
    """It cannot where the server's imports have asked for CUDA's devices; no GPU is needed."""
    command = [sys.executable, "-c", CUDA_IN_A_FORK]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert output == "CUDA can start: True\n"
