"""The compiled functions on tensors."""

from __future__ import annotations

import math
from ctypes import CDLL, Array, byref

import torch
from torch import Tensor

from mnist_exp.errors import UserError
from mnist_exp.kernels.interface import INTERFACE, SIGNATURES, Convolution, Layer
from mnist_exp.threads import available

Network = tuple[Array[Convolution], Array[Layer]]


class Kernels:
    """The compiled functions; tensors must be contiguous, on the CPU, and float32 unless said.

    What takes long is shared among all threads there are for the caller, but for
    `convolutional_network` and `orthogonalize`, and no result depends on how many there are.

    Parameters
    ----------
    build : str
        One of ``BUILDS``.
    path : str
        The shared library.

    Raises
    ------
    UserError
        If it was compiled from other C files than these.
    """

    def __init__(self, build: str, path: str) -> None:
        self.build = build
        self._library = CDLL(path)
        try:
            for name, (result, arguments) in SIGNATURES.items():
                function = getattr(self._library, name)
                function.restype, function.argtypes = result, arguments
            compiled_from_these = self._library.interface() == INTERFACE
        except AttributeError:
            compiled_from_these = False
        if not compiled_from_these:
            raise UserError(
                f"{path} was compiled from another version of the package. Install it again (make "
                "setup, or pip install -e .), or set MNIST_EXP_KERNELS=torch."
            )

    def pixels_to_inputs(
        self, pixels: Tensor, indices: Tensor, scale: float, shift: float
    ) -> Tensor:
        """Return ``pixels[indices] * scale - shift``; pixels are uint8 and indices int64.

        Raises
        ------
        IndexError
            If an index is out of range.
        """
        shape = (len(indices), *pixels.shape[1:])
        inputs = torch.empty(shape)
        sizes = (len(pixels), math.prod(pixels.shape[1:]), indices.data_ptr(), len(indices))
        if not self._library.pixels_to_inputs(
            pixels.data_ptr(), *sizes, scale, shift, inputs.data_ptr(), available()
        ):
            raise IndexError(f"an index of {len(pixels)} images is out of range")
        return inputs

    def asymmetric_sgd(
        self,
        weight: Tensor,
        gradient: Tensor,
        velocity: Tensor | None,
        momentum: float,
        minus_rate: float,
        ratio: float,
    ) -> None:
        """Move a weight: by ``minus_rate * v``, and where v <= 0 by ``ratio`` times as much.

        v is the gradient or, if there is one, the velocity, which becomes
        ``velocity * momentum + gradient``.
        """
        torch.autograd.graph.increment_version(weight)
        self._library.asymmetric_sgd(
            weight.data_ptr(),
            gradient.data_ptr(),
            None if velocity is None else velocity.data_ptr(),
            weight.numel(),
            momentum,
            minus_rate,
            ratio,
            available(),
        )

    def round_nearest(
        self, w: Tensor, line: tuple[float, float], W_min: float, W_max: float, step: float
    ) -> None:
        """Round ``offset + slope * w`` to whole numbers of levels and put the result in ``w``.

        Parameters
        ----------
        w : Tensor
            Conductances.
        line : tuple of float
            Offset and slope.
        W_min, W_max, step : float
            Bounds, and distance of two levels.
        """
        self._library.round_nearest(w.data_ptr(), w.numel(), *line, W_min, W_max, step, available())

    def round_stochastic(
        self,
        w: Tensor,
        line: tuple[float, float],
        W_min: float,
        W_max: float,
        step: float,
        lanes: int,
        lowest: float,
    ) -> None:
        """Do as `round_nearest` but up or down at random, with bits of xorshift64 generators.

        Parameters
        ----------
        lanes : int
            Address of the generators' states, one for four conductances.
        lowest : float
            The bits that all random numbers share.
        """
        self._library.round_stochastic(
            w.data_ptr(), w.numel(), *line, W_min, W_max, step, lanes, lowest, available()
        )

    def density(self, x: Tensor, samples: int, background: float = 0.0) -> float:
        """Return the share of elements unlike the background in so many samples of ``x``."""
        count = math.prod(x.shape[1:]) * min(samples, len(x))
        found: int = self._library.unlike(x.data_ptr(), count, background)
        return found / max(count, 1)

    def correct_predictions(self, logits: Tensor, labels: Tensor) -> int:
        """Return for how many int64 labels [B] the logit in [B, classes] is the largest."""
        addresses = (logits.data_ptr(), labels.data_ptr())
        correct: int = self._library.correct_predictions(*addresses, *logits.shape)
        return correct

    def norm(self, x: Tensor) -> float:
        """Return the Euclidean norm of ``x``."""
        norm: float = self._library.norm(x.data_ptr(), x.numel(), available())
        return norm

    def orthogonalize(
        self, x: Tensor, steps: int, at_once: int, quintic: tuple[float, float, float]
    ) -> None:
        """Do in place what `mnist_exp.optim.muon.orthogonalize` does.

        Parameters
        ----------
        x : Tensor
            [R, C] with R <= C and R <= 64.
        steps, at_once : int
            Iterations, and how many of them are done on the Gram matrix alone.
        quintic : tuple of float
            Coefficients of the iteration.
        """
        self._library.orthogonalize(x.data_ptr(), *x.shape, steps, at_once, *quintic)

    def scratch(self, layers: Array[Layer], samples: int) -> Tensor:
        """Return the scratch space that `linear_layers` needs for so many samples."""
        return torch.empty(self._library.linear_layers_scratch(layers, len(layers), samples))

    def linear_layers(
        self,
        layers: Array[Layer],
        inputs: Tensor,
        labels: Tensor,
        label_smoothing: float,
        scratch: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Set the gradients of linear layers with ReLU between them.

        Parameters
        ----------
        layers : array of Layer
            Where everything lies.
        inputs : Tensor
            [B, inputs of the first layer]; those that are 0 cost next to nothing.
        labels : Tensor
            int64 [B].
        label_smoothing : float
            Share of the target spread over all classes.
        scratch : Tensor
            From `scratch`, for at least B samples.

        Returns
        -------
        loss, logits : Tensor
            Mean cross-entropy [], and [B, outputs of the last layer].

        Raises
        ------
        IndexError
            If a label is out of range.
        """
        count, samples, classes = len(layers), len(labels), layers[-1].outputs
        loss, logits = torch.empty(()), torch.empty(samples, classes)
        addresses = (loss.data_ptr(), logits.data_ptr(), None, scratch.data_ptr())
        data = (inputs.data_ptr(), labels.data_ptr(), samples, samples)
        if not self._library.linear_layers(
            layers, count, *data, label_smoothing, *addresses, available()
        ):
            raise IndexError(f"a label of the batch is not from 0 to {classes - 1}")
        return loss, logits

    def linear_outputs(self, x: Tensor, background: float, weight: Tensor, bias: Tensor) -> Tensor:
        """Return ``(x - background) @ weight.T + bias`` [B, out]; out is a multiple of 16."""
        layer = Layer(weight.shape[1], weight.shape[0])
        layer.weight.plus, layer.bias.plus = weight.data_ptr(), bias.data_ptr()
        outputs = x.new_empty(len(x), len(weight))
        data = (x.data_ptr(), len(x), background, outputs.data_ptr(), available())
        self._library.linear_outputs(byref(layer), *data)
        return outputs

    def linear_weight_gradient(self, x: Tensor, background: float, delta: Tensor) -> Tensor:
        """Return ``delta.T @ (x - background)`` [out, in]; out is a multiple of 16."""
        layer = Layer(x.shape[1], delta.shape[1])
        gradient = x.new_empty(delta.shape[1], x.shape[1])
        layer.weight.plus_gradient = gradient.data_ptr()
        data = (x.data_ptr(), len(x), background, delta.data_ptr(), available())
        self._library.linear_weight_gradient(byref(layer), *data)
        return gradient

    def convolutional_scratch(self, network: Network) -> Tensor:
        """Return scratch space for `convolutional_network`."""
        convolutions, layers = network
        floats = self._library.convolutional_network_scratch(
            convolutions, len(convolutions), layers, len(layers)
        )
        return torch.empty(floats)

    def convolutional_network(
        self,
        network: Network,
        images: Tensor,
        labels: Tensor,
        of_batch: int,
        label_smoothing: float,
        scratch: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Add to the gradients of 3x3 convolutions and of the linear layers after them.

        A ReLU follows each layer, and the pooling, but the last one.

        Parameters
        ----------
        network : (array of Convolution, array of Layer)
            Where everything lies.
        images : Tensor
            [B, channels, height, width], of the whole batch or a part of it.
        labels : Tensor
            int64 [B].
        of_batch : int
            Images in the whole batch: gradients and loss are the part's share of its mean.
        label_smoothing : float
            Share of the target spread over all classes.
        scratch : Tensor
            From `convolutional_scratch`, used by one call at a time.

        Returns
        -------
        loss, logits : Tensor
            Cross-entropy [], and [B, outputs of the last layer].

        Raises
        ------
        IndexError
            If a label is out of range.
        """
        convolutions, layers = network
        samples, classes = len(labels), layers[-1].outputs
        loss, logits = torch.empty(()), torch.empty(samples, classes)
        sizes = (convolutions, len(convolutions), layers, len(layers))
        data = (images.data_ptr(), labels.data_ptr(), samples, of_batch, label_smoothing)
        addresses = (loss.data_ptr(), logits.data_ptr(), scratch.data_ptr())
        if not self._library.convolutional_network(*sizes, *data, *addresses):
            raise IndexError(f"a label of the batch is not from 0 to {classes - 1}")
        return loss, logits
