"""A trained network as a file for other programs, read back and compared before it is written."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType

import torch
from torch import Tensor, nn

from mnist_exp.data.dataset import MNIST_SHAPE, ImageShape
from mnist_exp.errors import UserError
from mnist_exp.models.effective_copy import effective_copy

INPUT, OUTPUT = "images", "logits"
SHAPE = "image_shape"  # name of the fact: channels, height, width
FACTS_FILE = "mnist_exp.json"  # inside an exported program
LARGEST_DIFFERENCE = 1e-4  # of the logits, as a share of the largest one
BATCH_SIZES = (1, 7, 64)  # compared; the network is traced with another one
TRACED = 2
SEED = 0  # of the images that are compared


class Differs(Exception):
    """What was written does not compute what the network does."""


def effective_network(model: nn.Module) -> nn.Module:
    """Copy a network for the CPU in eval mode, its weights computed from conductances.

    Raises
    ------
    UserError
        If a hook computes a weight.
    """
    network = effective_copy(model, "export").cpu().eval()
    return network.to(memory_format=torch.contiguous_format).requires_grad_(False)


def to_onnx(network: nn.Module, facts: Mapping[str, str]) -> tuple[bytes, str]:
    """Return an ONNX model of any batch size, and what was compared.

    Parameters
    ----------
    network : nn.Module
        From images [B, C, H, W] to logits, as `effective_network` returns it.
    facts : mapping
        Texts to store with it, of `facts_of_use`.

    Raises
    ------
    UserError
        If a package is missing, or torch cannot export the network.
    Differs
        If onnxruntime computes other logits.
    """
    runtime = _extra("onnxruntime", "onnx")
    for name in ("onnx", "onnxscript"):
        _extra(name, "onnx")
    with _quiet("onnx"):
        program = torch.onnx.export(
            network,
            (_images(TRACED, facts),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
        assert program is not None
        proto = program.model_proto
        for node in proto.graph.node:
            del node.metadata_props[:]  # where this machine's source files lie
        for key, value in facts.items():
            entry = proto.metadata_props.add()
            entry.key, entry.value = key, value
        content: bytes = proto.SerializeToString()
        session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def computed(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])

    return (
        content,
        f"onnxruntime {runtime.__version__} and torch: {_compare(network, computed, facts)}",
    )


def to_program(network: nn.Module, facts: Mapping[str, str]) -> tuple[bytes, str]:
    """Return a program of torch.export of any batch size; otherwise as `to_onnx`."""
    file = io.BytesIO()
    with _quiet("torch"):
        program = torch.export.export(
            network, (_images(TRACED, facts),), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # where this machine's source files lie
        torch.export.save(program, file, extra_files={FACTS_FILE: json.dumps(dict(facts))})
        content = file.getvalue()
        loaded = torch.export.load(io.BytesIO(content)).module()
    return content, f"the program read back and the network: {_compare(network, loaded, facts)}"


def to_safetensors(network: nn.Module, facts: Mapping[str, str]) -> tuple[bytes, str]:
    """Return weights and buffers in the safetensors format; otherwise as `to_onnx`."""
    library = _extra("safetensors.torch", "safetensors")
    state = {name: value.clone().contiguous() for name, value in network.state_dict().items()}
    content: bytes = library.save(state, dict(facts))
    loaded = library.load(content)
    same = loaded.keys() == state.keys() and all(
        loaded[name].dtype == value.dtype and torch.equal(loaded[name], value)
        for name, value in state.items()
    )
    if not same:
        raise Differs("the tensors read back are not those of the network")
    return content, f"the {len(state)} tensors read back and the network's: equal bit by bit"


FORMATS: dict[str, tuple[str, Callable[[nn.Module, Mapping[str, str]], tuple[bytes, str]]]] = {
    "onnx": (".onnx", to_onnx),
    "safetensors": (".safetensors", to_safetensors),
    "torch": (".pt2", to_program),
}


def facts_of_use(
    mean: float,
    std: float,
    class_names: tuple[str, ...],
    image_shape: ImageShape = MNIST_SHAPE,
) -> dict[str, str]:
    """Return what a user of the file needs to know, as texts."""
    channels, height, width = image_shape
    pixels = "grey levels" if channels == 1 else "red, green and blue"
    return {
        "input": f"{INPUT}: float32 [B, {channels}, {height}, {width}], (p / 255 - mean) / std of "
        f"{pixels} p",
        SHAPE: json.dumps(image_shape),
        "output": f"{OUTPUT}: float32 [B, {len(class_names)}], one per class, before softmax",
        "mean": repr(mean),
        "std": repr(std),
        "class_names": json.dumps(class_names),
    }


def _compare(
    network: nn.Module, computed: Callable[[Tensor], Tensor], facts: Mapping[str, str]
) -> str:
    """Compare logits on a few batches; return the largest difference in words."""
    largest = share = 0.0
    for size in BATCH_SIZES:
        images = _images(size, facts)
        with torch.no_grad():
            expected, found = network(images), computed(images)
        if found.shape != expected.shape:
            raise Differs(f"logits are {list(found.shape)}, not {list(expected.shape)}")
        difference = (found - expected).abs().max().item()
        largest = max(largest, difference)
        share = max(share, difference / max(expected.abs().max().item(), 1e-30))
    words = f"largest difference of a logit {largest:.2g}, {share:.2g} of the largest logit"
    if not share <= LARGEST_DIFFERENCE:  # also if it is not a number
        raise Differs(f"{words}; allowed is {LARGEST_DIFFERENCE:g}")
    return f"{words}, in batches of {', '.join(map(str, BATCH_SIZES))}"


def _images(size: int, facts: Mapping[str, str]) -> Tensor:
    """Return images [B, C, H, W] about as bright and as varied as normalised ones."""
    generator = torch.Generator().manual_seed(SEED + size)
    return torch.randn(size, *json.loads(facts[SHAPE]), generator=generator)


# What the extras of this package install, by format.
PACKAGES = {"onnx": "onnx onnxscript onnxruntime", "safetensors": "safetensors"}


def _extra(name: str, extra: str) -> ModuleType:
    """Import a module of an optional package."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = getattr(error, "name", None) or name
        raise UserError(
            f"--format {extra}: needs the package {missing.partition('.')[0]}. Run "
            f"`pip install {PACKAGES[extra]}` first."
        ) from error


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep what the exporters print to themselves; turn their failures into a user's message."""
    said = io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # any type: the tracer runs the network's own code
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = next((line.strip() for line in str(cause).splitlines() if line.strip()), "")
        raise UserError(
            f"--format {name}: torch cannot trace this network ({type(cause).__name__}: {reason}). "
            "--format safetensors writes its weights alone."
        ) from error
    finally:
        logging.disable(logging.NOTSET)
