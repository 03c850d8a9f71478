"""Inner loops of training in C, for work that costs torch many passes over small tensors.

Compiled when the package is installed on x86-64 Linux with a C compiler. Elsewhere, and for tensors
other than plain float32 on the CPU, torch's operations do the same. The environment variable
``MNIST_EXP_KERNELS`` forces a build: avx512, avx2, or torch.

Only `mnist_exp.cpu.ops` and `mnist_exp.train.backprop` call them.
"""

from mnist_exp.cpu.kernels.boundary import are_labels
from mnist_exp.cpu.kernels.functions import Kernels
from mnist_exp.cpu.kernels.interface import Convolution, Layer, Weight
from mnist_exp.cpu.kernels.library import absence, description, kernels_for

__all__ = [
    "Convolution",
    "Kernels",
    "Layer",
    "Weight",
    "absence",
    "are_labels",
    "description",
    "kernels_for",
]
