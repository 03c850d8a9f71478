"""The training loop, its state, callbacks and evaluation, without Hydra or files.

Imports models, data, optim, device and cpu.
"""

from mnist_exp.train.callback import Callback
from mnist_exp.train.evaluate import Evaluation, evaluate
from mnist_exp.train.loop import Evaluate, LossNotFinite, train
from mnist_exp.train.state import Row, TrainState
from mnist_exp.train.training import Batches, Recipe, Training

__all__ = [
    "Batches",
    "Callback",
    "Evaluate",
    "Evaluation",
    "LossNotFinite",
    "Recipe",
    "Row",
    "TrainState",
    "Training",
    "evaluate",
    "train",
]
