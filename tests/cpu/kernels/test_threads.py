"""Results are bit-identical for any number of threads, and under concurrent calls."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from mnist_exp.cpu.threads import available, cpu_threads, one_thread
from mnist_exp.data import Dataset
from mnist_exp.data.batches import Images
from mnist_exp.device.effects import Round
from mnist_exp.device.random_source import RandomSource
from mnist_exp.models import MLP
from mnist_exp.optim import AsymmetricSGD
from mnist_exp.train.backprop.mlp import LinearLayers
from tests.helpers.kernel_builds import COMPILED, using

CPU = torch.device("cpu")


@pytest.fixture(params=COMPILED, scope="module", autouse=True)
def _build(request: pytest.FixtureRequest) -> Iterator[None]:
    with using(request.param):
        yield


def results(mnist: Dataset, threads: int) -> list[Tensor]:
    """Return the outputs of every kernel that shares work, on more than one piece of work each."""
    generator = torch.Generator().manual_seed(0)
    model = MLP(hidden_sizes=[150, 40], num_classes=10, activation="relu", dropout=0.0)
    for p in model.parameters():
        p.data = torch.randn(p.shape, generator=generator) / 20
    weight = next(model.parameters())
    optimizer = AsymmetricSGD(model.parameters(), lr_pos=0.3, lr_neg=0.2, momentum=0.9)
    layers = LinearLayers(model, 0.1, "fp32")
    assert layers.compiled is not None
    with cpu_threads(threads):
        images = Images(mnist, device=CPU, mean=0, std=1)
        inputs, labels = images.batch(torch.arange(0, 70_000, 331))
        assert layers.compiled.kernels_for(inputs.flatten(1), labels) is not None
        found = [inputs]
        for random in (None, RandomSource(0, CPU)):
            found += layers(inputs, labels)
            optimizer.step()
            Round(1e-4, 0.0, -0.1, 0.1, 1000, random)(weight.data.view(-1), None)
            found += [p.detach().clone() for p in model.parameters()]
        return found


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True))


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_no_bit_depends_on_the_number_of_threads(threads: int, mnist: Dataset) -> None:
    alone = results(mnist, 1)
    assert all(same(alone, results(mnist, threads)) for _ in range(5))


def test_no_bit_depends_on_whether_sharing_pays() -> None:
    # the kernels time the other way now and then, so both ways run here
    x, labels = torch.eye(20, 30), torch.arange(20) % 3
    model = MLP(hidden_sizes=[40], num_classes=3, activation="relu", dropout=0.0, in_features=30)
    layers = LinearLayers(model, 0.0, "fp32")
    with cpu_threads(2):
        losses = {layers(x, labels)[0].item() for _ in range(300)}
    assert len(losses) == 1


def test_python_threads_can_call_at_the_same_time(mnist: Dataset) -> None:
    alone = results(mnist, 1)
    with ThreadPoolExecutor(3) as pool:
        assert all(same(alone, other) for other in pool.map(results, [mnist] * 15, [3] * 15))


FORK = """
import os, sys, torch
from mnist_exp.cpu.kernels import library

kernels = library.Kernels(sys.argv[1], library.builds()[sys.argv[1]])
torch.set_num_threads(4)
w, g = torch.zeros(100_000), torch.ones(100_000)
kernels.asymmetric_sgd([w], [g], None, 0.0, 1.0, 1.0)
child = os.fork()
kernels.asymmetric_sgd([w], [g], None, 0.0, 1.0, 1.0)
right = w.tolist() == [2.0] * len(w)
if child == 0:
    os._exit(0 if right else 1)
assert right
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_threads_of_its_own() -> None:
    for build in COMPILED:
        subprocess.run([sys.executable, "-c", FORK, build], check=True, timeout=60)


def test_small_operations_of_torch_leave_the_kernels_their_threads() -> None:
    with cpu_threads(3):
        with one_thread():
            assert (torch.get_num_threads(), available()) == (1, 3)
            with cpu_threads(2):
                assert (torch.get_num_threads(), available()) == (2, 3)
            with ThreadPoolExecutor(1) as pool:  # one_thread() is per thread
                assert (
                    pool.submit(available).result() == pool.submit(torch.get_num_threads).result()
                )
        assert available() == 3
        with cpu_threads(1):
            assert available() == 1
