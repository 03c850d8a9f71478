"""Measured thresholds above which the compiled functions beat torch, for each build.

Reproduce with ``MNIST_EXP_KERNELS=avx2 python -m tests.benchmarks.bench_kernels``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measurements:
    """Costs that decide between the kernels and torch.

    Attributes
    ----------
    multiply_add : float
        Cost of one multiply-add in the training kernels, in multiply-adds of torch on one thread.
    other_operations : float
        Cost of torch's other operations per training step, in its multiply-adds.
    passes_of_reading : float
        Cost of torch's passes over an input that an array is driven with, in its multiply-adds.
    """

    multiply_add: float
    other_operations: float
    passes_of_reading: float


BY_BUILD = {
    "avx512": Measurements(2.2, 4e6, 100),  # AMD Zen 4
    # AMD Zen 3. Chooses right on six batches with one thread; 3e6 is a rough fit, and 4e6 chooses
    # the same.
    "avx2": Measurements(2.2, 3e6, 100),
}
