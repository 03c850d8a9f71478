"""The training loop, its state, callbacks and evaluation, without Hydra or files.

Imports models, data, optim, device and cpu.
"""

from mnist_exp.train.callback import Callback
from mnist_exp.train.evaluate import Evaluation, evaluate
from mnist_exp.train.loop import Batches, Evaluate, LossNotFinite, Recipe, train
from mnist_exp.train.state import Row, TrainState

__all__ = [
    "Batches",
    "Callback",
    "Evaluate",
    "Evaluation",
    "LossNotFinite",
    "Recipe",
    "Row",
    "TrainState",
    "evaluate",
    "train",
]
