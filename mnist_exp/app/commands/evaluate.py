"""``python -m mnist_exp evaluate RUN_DIR [data=idx data.root=...]``: test a run's network."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_exp.app.commands import argument_parser
from mnist_exp.errors import UserError
from mnist_exp.run.saved_config import key_of, make_paths_absolute

if TYPE_CHECKING:
    from mnist_exp.data import Dataset
    from mnist_exp.train import Evaluation


def main(arguments: list[str]) -> int:
    """Print accuracy, loss and each class's accuracy on the run's test images, or on others."""
    parser = argument_parser("evaluate")
    parser.usage = "%(prog)s [-h] [--epoch EPOCH] [--fold FOLD] RUN_DIR [data=... data.KEY=...]"
    parser.epilog = (
        "data=OPTION and data.KEY=VALUE name other images, of which the test part is used; the "
        "normalisation stays the run's own. trust=true: the directory comes from elsewhere, or "
        "names classes of your own, and you trust it."
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="directory of a run")
    parser.add_argument("overrides", metavar="data=...", nargs="*", help="other images")
    parser.add_argument("--epoch", default="best", help="best (default), last or a number")
    parser.add_argument("--fold", type=int, help="one fold, from 1 (default: each)")
    options = parser.parse_intermixed_args(arguments)
    trust = "trust=true" in options.overrides
    overrides = [text for text in options.overrides if text != "trust=true"]

    from mnist_exp.app.runs import Run

    run = Run(Path(options.run_dir), trust=trust, key="RUN_DIR")
    dataset = other_data(overrides) if overrides else None
    epoch = int(options.epoch) if options.epoch.isdigit() else options.epoch
    folds = run.folds if options.fold is None else [options.fold]
    found = [run.evaluate(dataset, epoch=epoch, fold=fold) for fold in folds]
    print("\n".join(lines(found, folds, run.class_names)))
    return 0


def other_data(overrides: Sequence[str]) -> Dataset:
    """Load the data that overrides of the group ``data`` name.

    Raises
    ------
    UserError
        If an override is of something else, or the data cannot be loaded.
    """
    from mnist_exp.app.hydra_callback import check_job
    from mnist_exp.app.python_run import composed_settings
    from mnist_exp.experiment.build import build_dataset

    for override in overrides:
        if "=" not in override or key_of(override).partition(".")[0] != "data":
            raise UserError(f"{override}: evaluate takes data=OPTION and data.KEY=VALUE only.")
    config = composed_settings(tuple(overrides))
    check_job(config)
    make_paths_absolute(config, Path.cwd())
    return build_dataset(config)


def lines(
    found: Sequence[Evaluation], folds: Sequence[int | None], class_names: Sequence[str]
) -> list[str]:
    """Return the lines to print: one per network, the mean over folds, and the classes."""
    rows = [
        f"{'' if fold is None else f'fold {fold}: '}accuracy {each.accuracy:.2%}, "
        f"loss {each.loss:.4f}, {len(each.predictions):,} images"
        for fold, each in zip(folds, found, strict=True)
    ]
    if len(found) > 1:
        mean, std = mean_and_std([each.accuracy for each in found])
        loss, loss_std = mean_and_std([each.loss for each in found])
        rows.append(f"mean: accuracy {mean:.2%} +- {std:.2%}, loss {loss:.4f} +- {loss_std:.4f}")
    by_class = zip(*(each.per_class_accuracy for each in found), strict=True)
    shares = [statistics.fmean(values) for values in by_class]
    named = zip(class_names, shares, strict=True)
    rows.append("by class: " + ", ".join(f"{name} {share:.2%}" for name, share in named))
    return rows


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard deviation of a sample of at least two."""
    return statistics.fmean(values), statistics.stdev(values)
