"""Data sets as uint8 tensors on the compute device, batches and augmentation."""

from mnist_exp.data.dataset import Dataset, pool
from mnist_exp.data.sources import load_idx_directory, load_mnist, load_torchvision

__all__ = ["Dataset", "load_idx_directory", "load_mnist", "load_torchvision", "pool"]
