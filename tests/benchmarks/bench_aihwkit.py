"""Accuracy and CPU seconds of networks on devices beside aihwkit's, on the same work.

    make bench WHAT=aihwkit    # AIHWKIT_VENV=path: its environment, about 7 GB

784-100-10 with ReLU and free biases, 60,000 images, batches of 128, 8 epochs at a constant rate,
one thread, arrays read perfectly on both sides; the same device constants. Every row is two
processes, one after the other. aihwkit pulses every sample of a batch, as ``apply_to=sample`` does,
unless its mixed precision collects the batch in a digital accumulator, which is our
``pulse_rounding=accumulate``. Both sides learn at a rate of 0.15, aihwkit's Tiki-Taka v2 at 0.1.
Other rates, on 10,000 of the training images:

    python -m tests.benchmarks.bench_aihwkit --validation --rates 0.15 0.5
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnist_exp.cpu.features import cpu_name
from mnist_exp.data import load_mnist
from mnist_exp.files.atomic import write_atomic
from tests.benchmarks import loops

SCRIPT = Path(__file__).with_name("aihwkit_script.py")
EPOCHS, BATCH_SIZE, SEED = 8, 128, 0
HELD_OUT = 10_000  # training images that take the place of the test images with --validation
NETWORK = ("model=mlp100", "training.gradient_norm=false")
SAMPLE = "constraint.apply_to=sample"
ACCUMULATE = "constraint.pulse_rounding=accumulate"
Result = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One device under one scheme, on both sides.

    Attributes
    ----------
    scheme : str
        Name in the table.
    preset : str
        Of aihwkit, without the suffix "Preset".
    their_rate, our_rate : float
        Learning rates.
    overrides : tuple of str
        Of our configuration.
    """

    scheme: str
    preset: str
    their_rate: float
    our_rate: float
    overrides: tuple[str, ...]


MIXED = "mixed precision beside `pulse_rounding=accumulate`"
SAMPLES = "pulses of samples on both sides, `apply_to=sample`"
PULSES = "pulses of samples beside pulses of the net update"
ROWS = (
    Row(PULSES, "GokmenVlasov", 0.15, 0.15, ("constraint=gokmen_vlasov",)),
    Row(PULSES, "EcRam", 0.15, 0.15, ("constraint=ecram",)),
    Row(PULSES, "ReRamSB", 0.15, 0.15, ("constraint=reram_sb",)),
    Row(PULSES, "ReRamES", 0.15, 0.15, ("constraint=reram_es",)),
    Row(SAMPLES, "GokmenVlasov", 0.15, 0.15, ("constraint=gokmen_vlasov", SAMPLE)),
    Row(SAMPLES, "EcRam", 0.15, 0.15, ("constraint=ecram", SAMPLE)),
    Row(SAMPLES, "ReRamSB", 0.15, 0.15, ("constraint=reram_sb", SAMPLE)),
    Row(SAMPLES, "ReRamES", 0.15, 0.15, ("constraint=reram_es", SAMPLE)),
    Row(MIXED, "MixedPrecisionGokmenVlasov", 0.15, 0.15, ("constraint=gokmen_vlasov", ACCUMULATE)),
    Row(MIXED, "MixedPrecisionEcRam", 0.15, 0.15, ("constraint=ecram", ACCUMULATE)),
    Row(MIXED, "MixedPrecisionReRamSB", 0.15, 0.15, ("constraint=reram_sb", ACCUMULATE)),
    Row(MIXED, "MixedPrecisionReRamES", 0.15, 0.15, ("constraint=reram_es", ACCUMULATE)),
    Row(
        "Tiki-Taka", "TikiTakaReRamES", 0.15, 0.15,
        ("constraint=reram_es", "constraint/update=tiki_taka"),
    ),
    Row(
        "Tiki-Taka v2", "TTv2ReRamES", 0.1, 0.15,
        ("constraint=reram_es", "constraint/update=tiki_taka_v2"),
    ),
)  # fmt: skip


def our_result(settings: Result) -> Result:
    """Train with the package and return what `aihwkit_script.train` does."""
    torch.set_num_threads(1)
    data = np.load(settings["images"])
    loops.use_images(len(data["images"]))
    epoch, model = loops.ours_with_model(*settings["overrides"])
    seconds = []
    for _ in range(settings["epochs"]):
        started = time.process_time()
        epoch()
        seconds.append(time.process_time() - started)
    inputs = torch.from_numpy(data["test_images"]).unsqueeze(1).float() / 255
    with torch.no_grad():
        predicted = model.eval()(inputs).argmax(1)
    right = predicted == torch.from_numpy(data["test_labels"])
    return {"accuracy": right.double().mean().item(), "seconds": seconds}


def measured(command: Sequence[str], settings: Result) -> Result:
    """Run one side in a process of its own, on one thread."""
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    ended = subprocess.run(
        [*command, json.dumps(settings)], check=False, capture_output=True, text=True,
        env=environment,
    )  # fmt: skip
    if ended.returncode != 0:
        sys.exit(f"{' '.join(command)} {settings}:\n{ended.stderr[-3000:]}")
    result: Result = json.loads(ended.stdout.splitlines()[-1])
    return result


def missing(python: Path) -> str:
    """Return why aihwkit cannot be used, "" if it can: a layer is built, not only imported."""
    if not python.is_file():
        return f"no environment at {python.parent.parent}"
    probe = subprocess.run([python, SCRIPT], check=False, capture_output=True, text=True)
    if probe.returncode == 0:
        print(probe.stdout.strip())
        return ""
    return (probe.stderr.strip().splitlines() or ["it ended without a message"])[-1]


def save_images(path: Path, validation: bool) -> None:
    """Write the images of both sides: 60,000 and 10,000, or 50,000 and 10,000 of training."""
    mnist = load_mnist()
    train = (mnist.train_images, mnist.train_labels)
    test = (mnist.test_images, mnist.test_labels)
    if validation:
        test = (train[0][-HELD_OUT:], train[1][-HELD_OUT:])
        train = (train[0][:-HELD_OUT], train[1][:-HELD_OUT])
    names = ("images", "labels", "test_images", "test_labels")
    arrays = {n: t.numpy() for n, t in zip(names, (*train, *test), strict=True)}
    np.savez(path, allow_pickle=False, **arrays)


def table_line(row: Row, theirs: Result | None, ours: Result | None) -> str:
    """Return a line of the table; a side that did not run is None."""
    sides = (theirs, ours)
    accuracies = [f"{100 * side['accuracy']:.2f} %" if side else "" for side in sides]
    seconds = [statistics.median(side["seconds"]) if side else None for side in sides]
    shown = [f"{value:.2f}" if value is not None else "" for value in seconds]
    ratio = f"{seconds[0] / seconds[1]:.1f}" if seconds[0] and seconds[1] else ""
    device = row.overrides[0].removeprefix("constraint=")
    return f"| `{device}` | {row.scheme} | {' | '.join([*accuracies, *shown, ratio])} |"


def run_row(row: Row, side: str, work: Result, rate: float | None, more: list[str]) -> str:
    """Run a row's sides and return its line; ``rate`` takes the place of its own rates."""
    theirs = ours = None
    if side != "ours":
        settings = {"config": f"{row.preset}Preset", "rate": rate or row.their_rate}
        theirs = measured([str(their_python()), str(SCRIPT)], work | settings)
    if side != "aihwkit":
        ours_rate = rate or row.our_rate
        rates = (f"optimizer.lr_pos={ours_rate}", f"optimizer.lr_neg={ours_rate}")
        overrides = [*NETWORK, *row.overrides, *rates, *more]
        command = [sys.executable, "-m", "tests.benchmarks.bench_aihwkit", "--ours"]
        ours = measured(command, work | {"overrides": overrides})
    return table_line(row, theirs, ours)


def their_python() -> Path:
    """Return the interpreter of aihwkit's environment."""
    return Path(os.environ.get("AIHWKIT_VENV", ".venv-aihwkit")) / "bin" / "python"


def main() -> None:
    """Run all rows and write their table to outputs/bench."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default="", help="rows with this text in preset or scheme")
    parser.add_argument("--validation", action="store_true", help="test on 10,000 training images")
    parser.add_argument("--side", choices=("both", "ours", "aihwkit"), default="both")
    parser.add_argument("--rates", type=float, nargs="+", help="rates in place of each row's")
    parser.add_argument("overrides", nargs="*", help="more of our settings")
    options = parser.parse_args()
    if options.side != "ours" and (reason := missing(their_python())):
        print(f"aihwkit is left out: {reason}")
        return
    lines = [
        f"| {cpu_name()}, one thread | scheme | accuracy, aihwkit | mnist_exp "
        "| CPU-s an epoch, aihwkit | mnist_exp | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    with tempfile.TemporaryDirectory() as directory:
        images = Path(directory) / "images.npz"
        save_images(images, options.validation)
        work = {"images": str(images), "epochs": EPOCHS, "batch_size": BATCH_SIZE, "seed": SEED}
        for row in ROWS:
            if options.only not in f"{row.preset} {row.scheme}":
                continue
            for rate in options.rates or [None]:
                lines.append(run_row(row, options.side, work, rate, options.overrides))
                print(lines[-1], f"rate {rate}" if rate else "", flush=True)
    if not (options.only or options.rates or options.validation or options.overrides):
        write_atomic(Path("outputs/bench/aihwkit.md"), ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        print(json.dumps(our_result(json.loads(sys.argv[2]))))
    else:
        main()
