"""Accuracy of the ready-made devices beside the published one, and whether they rank alike.

The published accuracies are those of MLP+NeuroSim V3.0 (manual by P.-Y. Chen and S. Yu): online
training of 400-100-10 with sigmoid units on black-and-white 20 x 20 images, one image a write,
1,000,000 images. Here: the same network, images, squared error and whole pulses rounded to the
nearest, with `IMAGES_PER_WRITE` images a write and 60,000 images; without the 8-bit read-out,
wire resistance and 1-bit hidden activations of the simulator's array. The learning rate is one for
all devices: of 0.2, 0.3, 0.4 and 0.6 the one with the best mean accuracy on the last 5,000 training
images.

    python -m tests.benchmarks.device_ranking
"""

from __future__ import annotations

import argparse
import statistics

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from mnist_exp.data import load_mnist
from mnist_exp.device import DeviceConstraint
from mnist_exp.optim import AsymmetricSGD
from tests.device_settings import device_settings

PUBLISHED = {  # accuracy in percent
    "ag_si": 72, "taox_hfox": 80, "pcmo": 33, "alox_hfo2": 20, "gst_pcm": 89, "epiram": 92,
    "hzo_fefet": 88,
}  # fmt: skip
SOFTWARE = 96.5
IMAGES_PER_WRITE = 8


def black_and_white(images: Tensor) -> Tensor:
    """Return the 20 x 20 centres of uint8 [N, 28, 28] as 0 or 1, float32 [N, 400]."""
    return (images[:, 4:24, 4:24] > 127).float().reshape(-1, 400)


def train(
    option: str | None, seed: int, inputs: Tensor, targets: Tensor, rate: float
) -> nn.Sequential:
    """Train one epoch under a device; None: free weights."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(400, 100, bias=False), nn.Sigmoid(), nn.Linear(100, 10, bias=False), nn.Sigmoid()
    )
    for weight in model.parameters():
        nn.init.uniform_(weight, -1, 1)  # torch's own start leaves devices at chance
    constraint = None
    if option is not None:
        settings = device_settings(option, pulse_rounding="nearest")
        constraint = DeviceConstraint(**settings)
        constraint.attach(model, seed=seed)
        rate /= settings["gain"] ** 2  # a weight sees gain^2 times the rate of its conductance
    optimizer = AsymmetricSGD(model.parameters(), lr_pos=rate, lr_neg=rate, momentum=0.0)
    for batch in torch.randperm(len(inputs)).split(IMAGES_PER_WRITE):
        error = model(inputs[batch]) - targets[batch]
        optimizer.zero_grad()
        (error.square().sum() / 2).backward()
        optimizer.step()
        if constraint is not None:
            constraint.step()
    return model


def main() -> None:
    """Print the table and the rank correlation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rate", type=float, default=0.3, help="learning rate of the weights")
    arguments = parser.parse_args()
    mnist = load_mnist()
    inputs, test_inputs = black_and_white(mnist.train_images), black_and_white(mnist.test_images)
    targets = torch.eye(10)[mnist.train_labels]
    ours = {}
    print(f"{'device':12} {'ours %':>14} {'published %':>12}")
    for option, published in [(None, SOFTWARE), *PUBLISHED.items()]:
        accuracies = []
        for seed in range(arguments.seeds):
            model = train(option, seed, inputs, targets, arguments.rate)
            with torch.no_grad():
                right = model(test_inputs).argmax(1) == mnist.test_labels
            accuracies.append(100 * right.float().mean().item())
        mean, spread = statistics.mean(accuracies), statistics.pstdev(accuracies)
        print(
            f"{option or 'free weights':12} {mean:7.1f} +- {spread:3.1f} {published:12}", flush=True
        )
        if option is not None:
            ours[option] = mean
    correlation = spearmanr(list(ours.values()), list(PUBLISHED.values())).statistic
    print(f"rank correlation (Spearman) of the {len(ours)} devices: {correlation:.2f}")


if __name__ == "__main__":
    main()
