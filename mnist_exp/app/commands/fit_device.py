"""``python -m mnist_exp fit-device FILE --name NAME``: train with a device of your measurement."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_exp.app.commands import argument_parser
from mnist_exp.errors import UserError
from mnist_exp.files.shipped_config import config_directory
from mnist_exp.run.command_line import command
from mnist_exp.schema.device_parts import FITTED_CURVES
from mnist_exp.terminal import printable

if TYPE_CHECKING:
    from mnist_exp.device.measurement.fits import Fit

NEARLY_THE_LIMIT = 8.95  # of a label
# a word of Hydra's grammar that is text
NAME = re.compile(r"(?!(null|true|false|nan|inf)$)[A-Za-z][A-Za-z0-9_]*", re.IGNORECASE)


def main(arguments: list[str]) -> int:
    """Fit the readings, write the option and the picture, and print how well it fits."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.example:
        _write({options.file: _example()}, force=options.force)
        print(f"{options.file}: a synthetic measurement")
        return 0
    if options.name is None:
        parser.error("--name NAME is needed: what constraint=NAME is to be called")
    option = _option_path(options.name, options.config_dir)
    picture = options.picture or option.with_suffix(".png")
    _refuse_existing((option, picture), options.force)

    from mnist_exp.device.measurement.fits import fit_curves
    from mnist_exp.device.measurement.option import option_text
    from mnist_exp.device.measurement.readings import read_measurement
    from mnist_exp.plots.figures import picture_of
    from mnist_exp.plots.measurement import fit_figure

    measurement = read_measurement(options.file, options.symmetric)
    fits = fit_curves(measurement, FITTED_CURVES if options.curve == "auto" else [options.curve])
    text = option_text(fits[0], options.name, options.file.name)
    drawn = picture_of(fit_figure(fits[0], options.name), dpi=110)
    _write({picture: drawn, option: text.encode()}, options.force)
    for line in report(fits):
        print(line)
    words = ("--config-dir", str(options.config_dir), f"constraint={options.name}", "model=mlp100")
    print(f"option:  {option}\npicture: {picture}\ntrain:   {command(*words)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argument_parser("fit-device")
    parser.usage = "%(prog)s [-h] FILE --name NAME [--curve CURVE] [--config-dir DIR] ..."
    parser.epilog = (
        "FILE is CSV with the columns pulse (number of pulses given), conductance (any unit), "
        "direction (up or down) and, for several cycles, cycle. Then train with "
        "--config-dir DIR constraint=NAME."
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="readings of one device")
    parser.add_argument("--name", help="of the option: a word of letters, digits and _")
    parser.add_argument(
        "--curve",
        choices=("auto", *FITTED_CURVES),
        default="auto",
        help="exponential; soft_bounds: steps in proportion to the distance to the bound; table: "
        "steps as measured; auto: the smallest Bayesian information criterion (default)",
    )
    parser.add_argument(
        "--config-dir",
        metavar="DIR",
        type=Path,
        default=Path("conf"),
        help="directory of your options (default: conf)",
    )
    parser.add_argument(
        "--picture", metavar="FILE.png", type=Path, help="default: beside the option's file"
    )
    parser.add_argument(
        "--symmetric",
        action="store_true",
        help="take a direction that was not measured as the mirror image of the other",
    )
    parser.add_argument("--force", action="store_true", help="replace existing files")
    parser.add_argument(
        "--example", action="store_true", help="only write a synthetic measurement to FILE"
    )
    return parser


def report(fits: list[Fit]) -> list[str]:
    """Return what was fitted, the curve taken first, as lines to print."""
    from mnist_exp.device.measurement.option import constraint_settings, quality_lines

    taken = fits[0]
    low, high = taken.measurement.bounds
    lines = [
        f"{fit.curve}{' (taken)' if fit is taken and len(fits) > 1 else ''}: "
        f"BIC {fit.criterion - taken.criterion:+.1f}, {fit.numbers} numbers\n  "
        + "\n  ".join(quality_lines(fit))
        for fit in fits
    ]
    states = constraint_settings(taken)["levels"]
    if taken.labels is not None and max(map(abs, taken.labels)) > NEARLY_THE_LIMIT:
        lines.append("a label is at its limit of 9: the curve is steeper; try --curve table")
    lines.append(f"range: {low:.4g} to {high:.4g} measured; {states} states")
    if taken.labels is not None:
        lines.append("labels: {:g} of potentiation, {:g} of depression".format(*taken.labels))
    noise = f"noise: {taken.noise.cycle:.2%} of the range from cycle to cycle"
    if taken.noise.separable:
        noise += f", {taken.noise.read:.2%} of a reading, which is left out"
    else:
        noise += "; read noise is not distinguishable from zero"
    return [*lines, noise]


def _option_path(name: str, config_dir: Path) -> Path:
    if not NAME.fullmatch(name):
        raise UserError(
            f"--name {printable(name)}: allowed are letters, digits and _, with a letter in front; "
            "no null, true, false, nan or inf."
        )
    shipped = config_directory() / "constraint" / f"{name}.yaml"  # --config-dir may be that one
    if shipped.exists():
        from mnist_exp.device.measurement.option import WRITTEN_BY

        if WRITTEN_BY not in shipped.read_text(encoding="utf-8"):
            raise UserError(f"--name {name}: is an option of the package; choose another name.")
    return config_dir / "constraint" / f"{name}.yaml"


def _example() -> bytes:
    from mnist_exp.device.measurement.synthetic import example_csv

    return example_csv().encode()


def _refuse_existing(paths: tuple[Path, ...], force: bool) -> None:
    for path in paths:
        if path.exists() and not force:
            raise UserError(f"{path}: exists already; choose another name, or give --force.")


def _write(contents: dict[Path, bytes], force: bool) -> None:
    from mnist_exp.files.atomic import write_atomic

    _refuse_existing(tuple(contents), force)
    for path, content in contents.items():
        try:
            write_atomic(path, content)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}).") from error
