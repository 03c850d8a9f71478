"""Interface of Python and C: memory layout of structures, and function signatures."""

from __future__ import annotations

from ctypes import CDLL, Structure, c_float, c_int, c_int64, c_uint64, c_void_p

from mnist_exp.errors import UserError

# Version of the interface below; must equal INTERFACE in interface.h.
INTERFACE = 5
POINTER, COUNT, NUMBER, SEED = c_void_p, c_int64, c_float, c_uint64


class Weight(Structure):
    """A weight or bias in C: ``gain * (plus - minus)``, or ``plus`` where minus is None.

    Addresses of float32 values and of their gradients.
    """

    _fields_ = (
        ("plus", POINTER),
        ("minus", POINTER),
        ("plus_gradient", POINTER),
        ("minus_gradient", POINTER),
        ("gain", NUMBER),
    )


class ArrayReading(Structure):
    """How a product is read from an array, in C; linear_layers.h says what the numbers do."""

    _fields_ = (
        *((name, COUNT) for name in ("own_range", "rounds_inputs", "rounds_outputs")),
        *((name, NUMBER) for name in ("steps", "to_voltage", "lowest", "highest")),
        *((name, NUMBER) for name in ("to_current", "to_digit", "largest_digit", "from_digit")),
        *((name, NUMBER) for name in ("to_output", "output_noise", "read_noise")),
        ("seed", SEED),
    )


class Layer(Structure):
    """A linear layer in C; ``reading`` is the address of an `ArrayReading`, or None."""

    _fields_ = (
        *((name, COUNT) for name in ("inputs", "outputs")),
        *((name, Weight) for name in ("weight", "bias")),
        ("reading", POINTER),
    )


class Convolution(Structure):
    """A 3x3 convolution in C, with optional 2x2 max pooling; strides in elements."""

    _fields_ = (
        *((name, COUNT) for name in ("in_channels", "out_channels", "height", "width", "pooled")),
        *((name, COUNT) for name in ("out_stride", "in_stride", "tap_stride")),
        *((name, POINTER) for name in ("weight", "bias", "weight_gradient", "bias_gradient")),
    )


class Normalisation(Structure):
    """A step of batch normalisation, ReLU and pooling in C; batch_norm.h says what each does."""

    _fields_ = (
        *((name, COUNT) for name in ("step", "height", "width", "channels", "pooled")),
        *((name, POINTER) for name in ("x", "gradient", "centre", "scale", "shift")),
        *((name, POINTER) for name in ("slope", "offset", "out", "sums")),
    )


class Number(Structure):
    """A number of every device in C, float32 [devices], or one of all where ``each`` is None."""

    _fields_ = (("each", POINTER), ("all", NUMBER))


class Direction(Structure):
    """Pulses in a direction in C."""

    _fields_ = tuple((name, Number) for name in ("scale", "constant", "slope", "third"))


class StepDevices(Structure):
    """Devices whose pulses come one at a time, in C; step_devices.h says what the numbers do."""

    _fields_ = (
        ("shape", COUNT),
        ("most", COUNT),
        *((name, Number) for name in ("W_min", "W_max", "offset")),
        ("up", Direction),
        ("down", Direction),
        *((name, NUMBER) for name in ("step_noise", "offset_noise", "write_noise")),
        ("write_offset", POINTER),
        ("up_only", COUNT),
        ("counts", POINTER),
    )


# Result and argument types of each function; the C files document them.
SIGNATURES = {
    "interface": (COUNT, ()),
    "pixels_to_inputs": (
        c_int,
        (POINTER, COUNT, COUNT, POINTER, COUNT, NUMBER, NUMBER, POINTER, COUNT),
    ),
    "asymmetric_sgd": (None, (POINTER, POINTER, POINTER, COUNT, NUMBER, NUMBER, NUMBER, COUNT)),
    "round_nearest": (None, (POINTER, COUNT, *[NUMBER] * 5, COUNT)),
    "round_stochastic": (
        None,
        (POINTER, COUNT, *[NUMBER] * 5, POINTER, NUMBER, COUNT),
    ),
    "round_counting_moves": (
        None,
        (POINTER, POINTER, POINTER, c_int, COUNT, *[NUMBER] * 5, POINTER, NUMBER, COUNT),
    ),
    "nonzero": (COUNT, (POINTER, COUNT)),
    "correct_predictions": (COUNT, (POINTER, POINTER, COUNT, COUNT)),
    "orthogonalize": (None, (POINTER, COUNT, COUNT, COUNT, COUNT, NUMBER, NUMBER, NUMBER)),
    "norm": (NUMBER, (POINTER, COUNT, COUNT)),
    "program_batch": (None, (*[POINTER] * 5, COUNT, NUMBER, COUNT, SEED, COUNT)),
    "program_samples": (
        None,
        (POINTER, POINTER, COUNT, *[POINTER] * 3, *[COUNT] * 3, NUMBER, NUMBER, COUNT, SEED, COUNT),
    ),
    "linear_layers_scratch": (COUNT, (POINTER, COUNT, COUNT)),
    "linear_layers": (
        c_int,
        (POINTER, COUNT, POINTER, POINTER, COUNT, COUNT, NUMBER, *[POINTER] * 4, COUNT),
    ),
    "read_product": (None, (POINTER, POINTER, COUNT, POINTER, POINTER, COUNT)),
    "normals": (None, (POINTER, COUNT, SEED, COUNT)),
    "batch_norm": (None, (POINTER, COUNT, COUNT)),
    "convolutional_network_scratch": (COUNT, (POINTER, COUNT, POINTER, COUNT)),
    "convolutional_network": (
        c_int,
        (POINTER, COUNT, POINTER, COUNT, POINTER, POINTER, COUNT, COUNT, NUMBER, *[POINTER] * 3),
    ),
}


def loaded(path: str) -> CDLL:
    """Load a shared library and declare its functions.

    Raises
    ------
    UserError
        If it was compiled from another version of the C files.
    """
    library = CDLL(path)
    try:
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        compiled_from_these = library.interface() == INTERFACE
    except AttributeError:
        compiled_from_these = False
    if not compiled_from_these:
        raise UserError(
            f"{path} was compiled from another version of the package. Install it again (make "
            "setup, or pip install -e .), or set MNIST_EXP_KERNELS=torch."
        )
    return library
