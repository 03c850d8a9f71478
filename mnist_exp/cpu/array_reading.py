"""Products read from arrays of devices, by the compiled kernels, and noise for them.

There is no other way here: where a function returns None, the caller's own, in torch operations,
gives the same product, with other noise.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from mnist_exp.cpu.kernels import interface, library
from mnist_exp.cpu.kernels.boundary import are_plain, are_recorded, empty
from mnist_exp.cpu.threads import available

SAMPLES_LOOKED_AT = 16  # to estimate the density of inputs


@dataclass(frozen=True)
class Converters:
    """Numbers of what happens at the ends of an array.

    ::

        voltages = limited(rounded(x to_voltage))
        currents = (weights @ voltages) to_current + noise
        product = limited(rounded(currents to_digit)) from_digit to_output

    Attributes
    ----------
    own_range : bool
        Whether each sample has its own range of inputs, its largest ``|x|``, at least
        ``2 ** -100``, or 1 if all are 0; then ``to_voltage`` is ``steps / range`` and ``to_output``
        is ``range / steps / to_current``.
    rounds_inputs, rounds_outputs : bool
        Whether numbers become whole ones, halves upward.
    lowest, highest : float
        Limits of the voltages.
    largest_digit : float
        Limit of the outputs, in both directions.
    output_noise, read_noise : float
        Standard deviations: of a current, and of what a weight adds to it for each voltage.
    steps, to_voltage, to_current, to_digit, from_digit, to_output : float
        Factors.
    """

    own_range: bool
    rounds_inputs: bool
    rounds_outputs: bool
    steps: float
    to_voltage: float
    lowest: float
    highest: float
    to_current: float
    to_digit: float
    largest_digit: float
    from_digit: float
    to_output: float
    output_noise: float
    read_noise: float

    def in_c(self, seed: Callable[[], int]) -> interface.ArrayReading:
        """Return the same for the kernels; ``seed`` returns 64 random bits, if there is noise."""
        noisy = self.output_noise > 0 or self.read_noise > 0
        return interface.ArrayReading(**vars(self), seed=seed() if noisy else 0)


def read_product(
    inputs: Tensor, weights: Tensor, converters: Converters, seed: Callable[[], int]
) -> Tensor | None:
    """Return the product of inputs [..., in] and weights [out, in] as read, [..., out].

    None where the kernels cannot take the tensors, or torch is faster.

    Parameters
    ----------
    inputs, weights : Tensor
        float32; inputs of 0 cost little.
    converters : Converters
        Of a single tile.
    seed : callable
        Returns 64 random bits; called once if the product is read here, and noisy.
    """
    kernels = library.compiled()
    if kernels is None or not are_plain(inputs, weights) or are_recorded(inputs, weights):
        return None
    if weights.ndim != 2 or inputs.shape[-1:] != weights.shape[1:] or not inputs.numel():
        return None
    outputs, width = weights.shape
    density = kernels.density(inputs.view(-1, width), SAMPLES_LOOKED_AT)
    measured = kernels.measured
    if (measured.multiply_add * density - 1) * outputs > measured.passes_of_reading:
        return None
    samples = inputs.numel() // width
    result = empty(*inputs.shape[:-1], outputs)
    reading = converters.in_c(seed)
    layer = interface.Layer(
        inputs=width,
        outputs=outputs,
        weight=interface.Weight(plus=weights.data_ptr()),
        reading=ctypes.addressof(reading),
    )
    one = ctypes.byref(layer)
    scratch = empty(kernels.library.linear_layers_scratch(one, 1, samples))
    addresses = (result.data_ptr(), scratch.data_ptr())
    kernels.library.read_product(one, inputs.data_ptr(), samples, *addresses, available())
    return result


def normals(count: int, seed: Callable[[], int]) -> Tensor | None:
    """Return ``count`` standard normal numbers, float32; None without kernels.

    ``seed`` returns 64 random bits; called once if there are kernels.
    """
    kernels = library.compiled()
    if kernels is None:
        return None
    numbers = empty(count)
    kernels.library.normals(numbers.data_ptr(), count, seed(), available())
    return numbers
