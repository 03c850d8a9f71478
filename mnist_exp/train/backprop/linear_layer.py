"""Forward and backward pass of one linear layer, without autograd."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_exp.cpu.float32_matmul import fast_float32_products, onednn_is_better
from mnist_exp.cpu.threads import available, cpu_threads
from mnist_exp.train.backprop.weights import Weight

LARGE = 2**15  # weights in a layer; from here on bf16 and oneDNN pay


class LinearLayer:
    """Forward and backward pass of one linear layer, without autograd.

    A large layer computes its products at the given precision, with the faster library and all
    threads. A small one is fastest in float32 on one thread, with torch's default library.

    Parameters
    ----------
    layer : nn.Linear
        Weight and bias may be mapped to devices.
    gradients : dict
        The gradient buffer of each parameter.
    precision : {"fp32", "bf16"}
        Of the products.
    """

    def __init__(
        self, layer: nn.Linear, gradients: dict[nn.Parameter, Tensor], precision: str
    ) -> None:
        self.inputs, self.outputs = layer.in_features, layer.out_features
        self.weight = Weight(layer, "weight", gradients)
        self.bias = Weight(layer, "bias", gradients)
        large = self.inputs * self.outputs >= LARGE
        self.dtype = torch.bfloat16 if precision == "bf16" and large else torch.float32
        on_cpu = layer.bias.device.type == "cpu"
        self.products = large_products if large and on_cpu else nullcontext

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs [B, out] of ``x`` [B, in]; keep what `backward` needs."""
        self.input = x.to(self.dtype)
        self.value = self.weight.value().to(self.dtype)
        bias = self.bias.value().to(self.dtype)
        with self.products():
            return F.linear(self.input, self.value, bias)

    def backward(self, delta: Tensor) -> Tensor:
        """Set the parameters' gradients from that of the outputs [B, out]; return it, converted."""
        delta = delta.to(self.dtype)
        with self.products():
            self.weight.set_gradient(torch.mm, delta.T, self.input)
        self.bias.set_gradient(torch.sum, delta, 0)
        return delta

    def through(self, delta: Tensor) -> Tensor:
        """Return the gradient of the inputs [B, in] for `backward`'s result."""
        with self.products():
            return delta @ self.value


def large_products() -> AbstractContextManager[None]:
    """Return a block whose products use all threads and the faster library."""
    return _in_onednn() if onednn_is_better() else cpu_threads(available())


@contextmanager
def _in_onednn() -> Iterator[None]:
    with cpu_threads(available()), fast_float32_products(torch.device("cpu")):
        yield
