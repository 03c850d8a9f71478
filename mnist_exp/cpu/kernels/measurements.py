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
    # AMD Zen 3. Sparse inputs pass at a density of 0.18 by 1.3 to 1.6 in one thread: 0.25 is even.
    "avx2": Measurements(2.2, 3e6, 0.25),
}
