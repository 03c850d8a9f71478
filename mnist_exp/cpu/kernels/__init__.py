"""Inner loops of training in C, for what takes torch many passes over small tensors.

They are compiled when the package is installed, for x86-64 on Linux, if there is a C compiler.
Everywhere else, and on tensors that are not plain float32 on the CPU, torch's operations do the
same. The environment variable ``MNIST_EXP_KERNELS`` forces a build: avx512, avx2, or torch.

`mnist_exp.cpu.ops` and the ways of backpropagation alone call them.
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
