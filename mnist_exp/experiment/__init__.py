"""From a configuration to results: parts, folds, the run. Imports everything but app and report."""

from mnist_exp.experiment.run import run_experiment

__all__ = ["run_experiment"]
