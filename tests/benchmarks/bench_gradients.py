"""Norms of all per-sample gradients of 784-512-10 on the 60,000 training images of MNIST.

    python -m tests.benchmarks.bench_gradients

Compares this package with loops over single samples and with Opacus, at equal weights and thread
counts; then ``experiment=gradients`` with and without its collection. Each measurement runs in its
own process, fast ones several times, and the median is shown. The slow loops and Opacus'
GradSampleModule run on ``--slow-samples`` images, with times scaled to all.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_exp.data import Dataset, load_mnist
from mnist_exp.gradients import CollectionSettings, Samples, collect
from mnist_exp.models import MLP

NUM_SAMPLES = 60_000
REPEATS = 2


def normalise(pixels: Tensor) -> Tensor:
    return pixels.unsqueeze(1).float().mul_(1 / (255 * 0.3081)).sub_(0.1307 / 0.3081)


def network() -> nn.Module:
    torch.manual_seed(0)
    return MLP(hidden_sizes=[512], num_classes=10, activation="relu", dropout=0.0)


def published_loop(dataset: Dataset, count: int) -> Tensor:
    """Each sample alone, its gradients copied and stacked batch by batch, as published."""
    model = network()
    norms = []
    for ids in torch.arange(count).split(64):
        collected: dict[str, list[Tensor]] = {name: [] for name, _ in model.named_parameters()}
        for i in ids.tolist():
            model.zero_grad()
            inputs, label = normalise(dataset.images[i : i + 1]), dataset.labels[i : i + 1]
            F.cross_entropy(model(inputs), label).backward()
            for name, parameter in model.named_parameters():
                if parameter.grad is not None:
                    collected[name].append(parameter.grad.detach().cpu().clone())
        stacked = [torch.stack(gradients) for gradients in collected.values()]
        squares = [gradients.flatten(1).square().sum(1) for gradients in stacked]
        norms.append(torch.stack(squares).sum(0).sqrt())
    return torch.cat(norms)


def one_at_a_time(dataset: Dataset, count: int) -> Tensor:
    """Each sample alone, keeping only norms: the leanest loop."""
    model = network()
    norms = torch.empty(count)
    for i in range(count):
        loss = F.cross_entropy(
            model(normalise(dataset.images[i : i + 1])), dataset.labels[i : i + 1]
        )
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        norms[i] = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    return norms


def opacus(dataset: Dataset, count: int) -> Tensor:
    """GradSampleModule: stores a batch's gradients in ``.grad_sample``, 100 MB."""
    from opacus import GradSampleModule

    model = GradSampleModule(network(), loss_reduction="sum")
    norms = []
    for ids in torch.arange(count).split(64):
        logits = model(normalise(dataset.images[ids]))
        F.cross_entropy(logits, dataset.labels[ids], reduction="sum").backward()
        squares = [p.grad_sample.flatten(1).square().sum(1) for p in model.parameters()]
        norms.append(torch.stack(squares).sum(0).sqrt())
        model.zero_grad()
    return torch.cat(norms)


def opacus_ghost(dataset: Dataset, count: int) -> Tensor:
    """Opacus' ghost norms, which also build no per-sample gradients."""
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

    model = GradSampleModuleFastGradientClipping(
        network(), loss_reduction="sum", max_grad_norm=1.0, use_ghost_clipping=True
    )
    norms = []
    for ids in torch.arange(count).split(1024):
        logits = model(normalise(dataset.images[ids]))
        F.cross_entropy(logits, dataset.labels[ids], reduction="sum").backward()
        norms.append(model.get_norm_sample())
        model.zero_grad()
    return torch.cat(norms)


def ours(format: str, cosine: bool) -> Callable[[Dataset, int], Tensor]:
    """Our collection, files included."""

    def run(dataset: Dataset, count: int) -> Tensor:
        from mnist_exp import gradients

        samples = Samples(dataset.images, dataset.labels, torch.arange(count), normalise, False)
        with tempfile.TemporaryDirectory(dir="outputs") as directory:
            collect(network(), samples, directory, settings(format, cosine), epoch=1)
            return gradients.open(Path(directory) / "epoch_1").norms()

    return run


def settings(format: str, cosine: bool) -> CollectionSettings:
    """The settings of conf/gradients, except for format and cosine."""
    return CollectionSettings(
        parameters=None,
        format=format,
        dtype="float32",
        dropout=False,
        label_smoothing=0.0,
        cosine=cosine,
        top_k=20,
        working_memory=128,
        seed=0,
    )


SLOW = {
    "one at a time, published": published_loop,
    "one at a time, norms only": one_at_a_time,
    "Opacus GradSampleModule": opacus,
}
FAST = {
    "Opacus ghost norms (no mean, no files)": opacus_ghost,
    "ours, statistics": ours("statistics", cosine=False),
    "ours, statistics and cosines": ours("statistics", cosine=True),
    "ours, factored files": ours("factored", cosine=False),
    "ours, factored files and cosines": ours("factored", cosine=True),
}


def peak_memory() -> float:
    """Return the largest resident size of this process so far, MiB."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB here


def measure_norms(name: str, count: int) -> dict[str, object]:
    """Time one way to the norms, after a few training steps set the memory baseline."""
    dataset = load_mnist()
    model = network()
    for ids in torch.arange(640).split(64):
        F.cross_entropy(model(normalise(dataset.images[ids])), dataset.labels[ids]).backward()
    before = peak_memory()
    run = (SLOW | FAST)[name]
    seconds = []
    for _ in range(1 if name in SLOW else REPEATS):
        start = time.perf_counter()
        norms = run(dataset, count)
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": statistics.median(seconds) * NUM_SAMPLES / count,
        "memory": peak_memory() - before,
        "norms": norms[:100].tolist(),
    }


def measure_training() -> dict[str, float]:
    """Time training of ``experiment=gradients`` with and without collection, alternating."""
    ways = {
        "off": "gradients=none",
        "statistics": "gradients.format=statistics",
        "factored": "gradients.format=factored",
        "factored, cosines": "gradients.cosine=true",
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory(dir="outputs") as directory:
        for number, (name, override) in enumerate([*ways.items()] * REPEATS):
            run = f"{directory}/{number}"
            command = [sys.executable, "-m", "mnist_exp", "experiment=gradients", override]
            command += ["plots.enabled=false", f"hydra.run.dir={run}"]
            subprocess.run(command, check=True, capture_output=True)
            seconds[name].append(json.loads(Path(run, "results.json").read_text())["wall_seconds"])
            shutil.rmtree(run)
    return {name: statistics.median(times) for name, times in seconds.items()}


def file_megabytes() -> float:
    """Size of the factored files of all samples."""
    dataset = load_mnist()
    samples = Samples(dataset.images, dataset.labels, torch.arange(NUM_SAMPLES), normalise, False)
    with tempfile.TemporaryDirectory(dir="outputs") as directory:
        collect(network(), samples, directory, settings("factored", cosine=True), epoch=1)
        return sum(f.stat().st_size for f in (Path(directory) / "epoch_1").iterdir()) / 1e6


def in_own_process(*arguments: str) -> dict[str, object]:
    """Run one measurement from this file in a new process."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_gradients", "--measure", *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, object] = json.loads(output.splitlines()[-1])
    return result


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--slow-samples", type=int, default=1_000)
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, *rest = options.measure
        print(json.dumps(measure_norms(what, int(rest[0]))))
        return
    print(
        f"784-512-10, 60,000 samples, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print_norms(options.slow_samples)
    print(f"factored files with statistics: {file_megabytes():.0f} MB")
    training = measure_training()
    for name, value in training.items():
        ratio = value / training["off"]
        print(f"experiment=gradients, collection {name:18s} {value:6.2f} s   {ratio:.2f} x")


def print_norms(slow_samples: int) -> None:
    """Print a row for each way to the norms; all must agree."""
    print(f"{'':40s} {'seconds':>8s} {'speed-up':>9s} {'extra memory':>13s}")
    reference: dict[str, object] = {}
    for name in (*SLOW, *FAST):
        if name.startswith("Opacus") and find_spec("opacus") is None:
            print(f"{name:40s} left out: Opacus is not installed (pip install mnist_exp[bench])")
            continue
        row = in_own_process(name, str(slow_samples if name in SLOW else NUM_SAMPLES))
        reference = reference or row
        torch.testing.assert_close(
            torch.tensor(row["norms"]), torch.tensor(reference["norms"]), rtol=1e-4, atol=1e-5
        )
        speed_up = float(reference["seconds"]) / float(row["seconds"])  # type: ignore[arg-type]
        print(f"{name:40s} {row['seconds']:8.2f} {speed_up:8.1f}x {row['memory']:9.0f} MiB")


if __name__ == "__main__":
    main()
