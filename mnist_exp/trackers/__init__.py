"""Copies of what a run measures, in other programs, one per file.

Imports run, train and the packages below them. A tracker's own package is imported when it is used.
"""

from mnist_exp.trackers.csv_files import CSV
from mnist_exp.trackers.mlflow import MLflow
from mnist_exp.trackers.tensorboard import TensorBoard
from mnist_exp.trackers.tracked_run import TrackedRun
from mnist_exp.trackers.tracker import Tracker
from mnist_exp.trackers.trackio import Trackio
from mnist_exp.trackers.wandb import WandB

__all__ = ["CSV", "MLflow", "TensorBoard", "TrackedRun", "Tracker", "Trackio", "WandB"]
