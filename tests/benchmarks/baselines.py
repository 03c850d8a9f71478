"""The two published CNN projects: PIL images, DataLoader, float32, eager.

Written from the published descriptions, with torch's own layers and the published settings. As in
``loops``, each function prepares everything and returns ``epoch()``.
"""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image
from torch import Tensor, nn, optim
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mnist_exp.data import load_mnist
from mnist_exp.models import CNN21k
from tests.benchmarks import loops

Epoch = Callable[[], None]
MEAN, STD = (0.1307,), (0.3081,)
TO_INPUT = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]


class PILImages(Dataset[tuple[Tensor, int]]):
    """The training images, transformed one by one as ``torchvision.datasets.MNIST`` does."""

    def __init__(self, transform: Callable[[Image.Image], Tensor]) -> None:
        mnist = load_mnist()
        images = loops.count()
        self.images, self.labels = mnist.train_images[:images], mnist.train_labels[:images]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images[index].numpy())
        return self.transform(image), int(self.labels[index])


def published_cnn20k(workers: int = 2) -> Epoch:
    """Augmentation by PIL in worker processes, element-wise dropout, SGD and OneCycle."""
    transform = transforms.Compose(
        [
            transforms.RandomRotation((-15, 15)),
            transforms.RandomAffine(0, (0.1, 0.1), (0.9, 1.1), (-5, 5)),
            transforms.ColorJitter(brightness=0.2, contrast=0.2),
            *TO_INPUT,
            transforms.RandomErasing(p=0.2),
        ]
    )
    loader = DataLoader(PILImages(transform), batch_size=128, shuffle=True, num_workers=workers)
    model = nn.Sequential(
        *_block(1, 12),
        *_block(12, 16),
        nn.Dropout(0.05),
        *_block(16, 20),
        nn.MaxPool2d(2),
        *_block(20, 24),
        nn.Dropout(0.1),
        *_block(24, 24),
        nn.MaxPool2d(2),
        *_block(24, 20),
        nn.Conv2d(20, 10, 1, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    optimizer = optim.SGD(
        model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    scheduler = OneCycleLR(optimizer, max_lr=0.1, epochs=20, steps_per_epoch=len(loader))
    return _usual_loop(model, loader, nn.CrossEntropyLoss(), optimizer, scheduler)


def published_cnn21k(workers: int = 0) -> Epoch:
    """Single images through ToTensor and Normalize, AdamW and OneCycle, batches of 128."""
    images = PILImages(transforms.Compose(TO_INPUT))
    loader = DataLoader(images, batch_size=128, shuffle=True, num_workers=workers)
    model = CNN21k(num_classes=10)
    optimizer = optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    # 20 epochs, not 1: the benchmark warms up for an epoch and may repeat
    scheduler = OneCycleLR(optimizer, max_lr=1e-3, epochs=20, steps_per_epoch=len(loader))
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    return _usual_loop(model, loader, criterion, optimizer, scheduler)


def _block(in_channels: int, out_channels: int) -> list[nn.Module]:
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(out_channels), nn.ReLU()]


def _usual_loop(
    model: nn.Module,
    loader: DataLoader[tuple[Tensor, int]],
    criterion: nn.Module,
    optimizer: optim.Optimizer,
    scheduler: LRScheduler,
) -> Epoch:
    def epoch() -> None:
        model.train()
        correct, loss_sum = 0, 0.0
        for images, labels in loader:
            optimizer.zero_grad()
            logits = model(images)
            loss = criterion(logits, labels)
            loss.backward()
            optimizer.step()
            scheduler.step()
            loss_sum += loss.item()
            correct += int((logits.argmax(dim=1) == labels).sum())

    return epoch
