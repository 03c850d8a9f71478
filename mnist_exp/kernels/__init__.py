"""Inner loops of training in C, for what takes torch many passes over small tensors.

They are compiled when the package is installed, for x86-64 on Linux, if there is a C compiler;
`kernels_for` returns them where the processor can run them. Everywhere else, and on tensors that
are not float32 on the CPU, torch's operations do the same. The environment variable
``MNIST_EXP_KERNELS=torch`` lets them do it on any machine.
"""

from mnist_exp.kernels.functions import Kernels
from mnist_exp.kernels.interface import Convolution, Layer, Weight
from mnist_exp.kernels.library import are_labels, description, kernels_for

__all__ = [
    "Convolution",
    "Kernels",
    "Layer",
    "Weight",
    "are_labels",
    "description",
    "kernels_for",
]
