"""Run an experiment from a configuration to results. May import every package except app."""

from typing import Any

__all__ = ["run_experiment"]


def __getattr__(name: str) -> Any:
    if name == "run_experiment":  # deferred: importing it loads torch
        from mnist_exp.experiment.run import run_experiment

        return run_experiment
    raise AttributeError(f"module 'mnist_exp.experiment' has no attribute {name!r}")
