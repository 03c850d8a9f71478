"""When the compiled functions are faster than torch's, measured for each build.

``MNIST_EXP_KERNELS=avx2 python -m tests.benchmarks.bench_kernels`` prints what these come from.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measurements:
    """Where the kernels begin to pay.

    Attributes
    ----------
    multiply_add : float
        Time of a multiply-add of the training kernels, in those of torch on one thread.
    other_operations : float
        Time of torch's other operations of a training step, in its multiply-adds.
    largest_density : float
        Share of inputs unlike the background up to which `mnist_exp.cpu.sparse_linear` is faster
        than torch; 0: never.
    """

    multiply_add: float
    other_operations: float
    largest_density: float


BY_BUILD = {
    "avx512": Measurements(2.2, 4e6, 0.4),  # AMD Zen 4
    # AMD Zen 3. The choices they make are right on six batches in one thread; 3e6 is a rough fit,
    # and 4e6 would choose alike. 0.25 is extrapolated from the outputs at a density of 0.18 alone.
    "avx2": Measurements(2.2, 3e6, 0.25),
}
