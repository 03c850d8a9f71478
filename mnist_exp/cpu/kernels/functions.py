"""The compiled functions, called with tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from ctypes import Array
from itertools import repeat

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mnist_exp.cpu.kernels.boundary import (
    are_labels,
    are_plain,
    are_recorded,
    changed,
    empty,
    is_plain,
    is_traced,
)
from mnist_exp.cpu.kernels.interface import Convolution, Layer, loaded
from mnist_exp.cpu.kernels.measurements import BY_BUILD
from mnist_exp.cpu.threads import available

Network = tuple[Array[Convolution], Array[Layer]]
# offset, slope (level = offset + slope * conductance), W_min, W_max, level spacing
Grid = tuple[float, float, float, float, float]
Draw = Callable[[int], tuple[npt.NDArray[np.uint64], float]]
COUNTING = (torch.float32, torch.int32)  # conductances before, counts of moves
LARGEST_SIDE = 64  # rows in `orthogonalize`; SIDE in orthogonalize.c


class Kernels:
    """The compiled functions, on float32 tensors unless noted; ``library`` holds them all.

    Those for `mnist_exp.cpu.ops` do nothing and return None or False for tensors they cannot take,
    which then go to torch. Those for networks do not check the layers passed to them.

    Long work is shared among all of the caller's threads, except in `convolutional_network` and
    `orthogonalize`. No result depends on the number of threads.

    Parameters
    ----------
    build : str
        One of ``BUILDS``.
    path : str
        The shared library.

    Raises
    ------
    UserError
        If the library was compiled from another version of the C files.
    """

    def __init__(self, build: str, path: str) -> None:
        self.build = build
        self.measured = BY_BUILD[build]
        self.library = loaded(path)

    def pixels_to_inputs(
        self, pixels: Tensor, indices: Tensor, scale: float, shift: float
    ) -> Tensor | None:
        """Return float32 ``pixels[indices] * scale - shift``; pixels uint8, indices int64 [B].

        Raises
        ------
        IndexError
            If an index is out of range.
        """
        plain = is_plain(pixels, torch.uint8) and is_plain(indices, torch.int64)
        if not plain or is_traced() or pixels.ndim < 1 or indices.ndim != 1:
            return None
        inputs = empty(len(indices), *pixels.shape[1:])
        sizes = (len(pixels), math.prod(pixels.shape[1:]), indices.data_ptr(), len(indices))
        if not self.library.pixels_to_inputs(
            pixels.data_ptr(), *sizes, scale, shift, inputs.data_ptr(), available()
        ):
            raise IndexError(f"an index of {len(pixels)} images is out of range")
        return inputs

    def asymmetric_sgd(
        self,
        weights: Sequence[Tensor],
        gradients: Sequence[Tensor],
        velocities: Sequence[Tensor] | None,
        momentum: float,
        minus_rate: float,
        ratio: float,
    ) -> bool:
        """Add ``minus_rate * v`` to the weights, and ``ratio`` times as much where v <= 0.

        v is the gradient or, if given, the velocity, updated to
        ``velocity * momentum + gradient``.
        """
        sizes = [w.numel() for w in weights]
        columns = [weights, gradients] if velocities is None else [weights, gradients, velocities]
        if any([tensor.numel() for tensor in column] != sizes for column in columns[1:]):
            return False
        tensors = [tensor for column in columns for tensor in column]
        if not are_plain(*tensors) or are_recorded(*tensors):
            return False
        changed(*weights, *(velocities or ()))
        rest = (momentum, minus_rate, ratio, available())
        for w, g, v, size in zip(
            weights, gradients, velocities or repeat(None), sizes, strict=False
        ):
            velocity = None if v is None else v.data_ptr()
            self.library.asymmetric_sgd(w.data_ptr(), g.data_ptr(), velocity, size, *rest)
        return True

    def round_to_levels(
        self,
        w: Tensor,
        grid: Grid,
        draw: Draw | None,
        counting: Sequence[Tensor] = (),
        keeps: bool = False,
    ) -> bool:
        """Round ``w`` in place to levels, ``offset + slope * w`` in level units.

        To the nearest; with ``draw`` up or down at random, by xorshift64 generators:
        ``draw(count)`` returns their states, one per four conductances, and the offset common to
        all random numbers, called only if the kernel can take ``w``. ``counting``: what ``w`` was
        before, and int32 counts, to which moves by levels are added where ``w`` differed from it.
        If it ``keeps``, the former becomes ``w``.
        """
        plain = [is_plain(t, dtype) for t, dtype in zip(counting, COUNTING, strict=False)]
        sizes = {t.numel() for t in (w, *counting)}
        if not all(plain) or not are_plain(w) or are_recorded(w) or len(sizes) > 1:
            return False
        end: tuple[object, ...] = (*grid, available())
        if draw is not None or counting:
            lanes, lowest = (None, 0.0) if draw is None else draw(w.numel())
            assert lanes is None or lanes.dtype == np.uint64
            assert lanes is None or (4 * lanes.size >= w.numel() and lanes.flags.c_contiguous)
            end = (*grid, None if lanes is None else lanes.ctypes.data, lowest, available())
        if not counting:
            changed(w)
            name = "round_nearest" if draw is None else "round_stochastic"
            getattr(self.library, name)(w.data_ptr(), w.numel(), *end)
            return True
        before, moves = counting
        changed(w, moves, *([before] if keeps else []))
        addresses = (w.data_ptr(), before.data_ptr(), moves.data_ptr())
        self.library.round_counting_moves(*addresses, keeps, w.numel(), *end)
        return True

    def density(self, x: Tensor, samples: int) -> float:
        """Return the share of elements other than 0 in the first ``samples`` rows of ``x``."""
        count = math.prod(x.shape[1:]) * min(samples, len(x))
        found: int = self.library.nonzero(x.data_ptr(), count)
        return found / max(count, 1)

    def correct_predictions(self, logits: Tensor, labels: Tensor) -> int | None:
        """Count the rows of logits [B, classes] with the largest at the int64 label [B]."""
        if not are_plain(logits) or logits.ndim != 2 or not logits.numel():
            return None
        if not are_labels(labels, len(logits)):
            return None
        addresses = (logits.data_ptr(), labels.data_ptr())
        correct: int = self.library.correct_predictions(*addresses, *logits.shape)
        return correct

    def norm(self, x: Tensor) -> float | None:
        """Return the Euclidean norm of ``x``."""
        if not are_plain(x):
            return None
        norm: float = self.library.norm(x.data_ptr(), x.numel(), available())
        return norm

    def orthogonalize(
        self, x: Tensor, steps: int, at_once: int, quintic: tuple[float, float, float]
    ) -> Tensor | None:
        """Return `mnist_exp.optim.muon.newton_schulz` of ``x``, contiguous; ``x`` is unchanged.

        Parameters
        ----------
        x : Tensor
            [R, C] with R <= C and R <= ``LARGEST_SIDE``.
        steps, at_once : int
            Iterations, and how many of them in a row run on the Gram matrix alone.
        quintic : tuple of float
            Coefficients of the iteration.
        """
        if x.ndim != 2 or len(x) > min(x.shape[1], LARGEST_SIDE) or are_recorded(x):
            return None
        result = x.clone(memory_format=torch.contiguous_format)
        if not are_plain(result):
            return None
        self.library.orthogonalize(result.data_ptr(), *result.shape, steps, at_once, *quintic)
        return result

    def scratch(self, layers: Array[Layer], samples: int) -> Tensor:
        """Return scratch space for `linear_layers` on batches of up to ``samples``."""
        return empty(self.library.linear_layers_scratch(layers, len(layers), samples))

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
            Sizes and addresses.
        inputs : Tensor
            [B, inputs of the first layer]; zeros cost almost nothing.
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
        loss, logits = empty(), empty(samples, classes)
        addresses = (loss.data_ptr(), logits.data_ptr(), None, scratch.data_ptr())
        data = (inputs.data_ptr(), labels.data_ptr(), samples, samples)
        if not self.library.linear_layers(
            layers, count, *data, label_smoothing, *addresses, available()
        ):
            raise IndexError(f"a label of the batch is not from 0 to {classes - 1}")
        return loss, logits

    def convolutional_scratch(self, network: Network) -> Tensor:
        """Return scratch space for `convolutional_network`."""
        convolutions, layers = network
        floats = self.library.convolutional_network_scratch(
            convolutions, len(convolutions), layers, len(layers)
        )
        return empty(floats)

    def convolutional_network(
        self,
        network: Network,
        images: Tensor,
        labels: Tensor,
        of_batch: int,
        label_smoothing: float,
        scratch: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Accumulate the gradients of 3x3 convolutions and of the linear layers after them.

        A ReLU follows each layer, after its pooling, except the last.

        Parameters
        ----------
        network : (array of Convolution, array of Layer)
            Sizes and addresses.
        images : Tensor
            [B, channels, height, width], the whole batch or a part of it.
        labels : Tensor
            int64 [B].
        of_batch : int
            Images in the whole batch; gradients and loss are this part's share of its mean.
        label_smoothing : float
            Share of the target spread over all classes.
        scratch : Tensor
            From `convolutional_scratch`; concurrent calls must not share it.

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
        loss, logits = empty(), empty(samples, classes)
        sizes = (convolutions, len(convolutions), layers, len(layers))
        data = (images.data_ptr(), labels.data_ptr(), samples, of_batch, label_smoothing)
        addresses = (loss.data_ptr(), logits.data_ptr(), scratch.data_ptr())
        if not self.library.convolutional_network(*sizes, *data, *addresses):
            raise IndexError(f"a label of the batch is not from 0 to {classes - 1}")
        return loss, logits
