"""Batches from device-resident tensors equal torchvision's one-image-at-a-time pipeline."""

import torch
from PIL import Image
from torch import Generator, Tensor
from torchvision import transforms

from mnist_exp.data import Dataset
from mnist_exp.data.batches import Images


def test_batch_equals_torchvision_to_tensor_and_normalize(mnist: Dataset) -> None:
    images = Images(mnist, device=torch.device("cpu"), mean=0.1307, std=0.3081)
    indices = torch.tensor([0, 7, 59_999, 69_999])
    pipeline = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    )
    expected = torch.stack([pipeline(Image.fromarray(mnist.images[i].numpy())) for i in indices])
    batch, labels = images.batch(indices)
    torch.testing.assert_close(batch, expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(labels, mnist.labels[indices])


def test_augmentation_sees_pixels_in_unit_range_before_normalisation(mnist: Dataset) -> None:
    seen: dict[str, float] = {}

    def darken(images: Tensor, *, generator: Generator, erase_value: float) -> Tensor:
        seen.update(maximum=images.max().item(), erase_value=erase_value)
        return images / 2

    images = Images(mnist, device=torch.device("cpu"), mean=0.25, std=0.5)
    indices = torch.arange(100)
    batch, _ = images.batch(indices, darken, Generator())
    expected = (mnist.images[indices].unsqueeze(1) / 255 / 2 - 0.25) / 0.5
    torch.testing.assert_close(batch, expected)
    assert seen == {"maximum": 1.0, "erase_value": 0.25}


def test_batches_cover_the_indices_once_in_order(mnist: Dataset) -> None:
    images = Images(mnist, device=torch.device("cpu"), mean=0.0, std=1.0)
    indices = torch.randperm(70_000)[:1050]
    labels = [labels for _, labels in images.batches(indices, 500)]
    assert [len(part) for part in labels] == [500, 500, 50]
    assert torch.equal(torch.cat(labels), mnist.labels[indices])


def test_channels_last_changes_the_layout_not_the_values(mnist: Dataset) -> None:
    device = torch.device("cpu")
    plain = Images(mnist, device=device, mean=0.1, std=0.3)
    other = Images(mnist, device=device, mean=0.1, std=0.3, memory_format=torch.channels_last)
    indices = torch.arange(3)
    batch = other.batch(indices)[0]
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch, plain.batch(indices)[0])
