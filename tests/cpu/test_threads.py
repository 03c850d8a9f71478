"""Small work runs in one thread, torch's thread count is restored, overload is warned of."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mnist_exp.cpu import threads
from mnist_exp.cpu.threads import SMALL, one_thread, settle_threads, threads_for
from mnist_exp.experiment.notices import warn_of_overload
from mnist_exp.models import MLP
from mnist_exp.train.backprop.choose import backpropagation
from tests.conftest import Compose


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


@pytest.mark.parametrize(
    ("overrides", "environment", "now", "jobs", "told"),
    [
        (["threads=1000"], "1", 1000, 1, "threads=1000 asks for 1,000 CPU threads on 2 cores"),
        (["threads=4"], "1", 4, 1, "threads=4 asks for 4 CPU"),
        (["threads=3"], "1", 3, 1, None),
        ([], "16", 16, 1, "OMP_NUM_THREADS=16 asks for 16 CPU"),
        (["model=mlp100"], "16", 1, 5, "OMP_NUM_THREADS=16 asks for 5 folds side by side"),
        (["model=mlp100", "cv.n_jobs=3"], "1", 1, 3, None),
        (
            ["model=mlp100", "cv.n_jobs=2", "threads=2"],
            "1",
            2,
            2,
            "threads=2 cv.n_jobs=2 asks for 2 folds side by side with 2 CPU threads",
        ),
    ],
)
def test_threads_far_beyond_the_cores_get_a_warning(
    compose_config: Compose,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    overrides: list[str],
    environment: str,
    now: int,
    jobs: int,
    told: str | None,
) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: now)
    monkeypatch.setenv("OMP_NUM_THREADS", environment)
    warn_of_overload(compose_config(*overrides), jobs)
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == (told is not None)
    assert (told or "") in output.err


def settled() -> int:
    settle_threads()
    return torch.get_num_threads()


@pytest.mark.usefixtures("two_threads")
def test_a_new_python_thread_does_not_keep_the_number_of_anothers_block() -> None:
    with one_thread(), ThreadPoolExecutor(1) as unsettled, ThreadPoolExecutor(1) as other:
        assert unsettled.submit(torch.get_num_threads).result() == 1  # torch's own behaviour
        assert other.submit(settled).result() == 2
        assert torch.get_num_threads() == 1
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(settled).result() == 2
