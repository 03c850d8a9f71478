"""The other device refuses what a GPU refuses, and computes the rest as the CPU does."""

from __future__ import annotations

import copy
import ctypes
import faulthandler
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

pytestmark = [pytest.mark.other_device, pytest.mark.usefixtures("imitated")]

MIXED: dict[str, Callable[[Tensor], object]] = {
    "sum": lambda x: x + torch.ones(3, 4),
    "product": lambda x: x @ torch.ones(4, 3),
    "in_place": lambda x: torch.ones(3, 4).add_(x),
    "out": lambda x: torch.add(x, 1, out=torch.empty(3, 4)),
    "list": lambda x: torch.cat([x, torch.ones(3, 4)]),
    "index_select": lambda x: x.index_select(0, torch.tensor([1])),
    "convolution": lambda x: F.conv2d(x.view(1, 1, 3, 4), torch.ones(1, 1, 2, 2)),
    "labels": lambda x: F.cross_entropy(x, torch.tensor([0, 1, 2])),
    "dot": lambda x: x[0].dot(torch.ones(4)),
    "number": lambda x: torch.stack([x[0, 0], torch.tensor(1.0)]),
}


@pytest.mark.parametrize("case", MIXED)
def test_tensors_of_two_devices_do_not_mix(gpu: torch.device, case: str) -> None:
    with pytest.raises(RuntimeError, match=r"same device|on CPU|Input type|\bcpu\b"):
        MIXED[case](torch.ones(3, 4, device=gpu))


def test_numbers_and_indices_of_the_cpu_are_taken(gpu: torch.device) -> None:
    x = torch.arange(6.0, device=gpu).view(2, 3)
    assert (x + torch.tensor(1.0)).cpu().equal(torch.arange(1.0, 7).view(2, 3))
    assert x[torch.tensor([1])].cpu().equal(torch.tensor([[3.0, 4, 5]]))
    assert x[x > 4].tolist() == [5.0]


def test_numpy_and_addresses_are_refused(gpu: torch.device) -> None:
    x = torch.ones(3, device=gpu)
    with pytest.raises(TypeError, match="convert gpu"):
        x.numpy()
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        ctypes.string_at(x.data_ptr(), 4)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) < 0


def test_each_device_has_its_random_numbers(gpu: torch.device) -> None:
    with pytest.raises(RuntimeError, match="generator"):
        torch.rand(3, device=gpu, generator=torch.Generator())
    own = torch.Generator(gpu).manual_seed(1)
    twin = copy.deepcopy(own)
    assert torch.rand(3, device=gpu, generator=own).equal(torch.rand(3, device=gpu, generator=twin))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    dropped = F.dropout(torch.ones(50, device=gpu))
    assert torch.get_rng_state().equal(state)
    torch.manual_seed(2)
    assert F.dropout(torch.ones(50, device=gpu)).equal(dropped)
    with pytest.raises(RuntimeError, match="wrong size"):
        own.set_state(torch.Generator().get_state())


def test_there_is_no_float64_unless_allowed(gpu: torch.device, functions: Any) -> None:
    for convert in (Tensor.double, lambda x: torch.tensor(1.0).double().to(x.device)):
        with pytest.raises(TypeError, match="float64"):
            convert(torch.ones(3, device=gpu))
    functions.allow_float64(True)
    assert torch.ones(3, device=gpu).double().sum().item() == 3


def test_the_deterministic_mode_refuses_what_it_refuses_on_cuda(
    gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.ones(4, 4, device=gpu)
    torch.use_deterministic_algorithms(True)
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        x.histc(3)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with pytest.raises(RuntimeError, match="CUBLAS_WORKSPACE_CONFIG"):
        x @ x


@pytest.mark.parametrize(
    "name", ["relu", "softmax", "cumsum", "sort", "unique", "conv", "index_put"]
)
def test_results_are_the_cpus(gpu: torch.device, name: str) -> None:
    operations: dict[str, Callable[[Tensor], Tensor]] = {
        "relu": torch.relu,
        "softmax": lambda x: x.softmax(1),
        "cumsum": lambda x: x.cumsum(0),
        "sort": lambda x: x.sort(dim=0).values,
        "unique": lambda x: torch.unique(x.detach()),
        "conv": lambda x: F.conv1d(x[None], torch.ones(2, 4, 3, device=x.device)),
        "index_put": lambda x: x.clone().index_put_((x > 0,), torch.tensor(7.0)),
    }
    x = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    on_cpu, on_gpu = (x.to(device, copy=True).requires_grad_() for device in ("cpu", gpu))
    for given in (on_cpu, on_gpu):
        result = operations[name](given)
        if result.requires_grad:
            result.square().sum().backward()
    assert operations[name](on_gpu).cpu().equal(operations[name](on_cpu))
    if on_cpu.grad is not None:
        torch.testing.assert_close(on_gpu.grad.cpu(), on_cpu.grad)  # type: ignore[union-attr]
