"""``python -m mnist_exp env-check``: a table of versions, processor, kernels and data."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator

from mnist_exp.app.commands import argument_parser
from mnist_exp.wording import counted


def rows() -> Iterator[tuple[str, str]]:
    """Yield the name and value of each line.

    Raises
    ------
    UserError
        If the bundled data is damaged.
    """
    import torch

    from mnist_exp.cpu.features import cpu_features, cpu_name
    from mnist_exp.cpu.float32_matmul import library
    from mnist_exp.cpu.ops import absence, description
    from mnist_exp.data import load_mnist
    from mnist_exp.run.provenance import versions
    from mnist_exp.train.compute_device import fast_precision

    yield "platform", platform.platform()
    yield from versions().items()
    yield "CPU", f"{cpu_name()}, {counted(torch.get_num_threads(), 'torch thread')}"
    yield "CPU features", ", ".join(cpu_features()) or "none of note"
    cpu = torch.device("cpu")
    kernels = description(cpu)
    but = "" if kernels == "torch" else "; fp32 where the kernels train a CNN"
    yield "precision auto", f"{fast_precision(cpu)} on the CPU{but}"
    yield "fp32 products", f"{library(cpu)} on the CPU"
    yield "kernels", absence(cpu) or f"{kernels} on the CPU"
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    yield "CUDA device", cuda
    yield "MPS device", "yes" if torch.backends.mps.is_available() else "none"
    started = time.perf_counter()
    dataset = load_mnist()
    seconds = time.perf_counter() - started
    yield (
        "bundled MNIST",
        f"{len(dataset.train_labels):,} + {len(dataset.test_labels):,} images, MD5 as published, "
        f"loaded in {seconds:.2f} s",
    )


def main(arguments: list[str]) -> int:
    """Print the table."""
    argument_parser("env-check").parse_args(arguments)
    for name, finding in rows():
        print(f"{name:<14} {finding}")
    return 0
