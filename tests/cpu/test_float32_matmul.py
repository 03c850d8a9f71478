"""float32 products stay float32, and the setting is restored, also with several threads."""

import threading

import pytest
import torch

from mnist_exp.cpu.float32_matmul import fast_float32_products, onednn_is_better

CPU = torch.device("cpu")
SETTING = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
needs_onednn = pytest.mark.skipif(not onednn_is_better(), reason="MKL is the faster library here")


@pytest.mark.parametrize("shape", [(128, 784, 100), (64, 300, 300), (7, 100, 10), (1, 784, 512)])
def test_products_are_exact_to_float32(shape: tuple[int, int, int]) -> None:
    """The error stays a thousand times below that of bf16 products."""
    rows, inner, columns = shape
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(rows, inner, generator=generator)
    b = torch.randn(inner, columns, generator=generator)
    exact = a.double() @ b.double()
    with fast_float32_products(CPU):
        error = (a @ b - exact).norm() / exact.norm()
    assert error < 1e-6


@needs_onednn
def test_setting_lasts_as_long_as_the_outermost_block() -> None:
    before = SETTING.fp32_precision
    with fast_float32_products(CPU):
        with fast_float32_products(CPU):
            assert SETTING.fp32_precision == "bf16"
        assert SETTING.fp32_precision == "bf16"
    assert SETTING.fp32_precision == before


@needs_onednn
def test_setting_is_put_back_when_blocks_of_threads_overlap_and_fail() -> None:
    before, barrier = SETTING.fp32_precision, threading.Barrier(2)
    seen: list[str] = []

    def work(leave_first: bool) -> None:
        try:
            with fast_float32_products(CPU):
                barrier.wait()
                if leave_first:
                    raise ValueError
                barrier.wait()
                seen.append(SETTING.fp32_precision)
        except ValueError:
            barrier.wait()

    threads = [threading.Thread(target=work, args=(first,)) for first in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["bf16"]
    assert SETTING.fp32_precision == before
