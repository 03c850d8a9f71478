"""``python -m mnist_exp evaluate RUN_DIR [data=OPTION ...]``: test a run's network again.

Without settings it is tested on the test images of the run's own split, and the accuracy is that of
results.json. With ``data=OPTION`` it is tested on all test images of that data set, normalised as
the images the network was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_exp.app.commands import add_run, argument_parser
from mnist_exp.errors import UserError
from mnist_exp.files.atomic import finite
from mnist_exp.run.over_folds import class_accuracies, mean_and_std, metrics_over_folds
from mnist_exp.run.report import metric_lines
from mnist_exp.run.saved_config import key_of, make_paths_absolute
from mnist_exp.run.text_table import shown_accuracy, table_lines
from mnist_exp.terminal import printable

if TYPE_CHECKING:
    from mnist_exp.app.runs import Run
    from mnist_exp.data import Dataset
    from mnist_exp.train import Evaluation

OF_THE_RUN = ("data.normalization", "data.mean", "data.std", "data.subset")


def main(arguments: list[str]) -> int:
    """Test the network and print its accuracy and loss."""
    parser = argument_parser("evaluate")
    parser.usage = "%(prog)s [-h] RUN_DIR [data=OPTION data.KEY=VALUE ...] [--epoch EPOCH] ..."
    parser.epilog = (
        "data=OPTION tests on all test images of that data set, with the normalisation of the run; "
        "without it, on the test images of the run's own split. trust=true allows classes of your "
        "own that the run names, if you trust the directory."
    )
    add_run(parser, "one fold, from 1 (default: all of them)")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.add_argument("--config-dir", help="directory with your own options, as for a run")
    options, overrides = parser.parse_known_args(arguments)
    trust = "trust=true" in overrides
    overrides = [text for text in overrides if not text.startswith("trust=")]
    _check(overrides)

    from mnist_exp.app.runs import Run
    from mnist_exp.run.weights import read_weights

    run = Run(options.run_dir, trust=trust, key="RUN_DIR")
    dataset = other_data(run, overrides, options.config_dir) if overrides else None
    folds = run.folds if options.fold is None else [options.fold]
    epochs = [read_weights(run.directory, options.epoch, fold).epoch for fold in folds]
    evaluations = [run.evaluate(dataset, epoch=options.epoch, fold=fold) for fold in folds]
    found = numbers(run, dataset, folds, epochs, evaluations)
    print(json.dumps(finite(found), indent=2) if options.json else "\n".join(lines(found)))
    return 0


def _check(overrides: Sequence[str]) -> None:
    """Refuse arguments other than settings of the data."""
    for text in overrides:
        key = key_of(text)
        if "=" not in text or not (key == "data" or key.startswith("data.")):
            raise UserError(f"{text}: evaluate takes data=OPTION, data.KEY=VALUE and trust=true.")
        if key in OF_THE_RUN:
            raise UserError(f"{text}: leave it out; the images are prepared as the run's were.")
    if overrides and "data" not in map(key_of, overrides):
        raise UserError(
            f"{overrides[0]}: name the data too, data=OPTION; without settings the run's own test "
            "images are used."
        )


def other_data(run: Run, overrides: Sequence[str], config_dir: str | None) -> Dataset:
    """Load the data that the overrides choose, with the classes of the run unless they say else."""
    from mnist_exp.app.composition import composed, own_hydra
    from mnist_exp.app.hydra_callback import check_job
    from mnist_exp.experiment.build import build_dataset

    with own_hydra():
        config = composed(overrides, config_dir)
    check_job(config)
    make_paths_absolute(config, Path.cwd())
    if "data.classes" not in map(key_of, overrides):
        config.data.classes = run.config.data.classes
    return build_dataset(config)


def numbers(
    run: Run,
    dataset: Dataset | None,
    folds: Sequence[int | None],
    epochs: Sequence[int],
    evaluations: Sequence[Evaluation],
) -> dict[str, Any]:
    """Return what was evaluated and the results, over folds as in results.json."""
    matrices = [each.confusion_matrix.tolist() for each in evaluations]
    summed = [list(map(sum, zip(*rows, strict=True))) for rows in zip(*matrices, strict=True)]
    recorded = run.results.get("metrics", {})
    percent = {key.partition(".")[0] for key, found in recorded.items() if found.get("percent")}
    return {
        "run": str(run.directory),
        "model": run.results.get("model", ""),
        "data": run.dataset().name if dataset is None else dataset.name,
        "own_split": dataset is None,
        "accuracy": mean_and_std([each.accuracy for each in evaluations]),
        "loss": mean_and_std([each.loss for each in evaluations]),
        "metrics": metrics_over_folds([each.metrics for each in evaluations], percent),
        "class_names": list(run.class_names),
        "per_class_accuracy": class_accuracies(summed),
        "folds": [
            {
                "fold": fold,
                "epoch": epoch,
                "images": len(each.predictions),
                "accuracy": each.accuracy,
                "loss": each.loss,
                "metrics": each.metrics,
                "confusion_matrix": matrix,
            }
            for fold, epoch, each, matrix in zip(folds, epochs, evaluations, matrices, strict=True)
        ],
    }


def lines(found: dict[str, Any]) -> list[str]:
    """Format the results for the terminal."""
    folds, accuracy = found["folds"], found["accuracy"]
    which = "its own split" if found["own_split"] else "the official test set"
    many = folds[0]["fold"] is not None
    images = sorted({f"{row['images']:,}" for row in folds})
    each = " in each fold" if len(folds) > 1 else ""
    head = f"{found['model']}, {found['run']}"
    if not many:
        head += f", epoch {folds[0]['epoch']}"
    text = [head, f"{' or '.join(images)} test images of {found['data']}{each} ({which})"]
    if many:
        rows = [
            (
                str(row["fold"]),
                shown_accuracy(row["accuracy"]),
                f"{row['loss']:.4f}",
                str(row["epoch"]),
            )
            for row in folds
        ]
        text += table_lines([("fold", "accuracy", "loss", "epoch"), *rows], str.rjust)
    spread = f" (mean +- sample std of {len(folds)} folds)" if len(folds) > 1 else ""
    text.append(
        f"accuracy {shown_accuracy(accuracy['mean'], accuracy['std'])}, "
        f"loss {found['loss']['mean']:.4f}{spread}"
    )
    text += metric_lines(found)
    text.append(
        "accuracy by class: "
        + " ".join(
            f"{name}:" + ("-" if share is None else f"{share:.1%}")
            for name, share in zip(found["class_names"], found["per_class_accuracy"], strict=True)
        )
    )
    return [printable(line) for line in text]
