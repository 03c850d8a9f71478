"""Data sets as uint8 tensors on the compute device, batches and augmentation."""

from mnist_exp.data.csv_table import load_csv
from mnist_exp.data.dataset import Dataset, pool
from mnist_exp.data.npz import load_npz
from mnist_exp.data.sources import load_idx_directory, load_mnist, load_torchvision

__all__ = [
    "Dataset",
    "load_csv",
    "load_idx_directory",
    "load_mnist",
    "load_npz",
    "load_torchvision",
    "pool",
]
