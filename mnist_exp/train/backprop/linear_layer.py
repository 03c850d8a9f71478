"""A linear layer in the chain rule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_exp.cpu.float32_matmul import fast_float32_products, onednn_is_better
from mnist_exp.cpu.threads import available, cpu_threads
from mnist_exp.train.backprop.weights import Weight

LARGE = 2**15  # weights of a layer from which on bf16 and oneDNN pay


class LinearLayer:
    """A linear layer in the chain rule.

    A large one computes its products at the precision asked for, with the faster library and all
    threads; a small one in float32, as torch does by itself and in one thread, which is quickest.

    Parameters
    ----------
    layer : nn.Linear
        Weight and bias may be held by devices.
    gradients : dict
        For each parameter, where its gradient goes.
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
        """Return outputs [B, out] of ``x`` [B, in], and keep what the backward pass needs."""
        self.input = x.to(self.dtype)
        self.value = self.weight.value().to(self.dtype)
        bias = self.bias.value().to(self.dtype)
        with self.products():
            return F.linear(self.input, self.value, bias)

    def backward(self, delta: Tensor) -> Tensor:
        """Set the parameters' gradients, given that of the outputs [B, out]; return that one."""
        delta = delta.to(self.dtype)
        with self.products():
            self.weight.set_gradient(torch.mm, delta.T, self.input)
        self.bias.set_gradient(torch.sum, delta, 0)
        return delta

    def through(self, delta: Tensor) -> Tensor:
        """Return the gradient of the inputs [B, in]."""
        with self.products():
            return delta @ self.value


def large_products() -> AbstractContextManager[None]:
    """Return a block whose products use all threads and the faster library."""
    return _in_onednn() if onednn_is_better() else cpu_threads(available())


@contextmanager
def _in_onednn() -> Iterator[None]:
    with cpu_threads(available()), fast_float32_products(torch.device("cpu")):
        yield
