"""``python -m mnist_exp check-models [parameters|shapes]``: check network sizes and layers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mnist_exp.app.commands import argument_parser
from mnist_exp.files.shipped_config import config_directory

if TYPE_CHECKING:
    from torch import Tensor, nn

# Published counts. cnn20k's description gives only an upper limit; its count is this design's.
PARAMETERS = {
    "mlp100": 79_510,
    "mlp300": 328_810,
    "mlp": 407_050,
    "cnn21k": 21_844,
    "cnn20k": 18_972,
}
LIMIT = {"cnn20k": 20_000}  # the count must stay below
REQUIRED = {"cnn20k": ("BatchNorm2d", "Dropout2d", "MaxPool2d")}  # layer classes


@dataclass(frozen=True)
class Stage:
    """A layer and its output shape."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int


def configured_model(name: str) -> nn.Module:
    """Build a model option for ten classes from its YAML file."""
    from hydra import compose, initialize_config_dir

    from mnist_exp.experiment.build import build_model

    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        return build_model(compose("config", [f"model={name}"]), num_classes=10)


def check_parameters() -> Iterator[str]:
    """Print a table of the counts and yield a message for each wrong one."""
    from mnist_exp.models.parametrizations import count_parameters

    print(f"{'model':<8} {'parameters':>10} {'expected':>10}")
    for name, expected in PARAMETERS.items():
        count = count_parameters(configured_model(name))
        print(f"{name:<8} {count:>10,} {expected:>10,}")
        if count != expected:
            yield f"{name} has {count:,} parameters, expected {expected:,}"
        if name in LIMIT and count >= LIMIT[name]:
            yield f"{name} has {count:,} parameters, must stay below {LIMIT[name]:,}"


def check_shapes() -> Iterator[str]:
    """Print every layer's output shape and yield a message for each missing layer kind."""
    for name in PARAMETERS:
        print(f"{name}: output and parameters of each layer for an input [1, 1, 28, 28]")
        layers = stages(configured_model(name))
        for stage in layers:
            print(
                f"  {stage.name:<16} {stage.kind:<14} {list(stage.shape)!s:<18} "
                f"{stage.parameters or '':>8}"
            )
        for kind in REQUIRED.get(name, ()):
            if kind not in [stage.kind for stage in layers]:
                yield f"{name} has no {kind}"


def stages(model: nn.Module) -> list[Stage]:
    """Run an image through ``model`` in eval mode and list its layers in order of use."""
    import torch

    from mnist_exp.models.parametrizations import count_parameters

    seen: list[Stage] = []

    def record(name: str, layer: nn.Module) -> None:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            kind = type(layer).__name__
            seen.append(Stage(name, kind, tuple(output.shape), count_parameters(layer)))

        layer.register_forward_hook(hook)

    for name, layer in model.named_modules():
        if not list(layer.children()):
            record(name, layer)
    with torch.no_grad():
        model.eval()(torch.zeros(1, 1, 28, 28))
    return seen


CHECKS = {"parameters": check_parameters, "shapes": check_shapes}


def main(arguments: list[str]) -> int:
    """Run the named checks, or all; return 0 if they pass."""
    parser = argument_parser("check-models")
    parser.add_argument(
        "checks",
        metavar="CHECK",
        nargs="*",
        help="parameters: the counts against the published ones; "
        "shapes: every layer's output (default: both)",
    )
    names = parser.parse_args(arguments).checks or list(CHECKS)
    for name in names:
        if name not in CHECKS:
            print(f"error: {name}: allowed is {' or '.join(CHECKS)}", file=sys.stderr)
            return 2
    faults = [fault for name in names for fault in CHECKS[name]()]
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if faults else 0
