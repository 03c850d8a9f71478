"""The chain rule through linear layers, written out in compiled kernels or torch calls."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnist_exp.cpu.float32_matmul import take_turns
from mnist_exp.cpu.kernels import kernels_for
from mnist_exp.cpu.threads import one_thread
from mnist_exp.models.stages import Stages
from mnist_exp.train.backprop.linear_layer import LinearLayer
from mnist_exp.train.backprop.mlp_compiled import CompiledLayers
from mnist_exp.train.backprop.weights import are_known, make_gradients

threshold_backward = torch.ops.aten.threshold_backward


class LinearLayers:
    """The chain rule through linear layers with ReLU between them, written out.

    In small networks, autograd's bookkeeping and its passes over single tensors cost as much as
    the matrix products. The compiled kernels take the batches on which they are faster. Arguments
    as in `backpropagation`, for a model whose stages this class `knows`.
    """

    def __init__(self, model: nn.Module, label_smoothing: float, precision: str) -> None:
        _, gradients = make_gradients(model.parameters())
        parameters = list(gradients)
        modules = model.stages()[1]  # type: ignore[operator]
        self.layers = [LinearLayer(module, gradients, precision) for module in modules]
        self.label_smoothing = label_smoothing
        classes = modules[-1].out_features
        self.turn = take_turns(parameters[0].device)
        own = torch.eye(classes, dtype=torch.float32, device=parameters[0].device)
        own *= 1 - label_smoothing
        self.targets = own + label_smoothing / classes  # column c: target of class c
        exact = all(layer.dtype == torch.float32 for layer in self.layers)
        there = exact and kernels_for(*parameters)
        self.compiled = CompiledLayers(self.layers, label_smoothing) if there else None

    @staticmethod
    def knows(stages: Stages) -> bool:
        """Return whether a network has only linear layers, all trained and in float32."""
        convolutions, linear = stages
        return not convolutions and all(
            are_known(layer) and all(p.is_contiguous() for p in layer.parameters())
            for layer in linear
        )

    @torch.no_grad()
    def __call__(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Set ``.grad`` of the parameters; return the mean loss [] and the logits [B, classes]."""
        x = inputs.flatten(1)
        kernels = self.compiled and self.compiled.kernels_for(x, labels)
        with one_thread():  # except for products of large layers
            if self.compiled and kernels:
                return self.compiled(kernels, x, labels)
            with self.turn:
                return self._chain(x, labels)

    def _chain(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        for layer in self.layers[:-1]:
            x = layer.forward(x).relu_()
        logits = self.layers[-1].forward(x).float()
        shares = logits.T.contiguous().log_softmax(0)  # takes a quarter of the time on (classes, B)
        targets = self.targets.index_select(1, labels)
        if self.label_smoothing > 0:
            loss = torch.dot(shares.view(-1), targets.view(-1)) / -len(labels)
        else:  # dot() would give NaN for 0 * -inf
            loss = -shares.gather(0, labels.unsqueeze(0)).mean()
        delta = shares.exp_().sub_(targets).div_(len(labels)).T  # of the logits: (B, classes)
        for layer in reversed(self.layers):
            delta = layer.backward(delta)
            if layer is not self.layers[0]:  # its input is the output of a ReLU
                delta = threshold_backward(layer.through(delta), layer.input, 0)
        return loss, logits
