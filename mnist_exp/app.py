"""The command line: ``python -m mnist_exp [key=value ...]``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mnist_exp.errors import UserError
from mnist_exp.launch import check_job, refuse

# Inside an installed package, and at the top of a checkout.
CONFIG_DIRECTORIES = (Path(__file__).parent / "conf", Path(__file__).parents[1] / "conf")


def config_directory() -> Path:
    """Return the directory of config.yaml."""
    return next(path for path in CONFIG_DIRECTORIES if (path / "config.yaml").is_file())


@hydra.main(config_path=str(config_directory()), config_name="config", version_base="1.3")
def main(config: DictConfig) -> None:
    """Run one job: train as ``config`` says, in the directory Hydra made."""
    directory = Path(HydraConfig.get().runtime.output_dir)
    try:
        check_job(config)
        run_job(config, directory)
    except UserError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise
        if not (directory / "results.json").exists():
            shutil.rmtree(directory)
        refuse(error)


def run_job(config: DictConfig, directory: Path) -> None:
    """Train, write everything to ``directory``, and print the summary."""
    # torch, scikit-learn and matplotlib load here: --help and --cfg need none of them
    from mnist_exp.experiment import run_experiment
    from mnist_exp.run.interruption import Interrupted
    from mnist_exp.run.report import summary_lines

    try:
        results = run_experiment(config, directory)
    except Interrupted as interruption:
        print(f"stopped by {interruption}; what was written stays in {directory}")
        sys.exit(interruption.exit_code)
    print("\n".join(summary_lines(results, directory)))
