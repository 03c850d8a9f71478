"""Accuracy of the ready-made devices against published values, and their rank correlation.

The published accuracies come from the manual of MLP+NeuroSim V3.0 (P.-Y. Chen, S. Yu). This script
repeats its set-up with our device functions: 400-100-10 without biases, sigmoid units,
black-and-white 20 x 20 images, squared error, weights uniform in [-1, 1] at the start, one random
image per write, learning rates 0.4 and 0.2, pulses rounded to whole numbers, 1,000,000 images.
Arrays are read by `constraint/read=one_bit_inputs`: one bit of each hidden unit drives the second
layer, and column currents become 8-bit digits whose full scale is the range of all rows, so that a
unit sees half of its weighted sum. Wire resistance is left out.
"ideal" is a device with a million levels, a straight curve and no noise.

All devices train in parallel on the same images, each `--seeds` times from different weights.

    make bench WHAT=devices
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from scipy.stats import spearmanr
from torch import Tensor

from mnist_exp.data import load_mnist
from mnist_exp.device import ArrayReading
from mnist_exp.device.pulses import curve_parameter, program, write_noise
from mnist_exp.device.quantization import clip
from tests.helpers.device_settings import device_settings

PUBLISHED = {  # accuracy in percent
    "ag_si": 72, "taox_hfox": 80, "pcmo": 33, "alox_hfo2": 20, "gst_pcm": 89, "epiram": 92,
    "hzo_fefet": 88,
}  # fmt: skip
SOFTWARE = 96.5
RATES = (0.4, 0.2)  # learning rates of the two layers
INPUTS, HIDDEN, OUTPUTS = 400, 100, 10
READING = ArrayReading(  # constraint/read=one_bit_inputs
    input_bits=1, input_range=1.0, input_signed=False,
    output_bits=8, output_range="all_rows", output_noise=0.0,
)  # fmt: skip


class Arrays:
    """The two weight arrays of R replicas of the network, each with one device type.

    Parameters
    ----------
    options : list of str
        Device of each replica: an option of the group ``constraint``, or "ideal".
    """

    def __init__(self, options: list[str]) -> None:
        devices = [device_settings("ag_si" if name == "ideal" else name) for name in options]
        for name, device in zip(options, devices, strict=True):
            if name == "ideal":
                device |= {"levels": 1_000_001, "write_noise": 0.0}
                device |= {"nonlinearity_ltp": 0.01, "nonlinearity_ltd": 0.01}

        def column(key: str) -> Tensor:
            return torch.tensor([[float(device[key])] for device in devices])  # [R, 1]

        self.low, self.high, self.span = column("W_min"), column("W_max"), column("levels") - 1
        self.noise = column("write_noise")
        self.A_ltp, self.A_ltd = (
            torch.tensor([[curve_parameter(device[f"nonlinearity_{kind}"])] for device in devices])
            for kind in ("ltp", "ltd")
        )
        shape = (len(options), 1)
        self.first, self.second = (
            self.low.view(*shape, 1) + (self.high - self.low).view(*shape, 1) * torch.rand(size)
            for size in ((len(options), HIDDEN, INPUTS), (len(options), HIDDEN, OUTPUTS))
        )  # conductances [R, 100, 400], [R, 100, 10]
        self.targets = torch.eye(OUTPUTS)

    def read(self, currents: Tensor, active: Tensor | float, rows: int) -> Tensor:
        """Return the weighted sums [R, K] as digitised from currents [R, K].

        Parameters
        ----------
        currents : Tensor
            Sum of the conductances of the driven rows.
        active : Tensor or float
            Number of driven rows; the reference column holds medium conductances.
        rows : int
            Rows of the array.
        """
        reference = active * (self.low + self.high) / 2
        weighted = 2 * (currents - reference) / (self.high - self.low)
        return READING.convert(weighted, rows) / 2

    def weights(self, conductances: Tensor) -> Tensor:
        """Return weights in [-1, 1] of conductances [R, ...]."""
        low, high = (b.view(-1, *[1] * (conductances.dim() - 1)) for b in (self.low, self.high))
        return (2 * conductances - low - high) / (high - low)

    def written(self, before: Tensor, pulses: Tensor, which: Tensor | slice) -> Tensor:
        """Return conductances [K, N] of replicas ``which`` after whole pulses, clipped."""
        low, high = self.low[which], self.high[which]
        shape = (self.A_ltp[which], self.A_ltd[which], low, high, self.span[which])
        after = clip(program(before, pulses, *shape), low, high)
        normal = torch.randn(before.shape)
        return clip(after + write_noise(pulses, normal, self.noise[which], high - low), low, high)

    def train(self, pixels: Tensor, label: int) -> None:
        """Train on one image, with white ``pixels`` [P], and write the update."""
        hidden = self.read(self.first[:, :, pixels].sum(2), len(pixels), INPUTS).sigmoid()
        outputs = self.outputs(hidden).sigmoid()  # [R, 10]
        second = self.weights(self.second)
        slope = 2 * (outputs - self.targets[label]) * outputs * (1 - outputs)
        hidden_slope = hidden * (1 - hidden) * (second @ slope.unsqueeze(2)).squeeze(2)
        pulses = (-RATES[0] / 2 * self.span * hidden_slope).round_()  # [R, 100], of white pixels
        replica, unit = pulses.nonzero(as_tuple=True)
        where = (replica[:, None], unit[:, None], pixels)
        self.first[where] = self.written(
            self.first[where], pulses[replica, unit].unsqueeze(1), replica
        )
        pulses = -RATES[1] / 2 * hidden.unsqueeze(2) * slope.unsqueeze(1)  # [R, 100, 10]
        pulses = (pulses.flatten(1) * self.span).round_()
        written = self.written(self.second.flatten(1), pulses, slice(None))
        self.second = written.view_as(self.second)

    def outputs(self, hidden: Tensor) -> Tensor:
        """Return the weighted sums [R, 10] of the second array for hidden units [R, 100]."""
        spikes = READING.drive(hidden).voltages  # 0 or 1
        currents = (spikes.unsqueeze(1) @ self.second).squeeze(1)
        return self.read(currents, spikes.sum(1, keepdim=True), HIDDEN)

    def classify(self, image: Tensor) -> Tensor:
        """Return each replica's predicted class [R] of a black-and-white image [400]."""
        hidden = self.read(self.first @ image, float(image.sum()), INPUTS).sigmoid()
        return self.outputs(hidden).argmax(1)


def black_and_white(images: Tensor) -> Tensor:
    """Return the 20 x 20 centres of uint8 [N, 28, 28] as 0 or 1, float32 [N, 400]."""
    return (images[:, 4:24, 4:24] > 127).float().reshape(-1, INPUTS)


def main() -> None:
    """Print the table and the rank correlation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="networks per device")
    parser.add_argument("--images", type=int, default=1_000_000, help="writes")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # the tensors are small
    mnist = load_mnist()
    images, test_images = black_and_white(mnist.train_images), black_and_white(mnist.test_images)
    white = [image.nonzero().squeeze(1) for image in images]
    names = ["ideal", *PUBLISHED]
    arrays = Arrays([name for name in names for _ in range(arguments.seeds)])
    started = time.perf_counter()
    for index in torch.randint(len(images), (arguments.images,)).tolist():
        arrays.train(white[index], int(mnist.train_labels[index]))
    seconds = time.perf_counter() - started
    predicted = torch.stack([arrays.classify(image) for image in test_images])  # [10000, R]
    right = 100 * (predicted == mnist.test_labels[:, None]).double().mean(0)
    print(f"{arguments.images:,} images, n={arguments.seeds}, {seconds:.0f} s")
    print(f"{'device':12} {'ours %':>14} {'published %':>12}")
    means = {}
    for number, name in enumerate(names):
        own = right[number * arguments.seeds :][: arguments.seeds].tolist()
        means[name] = statistics.mean(own)
        spread = statistics.stdev(own) if len(own) > 1 else 0.0
        print(f"{name:12} {means[name]:7.1f} +- {spread:3.1f} {PUBLISHED.get(name, SOFTWARE):12}")
    correlation = spearmanr([means[name] for name in PUBLISHED], [*PUBLISHED.values()]).statistic
    print(f"rank correlation (Spearman) of the {len(PUBLISHED)} devices: {correlation:.2f}")


if __name__ == "__main__":
    main()
