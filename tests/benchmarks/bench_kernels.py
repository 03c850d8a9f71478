"""Timings behind `mnist_exp/cpu/kernels/measurements.py`, for the build in use.

    MNIST_EXP_KERNELS=avx2 python -m tests.benchmarks.bench_kernels

Ratios are torch's time over the kernels': above 1 the kernels are faster.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mnist_exp.cpu.features import cpu_name
from mnist_exp.cpu.kernels import kernels_for
from mnist_exp.cpu.kernels.functions import Kernels
from mnist_exp.cpu.threads import cpu_threads, one_thread
from mnist_exp.data import load_mnist
from mnist_exp.models import MLP
from mnist_exp.train.backprop.mlp import LinearLayers

REPEATS = 60
NETWORKS = (([100], 128), ([512], 64), ([300, 300], 32))  # hidden layers and batch size


def seconds(work: Callable[[], object]) -> float:
    """Return the 20th percentile of the times of ``REPEATS`` calls."""
    work()
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.quantiles(times, n=5)[0]


def training(kernels: Kernels, pixels: Tensor) -> None:
    """Print a row for each network, with mostly zero inputs and with no zeros."""
    for hidden, batch in NETWORKS:
        model = MLP(hidden_sizes=hidden, num_classes=10, activation="relu", dropout=0.0)
        way = LinearLayers(model, 0.0, "fp32")
        compiled = way.compiled
        assert compiled is not None, "there are kernels"
        labels = torch.arange(batch) % 10
        for inputs in (pixels[:batch], pixels[:batch] - 0.4):
            with torch.no_grad(), one_thread():
                of_torch = seconds(partial(way._chain, inputs, labels))
                ours = seconds(partial(compiled, kernels, inputs, labels))
            density = kernels.density(inputs, 16)
            print(
                f"  784-{hidden}-10, batch {batch}, density {density:.2f}: {of_torch * 1e6:.0f} us "
                f"and {ours * 1e6:.0f} us, {of_torch / ours:.2f}"
            )


def main() -> None:
    """Print the ratios with one thread and with all threads."""
    kernels = kernels_for()
    if kernels is None:
        raise SystemExit("there are no compiled kernels here")
    pixels = load_mnist().train_images[:1024].flatten(1) / 255
    print(f"{cpu_name()}, kernels {kernels.build}, torch {torch.__version__}")
    for threads in sorted({1, torch.get_num_threads()}):
        print(f"{threads} thread(s)")
        with cpu_threads(threads):
            training(kernels, pixels)


if __name__ == "__main__":
    main()
