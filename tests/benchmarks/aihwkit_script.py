"""784-100-10 on analog tiles of aihwkit, as its own examples train it; needs no mnist_exp.

Runs in the environment of `bench_aihwkit`, which states the work. The argument is a JSON object:
``images`` (path of an .npz file), ``config`` (a class of `aihwkit.simulator.presets`), ``rate``,
``epochs``, ``batch_size``, ``seed``. Prints the accuracy after the last epoch and the CPU seconds
of each. Without an argument it builds a layer and prints the version.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import torch
from aihwkit import __version__
from aihwkit.nn import AnalogLinear, AnalogSequential
from aihwkit.optim import AnalogSGD
from aihwkit.simulator import presets
from torch import Tensor, nn
from torch.nn import functional as F


def read_perfectly(config: Any) -> Any:
    """Return a tile configuration whose arrays are read without noise, bounds or converters."""
    for reading in (config.forward, config.backward):
        reading.is_perfect = True
    transfer = getattr(config.device, "transfer_forward", None)  # of Tiki-Taka's fast array
    if transfer is not None:
        transfer.is_perfect = True
    return config


def inputs_of(images: np.ndarray) -> Tensor:
    """Return pixels in [0, 1], float32 [N, 784], of uint8 [N, 28, 28]."""
    return torch.from_numpy(images).reshape(len(images), -1).float() / 255


def train(settings: dict[str, Any]) -> dict[str, Any]:
    """Train and return ``accuracy`` (share) and ``seconds`` (CPU time of each epoch)."""
    torch.manual_seed(settings["seed"])
    data = np.load(settings["images"])
    inputs, labels = inputs_of(data["images"]), torch.from_numpy(data["labels"])
    config = getattr(presets, settings["config"])
    model = AnalogSequential(
        AnalogLinear(784, 100, rpu_config=read_perfectly(config())),
        nn.ReLU(),
        AnalogLinear(100, 10, rpu_config=read_perfectly(config())),
    )
    optimizer = AnalogSGD(model.parameters(), lr=settings["rate"])
    optimizer.regroup_param_groups(model)
    seconds = []
    for _ in range(settings["epochs"]):
        started = time.process_time()
        for batch in torch.randperm(len(inputs)).split(settings["batch_size"]):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[batch]), labels[batch]).backward()
            optimizer.step()
        seconds.append(time.process_time() - started)
    model.eval()
    with torch.no_grad():
        predicted = model(inputs_of(data["test_images"])).argmax(1)
    right = predicted == torch.from_numpy(data["test_labels"])
    return {"accuracy": right.double().mean().item(), "seconds": seconds}


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        print(json.dumps(train(json.loads(sys.argv[1]))))
    else:
        AnalogLinear(2, 2)(torch.ones(1, 2))
        print(f"aihwkit {__version__}, torch {torch.__version__}")
