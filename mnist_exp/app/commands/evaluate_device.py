"""``python -m mnist_exp evaluate-device RUN_DIR``: accuracy over time on real devices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_exp.app.commands import argument_parser
from mnist_exp.errors import UserError
from mnist_exp.run.saved_config import key_of

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mnist_exp.app.runs import Run
    from mnist_exp.device.programmed import DeviceEvaluation
    from mnist_exp.experiment.device_report import Tested

TRUST = "trust=true"
BRINGS_THE_GROUP = "callbacks=device_evaluation"


def main(arguments: list[str]) -> int:
    """Test the network, print the table and write JSON, CSV and a picture."""
    parser = argument_parser("evaluate-device")
    parser.usage = "%(prog)s [-h] RUN_DIR [evaluation=OPTION evaluation.KEY=VALUE ...] ..."
    parser.epilog = (
        "evaluation=pcm (default), rram or ideal chooses the devices, evaluation.KEY=VALUE changes "
        "them: evaluation.times=[1s,1h,1d], evaluation.repetitions=25. Weights of a run without "
        "devices are programmed once; a run trained on devices keeps them. Tested are the test "
        f"images of the run's own split. {TRUST} allows classes of your own that RUN_DIR names."
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="directory of a run")
    parser.add_argument(
        "--epoch", default="best", help="best (the reported one, default), last, or a number"
    )
    parser.add_argument("--fold", type=int, help="one fold, from 1 (default: all of them)")
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="where device_evaluation.json, .csv and .png go; older ones are replaced (default: "
        "RUN_DIR)",
    )
    parser.add_argument("--config-dir", help="as for a run: where options of your own lie")
    options, overrides = parser.parse_known_args(arguments)
    trust = TRUST in overrides
    config = _evaluation([o for o in overrides if o != TRUST], options.config_dir)

    from mnist_exp.app.runs import Run
    from mnist_exp.experiment import device_report as report
    from mnist_exp.experiment.device_evaluation import build_evaluation

    settings = build_evaluation(config)
    if options.output is not None:
        report.check_writable(options.output)  # rather than after the tests
    run = Run(options.run_dir, trust=trust, key="RUN_DIR")
    epoch = int(options.epoch) if options.epoch.isdecimal() else options.epoch
    folds = run.folds if options.fold is None else [options.fold]
    tests = _tested(run, settings, epoch, folds)
    config.model = run.config.model
    found = report.record(config, settings, run.directory, tests)
    print("\n".join(report.lines(found)))
    paths = report.write(options.output or run.directory, found, config.plots.dpi)
    print(f"written: {', '.join(map(str, paths))}")
    return 0


def _tested(
    run: Run, settings: DeviceEvaluation, epoch: int | str, folds: Sequence[int | None]
) -> list[Tested]:
    """Test the networks of these folds, under the conditions of the run."""
    from mnist_exp.experiment.build import build_images
    from mnist_exp.experiment.device_evaluation import DeviceTest
    from mnist_exp.experiment.trained import conditions_of
    from mnist_exp.run.weights import read_weights

    with conditions_of(run.config, run.results) as conditions:
        images = build_images(run.config, run.dataset(), conditions.device)
        test = DeviceTest(run.config, settings, images, conditions.precision)
        epochs = [read_weights(run.directory, epoch, fold).epoch for fold in folds]
        return [
            test.run(run.split(fold), run.model(epoch, fold), of_fold)
            for fold, of_fold in zip(folds, epochs, strict=True)
        ]


def _evaluation(overrides: Sequence[str], config_dir: str | None) -> DictConfig:
    """Compose the configuration that holds the group ``evaluation``, and check it."""
    from mnist_exp.app.composition import composed, own_hydra
    from mnist_exp.app.hydra_callback import check_job

    for text in overrides:
        group = key_of(text).partition(".")[0]
        if "=" not in text or group != "evaluation":
            raise UserError(
                f"{text}: evaluate-device takes evaluation=OPTION, evaluation.KEY=VALUE and "
                f"{TRUST}."
            )
    with own_hydra():
        config = composed([BRINGS_THE_GROUP, *overrides], config_dir)
    check_job(config)
    return config
