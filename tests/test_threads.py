"""Parts of a step run in one thread, and whoever calls finds torch as it was."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mnist_exp.backpropagation import backpropagation
from mnist_exp.models import MLP
from mnist_exp.threads import SMALL, OneThread, settle_threads, threads_for


@pytest.fixture
def two_threads() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("elements", "count"), [(SMALL - 1, 1), (SMALL, 2)])
def test_only_little_work_is_left_to_one_thread(elements: int, count: int) -> None:
    with threads_for(elements):
        assert torch.get_num_threads() == count


@pytest.mark.usefixtures("two_threads")
def test_backpropagation_leaves_the_number_of_threads_alone() -> None:
    model = MLP(hidden_sizes=[300], num_classes=10, activation="relu", dropout=0.0)
    step = backpropagation(model, 0.0, "fp32")
    step(torch.randn(8, 784), torch.zeros(8, dtype=torch.long))
    assert torch.get_num_threads() == 2
    with pytest.raises(RuntimeError):
        step(torch.randn(8, 783), torch.zeros(8, dtype=torch.long))
    assert torch.get_num_threads() == 2


def settled() -> int:
    settle_threads()
    return torch.get_num_threads()


@pytest.mark.usefixtures("two_threads")
def test_a_new_python_thread_does_not_keep_the_number_of_anothers_block() -> None:
    with OneThread(), ThreadPoolExecutor(1) as unsettled, ThreadPoolExecutor(1) as other:
        assert unsettled.submit(torch.get_num_threads).result() == 1  # what torch does
        assert other.submit(settled).result() == 2
        assert torch.get_num_threads() == 1
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(settled).result() == 2
