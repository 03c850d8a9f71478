"""``python -m mnist_exp export RUN_DIR --format onnx``: a run's network for other programs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_exp.app.commands import add_run, argument_parser
from mnist_exp.errors import UserError
from mnist_exp.terminal import printable_lines

if TYPE_CHECKING:
    from mnist_exp.app.runs import Run

FORMATS = ("onnx", "safetensors", "torch")
TRUST = "trust=true"


def main(arguments: list[str]) -> int:
    """Write the file and print what was compared; the exit code is 1 if the logits differ."""
    parser = _parser()
    options, settings = parser.parse_known_args(arguments)
    if not set(settings) <= {TRUST}:
        parser.error(f"{' '.join(settings)}: the only setting is {TRUST}")
    if options.output is not None and options.output.exists():
        raise UserError(f"--output {options.output}: exists already; delete it, or give another.")

    from mnist_exp.app.runs import Run
    from mnist_exp.experiment import export
    from mnist_exp.files.atomic import write_atomic

    run = Run(options.run_dir, trust=bool(settings), key="RUN_DIR")
    epoch, fold = options.epoch, options.fold
    network = export.effective_network(run.model(epoch, fold))
    ending, write = export.FORMATS[options.format]
    try:
        content, compared = write(network, facts(run, epoch, fold))
    except export.Differs as difference:
        print(f"error: not written: {printable_lines(difference)}", file=sys.stderr)
        return 1
    path = options.output or default_path(run, epoch, fold, ending)
    try:
        write_atomic(path, content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}).") from error
    print(f"{path}: {len(content):,} bytes\ncompared {compared}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argument_parser("export")
    parser.usage = f"%(prog)s [-h] RUN_DIR --format {{{','.join(FORMATS)}}} [{TRUST}] ..."
    parser.epilog = (
        "The input is normalised images [B, C, H, W]; the file says how, and names the classes. "
        "It is read back and compared before it is written; the exit code is 1 if it differs. "
        f"{TRUST} allows classes and functions of your own that RUN_DIR names."
    )
    add_run(parser, "of a run with folds, from 1")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        required=True,
        help="onnx: a model for onnxruntime and others; safetensors: the weights alone; "
        "torch: a program of torch.export",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="a new file (default: RUN_DIR/export/MODEL.onnx, .safetensors or .pt2, which is "
        "replaced)",
    )
    return parser


def facts(run: Run, epoch: int | str, fold: int | None) -> dict[str, str]:
    """Return what the file says of itself: how to use it, and where it comes from."""
    from mnist_exp._version import __version__
    from mnist_exp.experiment.build import pixel_mean_std
    from mnist_exp.experiment.export import facts_of_use
    from mnist_exp.experiment.trained import image_shape_of

    mean, std = pixel_mean_std(run.config, run.dataset)
    origin = {
        "model": str(run.config.model.name),
        "config_hash": run.results.get("config_hash"),
        "epoch": str(epoch),
        "fold": None if fold is None else str(fold),
        "mnist_exp": __version__,
    }
    known = {key: value for key, value in origin.items() if value is not None}
    return facts_of_use(mean, std, run.class_names, image_shape_of(run.results)) | known


def default_path(run: Run, epoch: int | str, fold: int | None, ending: str) -> Path:
    """Return the file in the run directory that an export without ``--output`` writes."""
    of_fold = "" if fold is None else f"_fold_{fold}"
    of_epoch = "" if epoch == "best" else f"_epoch_{epoch}"
    return run.directory / "export" / f"{run.config.model.name}{of_fold}{of_epoch}{ending}"
