"""Two small convolutional networks, of 21,844 and 18,972 parameters."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_exp.errors import UserError
from mnist_exp.models.batch_norm import BatchNorm2d, FusedSequential
from mnist_exp.models.stages import Stages
from mnist_exp.schema.parts import CNN, CNN20K
from mnist_exp.schema.rule import check_settings

MNIST_SHAPE = (1, 28, 28)


class CNN21k(nn.Module):
    """Two blocks of two 3x3 convolutions (no padding) and a 512-30-classes head; 21,844 parameters.

    Other sizes of images change the 512, and with colour there are 72 parameters more.

    Parameters
    ----------
    num_classes : int
        Number of logits.
    image_shape : sequence of int
        Channels, height and width of the images; both sides at least 16.

    Raises
    ------
    UserError
        If the images are too small.
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        image_shape: Sequence[int] = MNIST_SHAPE,
    ) -> None:
        super().__init__()
        check_settings(CNN, {"image_shape": image_shape}, "model")
        in_channels, *sides = image_shape
        _check_size("CNN21k", sides, least=16)
        # two convolutions take 4 off each side, pooling halves the rest
        height, width = (((side - 4) // 2 - 4) // 2 for side in sides)
        self.conv1 = nn.Conv2d(in_channels, 4, kernel_size=3)
        self.conv2 = nn.Conv2d(4, 8, kernel_size=3)
        self.conv3 = nn.Conv2d(8, 16, kernel_size=3)
        self.conv4 = nn.Conv2d(16, 32, kernel_size=3)
        self.fc1 = nn.Linear(32 * height * width, 30)
        self.out = nn.Linear(30, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, num_classes]`` of normalised ``images`` ``[B, C, H, W]``.

        The shapes below are those of images ``[B, 1, 28, 28]``.
        """
        # with one input channel, oneDNN's weight gradient is three times slower in bf16
        with torch.autocast(images.device.type, enabled=False):
            x = F.relu(self.conv1(images))  # (B, 4, 26, 26)
        # ReLU after the pool: same result, a quarter of the work
        x = F.relu(F.max_pool2d(self.conv2(x), 2))  # (B, 8, 12, 12)
        x = F.relu(self.conv3(x))  # (B, 16, 10, 10)
        x = F.relu(F.max_pool2d(self.conv4(x), 2))  # (B, 32, 4, 4)
        x = F.relu(self.fc1(x.flatten(1)))  # (B, 512) -> (B, 30)
        logits: Tensor = self.out(x)
        return logits

    def stages(self) -> Stages:
        """Declare the layers of `forward`; see `mnist_exp.models.stages`."""
        convolutions = [(self.conv1, False), (self.conv2, True)]
        convolutions += [(self.conv3, False), (self.conv4, True)]
        return convolutions, [self.fc1, self.out]


def _check_size(name: str, sides: Sequence[int], least: int) -> None:
    if min(sides) < least:
        height, width = sides
        raise UserError(
            f"model: {name} takes images of at least {least} x {least} pixels, these have "
            f"{height} x {width}. Use model=mlp, or enlarge the images."
        )


def _conv_block(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class CNN20k(nn.Module):
    """Seven bias-free convolutions, BatchNorm and ReLU after all but the last; 18,972 parameters.

    A global average pool gives the logits.

    Parameters
    ----------
    num_classes : int
        Number of logits.
    dropout : sequence of float
        Two probabilities, in [0, 1), of dropping a whole channel of an image: after the input block
        and after the transition block.
    image_shape : sequence of int
        Channels, height and width of the images; both sides at least 4, on which nothing depends.

    Raises
    ------
    UserError
        If ``dropout`` is not two such numbers, or the images are too small.
    """

    fixed_operations = True

    def __init__(
        self,
        *,
        num_classes: int = 10,
        dropout: Sequence[float] = (0.0, 0.0),
        image_shape: Sequence[int] = MNIST_SHAPE,
    ) -> None:
        super().__init__()
        check_settings(CNN20K, {"dropout": dropout, "image_shape": image_shape}, "model")
        in_channels, *sides = image_shape
        _check_size("CNN20k", sides, least=4)
        input_dropout, transition_dropout = dropout
        self.features = FusedSequential(
            _conv_block(in_channels, 12),  # (B, 12, 28, 28)
            _conv_block(12, 16),
            nn.Dropout2d(input_dropout),
            _conv_block(16, 20),
            nn.MaxPool2d(2),  # (B, 20, 14, 14)
            _conv_block(20, 24),
            nn.Dropout2d(transition_dropout),
            _conv_block(24, 24),
            nn.MaxPool2d(2),  # (B, 24, 7, 7)
            _conv_block(24, 20),
            nn.Conv2d(20, num_classes, kernel_size=1, bias=False),  # (B, num_classes, 7, 7)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, num_classes]`` of normalised ``images`` ``[B, C, H, W]``."""
        return torch.mean(
            self.features(images), dim=(2, 3)
        )  # (B, num_classes, 7, 7) -> (B, num_classes)
