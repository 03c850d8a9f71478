"""``python -m mnist_exp report DIR [DIR ...]``: the page of a run or sweep, or of several."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_exp.app.commands import argument_parser
from mnist_exp.app.foreign_targets import judge_targets, targets_of_options
from mnist_exp.errors import UserError
from mnist_exp.files.shipped_config import config_directory
from mnist_exp.run.results import NAME as RESULTS
from mnist_exp.run.saved_config import CONFIG_FILE, config_file, run_directory
from mnist_exp.run.sweep_record import SWEEP_FILE

if TYPE_CHECKING:
    from mnist_exp.report.images import RunImages

TRUST = "trust=true"


def main(arguments: list[str]) -> int:
    """Write the page and print its path."""
    parser = argument_parser("report")
    parser.usage = f"%(prog)s [-h] DIR [DIR ...] [--output FILE] [{TRUST}]"
    parser.epilog = (
        "The page is a single file that opens without a network. A run that did not finish also "
        "gets a page. Images are taken from the run's data if it is unchanged; "
        f"{TRUST} allows classes of your own that load it."
    )
    parser.add_argument("directories", metavar="DIR", nargs="+", type=Path, help="a run or a sweep")
    parser.add_argument(
        "--output", metavar="FILE", type=Path,
        help="the file to write or replace (default: report.html in DIR; for several directories, "
        "comparison.html here)",
    )  # fmt: skip
    words = [word for word in arguments if word != TRUST]
    options = parser.parse_args(words)
    directories = [_checked(path) for path in options.directories]
    if len(set(directories)) < len(directories):
        raise UserError("report: a directory is given twice; give each once.")
    output = options.output
    if output is not None and output.is_dir():
        raise UserError(
            f"--output {output}: is a directory; name a file, such as {output / 'report.html'}."
        )
    try:
        path = _write(directories, output, trust=len(words) < len(arguments))
    except OSError as error:
        where = output or (directories[0] if len(directories) == 1 else Path())
        raise UserError(
            f"{where}: cannot be written to ({error.strerror or error}); name another place with "
            "--output FILE."
        ) from error
    print(path)
    return 0


def _checked(path: Path) -> Path:
    if not path.exists():
        if path.name.startswith("trust="):
            raise UserError(f"{path}: allowed is {TRUST}.")
        raise UserError(f"{path}: there is no such directory.")
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise UserError(f"{path}: cannot be read (no permission).")
    directory = run_directory(path)
    if not directory.is_dir():
        raise UserError(f"{path}: is a file; give the directory of a run or sweep.")
    return directory


def _write(directories: list[Path], output: Path | None, trust: bool) -> Path:
    """Write the page of a run, of a sweep, or of several of them compared."""
    directory = directories[0]
    if len(directories) > 1:
        from mnist_exp.report.comparison_page import write_comparison

        return write_comparison(directories, output)
    if (directory / SWEEP_FILE).is_file():
        return _write_sweep(directory, output)
    known = (directory / RESULTS, directory / CONFIG_FILE, config_file(directory))
    if not any(map(os.path.isfile, known)):
        raise UserError(
            f"{directory}: there is no run in it. Give the directory that holds {RESULTS}, or the "
            f"one of a sweep, which holds {SWEEP_FILE}."
        )
    from mnist_exp.report.run_page import write_run_report

    images, reason = _images(directory, trust)
    return write_run_report(directory, images, no_images=reason, output=output)


def _write_sweep(directory: Path, output: Path | None) -> Path:
    """Write the page of a sweep, whose links to the jobs are relative."""
    if output is not None:
        raise UserError(
            f"--output {output}: the page of a sweep links to its jobs; it goes to {directory}."
        )
    from mnist_exp.report.sweep_page import write_sweep_report

    return write_sweep_report(directory)


def _images(directory: Path, trust: bool) -> tuple[RunImages | None, str]:
    """Return the images of a run's data, or why there are none."""
    import torch

    from mnist_exp.app.runs import Run
    from mnist_exp.experiment.build import build_images
    from mnist_exp.experiment.instantiate import call_target
    from mnist_exp.experiment.run_report import run_images
    from mnist_exp.experiment.trained import splits_of

    try:
        run = Run(directory, trust=trust, key="DIR")
        if not trust:
            own = targets_of_options([config_directory()])
            judge_targets(run.config, str(directory), own, ("cv", "augmentation"), TRUST)
        dataset = run.dataset()
        split = splits_of(run.config, dataset, run.results, directory)[0]
        images = build_images(run.config, dataset, torch.device("cpu"))
        augmentation = call_target(run.config, "augmentation")
        return run_images(dataset, split.train, images, augmentation, run.config.seed), ""
    except UserError as error:
        return None, str(error)
