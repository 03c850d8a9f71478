"""``python -m mnist_exp.recipe_over_seeds cnn21k --seeds 10``: a recipe's accuracy as mean and std.

Each name is a model option or an experiment preset. Every seed is a whole run (weights, data
order, augmentation and validation split all follow it); the table goes to
``outputs/reproduce/<date>-<name>/table.md``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mnist_exp.app import config_directory
from mnist_exp.output import outlive_readers
from mnist_exp.run.files import write_atomic

HEADER = (
    "| recipe | parameters | test accuracy, mean ± std | n | epoch reported | seconds a run "
    "| command |\n"
    "|---|---|---|---|---|---|---|\n"
)


def recipe_override(name: str) -> str:
    """Return the override that selects a recipe.

    Raises
    ------
    ValueError
        If there is neither an experiment nor a model of that name.
    """
    for group in ("experiment", "model"):
        if (config_directory() / group / f"{name}.yaml").is_file():
            return f"{group}={name}"
    known = [
        path.stem for group in ("model", "experiment")
        for path in sorted((config_directory() / group).glob("*.yaml"))
    ]  # fmt: skip
    raise ValueError(f"WHAT={name}: no such model or experiment; there are {', '.join(known)}")


def run_seeds(name: str, seeds: int, overrides: list[str]) -> Path:
    """Run the recipe with seeds 0, 1, ... as one sweep and return the sweep's directory."""
    directory = Path("outputs/reproduce") / f"{time.strftime('%Y-%m-%d-%H-%M-%S')}-{name}"
    command = [sys.executable, "-m", "mnist_exp", "-m", recipe_override(name), *overrides]
    command += [f"seed=range({seeds})", f"hydra.sweep.dir={directory}"]
    subprocess.run(command, check=True)
    return directory


def table_row(name: str, directory: Path, overrides: list[str]) -> str:
    """Return a row of the table from the results of a sweep over seeds."""
    runs: list[dict[str, Any]] = [
        json.loads(path.read_text()) for path in directory.glob("*/results.json")
    ]
    runs = [run for run in runs if run["status"] == "completed"]
    accuracies: list[float] = [
        run["test_accuracy" if "test_accuracy" in run else "mean_accuracy"] for run in runs
    ]
    mean = statistics.mean(accuracies)
    spread = f" ± {statistics.stdev(accuracies):.2%}" if len(runs) > 1 else ""
    seconds = statistics.median(run["wall_seconds"] for run in runs)
    command = " ".join(["make reproduce", f"WHAT={name}", f"SEEDS={len(runs)}"])
    if overrides:
        command += f' ARGS="{" ".join(overrides)}"'
    return (
        f"| {name} | {runs[0]['parameters']:,} | {mean:.2%}{spread} | {len(runs)} "
        f"| {runs[0]['selection_rule']} | {seconds:.0f} | `{command}` |\n"
    )


def main(arguments: list[str]) -> int:
    """Run the recipes named and print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, prog="make reproduce")
    parser.add_argument("names", nargs="+", help="models or experiments")
    parser.add_argument("--seeds", type=int, default=5, help="runs a recipe")
    options, overrides = parser.parse_known_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds {options.seeds}: allowed is 1 or more")
    names = [name for name in options.names if "=" not in name]
    overrides += [name for name in options.names if "=" in name]
    try:
        for name in names:
            recipe_override(name)
    except ValueError as error:
        parser.error(str(error))
    rows = ""
    for name in names:
        directory = run_seeds(name, options.seeds, overrides)
        row = table_row(name, directory, overrides)
        write_atomic(directory / "table.md", (HEADER + row).encode())
        rows += row
    print(HEADER + rows)
    return 0


if __name__ == "__main__":
    outlive_readers()
    sys.exit(main(sys.argv[1:]))
