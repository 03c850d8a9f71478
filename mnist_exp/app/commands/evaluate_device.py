"""``python -m mnist_exp evaluate-device RUN_DIR``: accuracy over time on real devices."""

from __future__ import annotations

import argparse
from pathlib import Path

from mnist_exp.app.commands import add_run, argument_parser

TRUST = "trust=true"


def main(arguments: list[str]) -> int:
    """Test the network, print the table and write JSON, CSV and a picture."""
    options, overrides = _parser().parse_known_args(arguments)

    from mnist_exp.app.device_evaluation import evaluate_device
    from mnist_exp.app.runs import Run
    from mnist_exp.experiment import device_report as report

    if options.output is not None:
        report.check_writable(options.output)  # rather than after the tests
    run = Run(options.run_dir, trust=TRUST in overrides, key="RUN_DIR")
    found = evaluate_device(
        run,
        *(text for text in overrides if text != TRUST),
        epoch=options.epoch,
        fold=options.fold,
        config_dir=options.config_dir,
    )
    print(found)
    paths = report.write(options.output or run.directory, found.record, run.config.plots.dpi)
    print(f"written: {', '.join(map(str, paths))}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argument_parser("evaluate-device")
    parser.usage = "%(prog)s [-h] RUN_DIR [evaluation=OPTION evaluation.KEY=VALUE ...] ..."
    parser.epilog = (
        "evaluation=pcm (default), rram or ideal chooses the devices, evaluation.KEY=VALUE changes "
        "them: evaluation.times=[1s,1h,1d], evaluation.repetitions=25. Weights of a run without "
        "devices are programmed; a run trained on devices keeps its conductances. The test images "
        f"are those of the run's own split. {TRUST} allows classes of your own that RUN_DIR names."
    )
    add_run(parser, "one fold, from 1 (default: all of them)")
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="where device_evaluation.json, .csv and .png go; older ones are replaced (default: "
        "RUN_DIR)",
    )
    parser.add_argument("--config-dir", help="directory with your own options, as for a run")
    return parser
