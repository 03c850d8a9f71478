"""From a configuration to results: the parts, the folds, the run. Imports all but app."""

from typing import Any

__all__ = ["run_experiment"]


def __getattr__(name: str) -> Any:
    if name == "run_experiment":  # torch loads with it
        from mnist_exp.experiment.run import run_experiment

        return run_experiment
    raise AttributeError(f"module 'mnist_exp.experiment' has no attribute {name!r}")
