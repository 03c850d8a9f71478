"""Data of one's own: what is written is read back; what is wrong is named, with what to do."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import Dataset as TorchDataset

from mnist_exp.data import Dataset, csv_table, load_csv, load_idx_directory, load_npz, pool
from mnist_exp.data.arrays import as_images
from mnist_exp.data.augment import Augmentation, jitter_colour
from mnist_exp.data.batches import Images
from mnist_exp.data.deformation import affine_grid, affine_matrices, resample
from mnist_exp.data.torch_dataset import read_torch_dataset
from mnist_exp.errors import UserError
from mnist_exp.files import regular
from tests.helpers.own_data import Split, few, write_csv, write_idx

GAPS = [1, 2, 7]
SHAPES = [(5, 5), (4, 7), (3, 6, 6)]


def check_same(dataset: Dataset, train: Split, test: Split) -> None:
    """Compare with what was written, in which labels have gaps."""
    np.testing.assert_array_equal(dataset.train_images.numpy(), train[0])
    np.testing.assert_array_equal(dataset.test_images.numpy(), test[0])
    assert dataset.class_names == ("1", "2", "7")
    assert dataset.values == (1, 2, 7)
    for found, labels in ((dataset.train_labels, train[1]), (dataset.test_labels, test[1])):
        np.testing.assert_array_equal(np.array(GAPS)[found], labels)


def save_npz(file: Path, **arrays: Any) -> Path:
    np.savez(file, **arrays)
    return file


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", ["idx", "npz", "medmnist", "csv", "csv.gz"])
def test_what_is_written_is_read_back(tmp_path: Path, form: str, shape: tuple[int, ...]) -> None:
    train, test = few(GAPS, *shape, each=4), few(GAPS, *shape, each=2, seed=1)
    if form == "idx":
        dataset = load_idx_directory(write_idx(tmp_path, train, test))
    elif form.startswith("csv"):
        files = (
            write_csv(tmp_path / f"{name}.{form}", split, names=name == "train")
            for name, split in (("train", train), ("test", test))
        )
        dataset = load_csv(*files, image_shape=shape)
    else:
        names = ("x_train", "y_train", "x_test", "y_test")
        if form == "medmnist":
            names = ("train_images", "train_labels", "test_images", "test_labels")
        arrays = (train[0], train[1][:, None], test[0], test[1])
        file = save_npz(tmp_path / "set.npz", **dict(zip(names, arrays, strict=True)))
        dataset = load_npz(file)
        assert dataset.name == "set"
    check_same(dataset, train, test)


@given(
    st.integers(1, 3),
    st.integers(4, 9),
    st.integers(4, 9),
    st.sampled_from([1, 3]),
    st.booleans(),
)
def test_channels_may_come_first_or_last(
    count: int, height: int, width: int, channels: int, last: bool
) -> None:
    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, channels, height, width), np.uint8)
    given_ = images.transpose(0, 2, 3, 1) if last else images
    found = as_images("x", given_).numpy()
    np.testing.assert_array_equal(found, images[:, 0] if channels == 1 else images)


def test_a_square_of_grey_or_colour_needs_no_shape(tmp_path: Path) -> None:
    for shape in ((6, 6), (3, 4, 4)):
        file = write_csv(tmp_path / "a.csv", few([0, 1], *shape), names=False)
        assert load_csv(file, file).images.shape[1:] == shape


def test_prefixes_name_the_sets_of_a_directory(tmp_path: Path) -> None:
    sets = {"emnist-letters": few([1, 2], 6, 6), "emnist-digits": few([0, 1], 6, 6)}
    for prefix, split in sets.items():
        write_idx(tmp_path, split, split, prefix=f"{prefix}-")
    with pytest.raises(UserError, match=r"start with emnist-digits, emnist-letters\. Choose one"):
        load_idx_directory(tmp_path)
    letters = load_idx_directory(tmp_path, prefix="emnist-letters")
    assert (letters.name, letters.class_names) == ("emnist-letters", ("1", "2"))
    with pytest.raises(UserError, match=r"mnist-train-images-idx3-ubyte .*Prefixes there: emnist"):
        load_idx_directory(tmp_path, prefix="mnist")


def test_classes_are_chosen_by_the_labels_of_the_files_and_named_in_that_order() -> None:
    split = few(GAPS, 6, 6, each=3)
    dataset = pool("x", split, split).select_classes([7, 1]).named(["seven", "one"])
    assert dataset.class_names == ("seven", "one")
    assert dataset.values == (7, 1)
    assert torch.equal(
        dataset.train_images[dataset.train_labels == 0].float(),
        torch.tensor(split[0][split[1] == 7]).float(),
    )


X, Y = few([0, 1], 6, 6, each=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"x_train": X.astype(np.int32)},
            r"x_train: pixels are int32 \[6, 6, 6\]; .* run from .*"
            r"write images\.astype\('uint8'\)",
        ),
        ({"x_train": X / 255}, r"pixels are float64 .*run from .*\(images \* 255\)\.round"),
        ({"x_test": X.astype(np.int16) - 300}, r"x_test: pixels are int16 .*run from -.*Rescale"),
        ({"x_train": X.reshape(6, 36)}, r"uint8 \[6, 36\]; expected uint8 \[N, H, W\].*reshape"),
        ({"x_train": np.zeros((6, 4, 6, 2), np.uint8)}, r"\[6, 4, 6, 2\]; .*with 1 or 3 channels"),
        ({"x_test": X[:, :5]}, r"training images are \[6, 6\] and test images \[5, 6\]"),
        ({"y_train": np.eye(2)[Y]}, r"y_train: labels are float64 \[6, 2\]; expected whole"),
        ({"y_train": np.eye(2, dtype=int)[Y]}, r"labels are int64 \[6, 2\].*labels\.argmax\(1\)"),
        ({"y_train": Y[:-1]}, "the training split has 6 images and 5 labels"),
        ({"y_train": Y * 0}, "every training image has the label 0; expected two classes or more"),
        ({"y_test": Y + 4}, "test labels 4, 5 do not occur in training, whose labels are 0, 1"),
        ({"y_train": Y.astype(object)}, "y_train: it holds Python objects, which may run code"),
    ],
)
def test_wrong_arrays_are_named_for_what_they_are(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    arrays = {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y} | change
    with pytest.raises(UserError, match=message):
        load_npz(save_npz(tmp_path / "a.npz", **arrays))


def test_wrong_archives_are_named_for_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="holds X, y; expected the arrays x_train, y_train"):
        load_npz(save_npz(tmp_path / "a.npz", X=X, y=Y))
    (tmp_path / "b.npz").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"b\.npz: is not an \.npz archive, or a damaged one"):
        load_npz(tmp_path / "b.npz")
    with pytest.raises(UserError, match=r"c\.npz: cannot be read \(No such file"):
        load_npz(tmp_path / "c.npz")
    good = save_npz(tmp_path / "d.npz", x_train=X, y_train=Y, x_test=X, y_test=Y)
    content = good.read_bytes()
    good.write_bytes(content[:100] + bytes(50) + content[150:])
    with pytest.raises(UserError, match=r"d\.npz"):
        load_npz(good)
    good.write_bytes(content)
    monkeypatch.setattr(regular, "available_memory", lambda: 100)
    with pytest.raises(UserError, match=r"may take 3.. bytes of memory, and 100 are free"):
        load_npz(good)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no rows"),
        ("label,a,b,c,d\n", "holds no rows"),
        ("0,1,2,3,4\n1,5,6,7\n", "line 2: has 4 columns; expected 5, a label and 4 pixels"),
        ("label,a,b,c,d\n0,1,2,3,4\n1,5,x,7,8\n", "line 3, column 3: 'x' is not a pixel; expected"),
        ("0,1,2,3,4\n\n1,5,6,7,8\n", "line 2: has 1 columns; expected 5"),
        ("0,1,2,3,4\n1,5,256,7,8\n", "line 2, column 3: '256' is not a pixel; .*from 0 to 255"),
        ("0,1,2,3,4\n1,5,0.5,7,8\n", "line 2, column 3: '0.5' is not a pixel"),
        ("0,1,2,3,4\ncat,5,6,7,8\n", "line 2, column 1: 'cat' is not a label; expected a whole"),
        ("0;1;2;3;4\n", "line 1: has semicolons between its values; expected commas"),
        ("label;a;b\n0;1;2\n", "line 1: has semicolons between its values; expected commas"),
        (
            "a,b,c,d,label\n1,2,3,4,0\n",
            "line 1: the label is column 5; expected it to be the first",
        ),
        ("0,1,2,3,4,5\n1,1,2,3,4,5\n", r"has 5 pixels per image, which is not a square.*data"),
    ],
)
def test_wrong_rows_are_named_by_file_line_and_column(
    tmp_path: Path, text: str, message: str
) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text("0,1,2,3,4\n1,5,6,7,8\n")
    bad.write_text(text)
    with pytest.raises(UserError, match=rf"bad\.csv.*{message}"):
        load_csv(good, bad)


def test_rows_of_every_block_are_read_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_table, "ROWS", 4)
    train, test = few(GAPS, 5, 5, each=4), few(GAPS, 5, 5, each=3, seed=1)
    files = [write_csv(tmp_path / n, s, names=True) for n, s in (("a", train), ("b", test))]
    check_same(load_csv(*files), train, test)
    lines = files[0].read_text().splitlines()
    lines[9] = lines[9].replace(",", ",-", 1)
    files[0].write_text("\ufeff" + "\r\n".join(lines))
    with pytest.raises(UserError, match="line 10, column 2: '-"):
        load_csv(*files)
    monkeypatch.setattr(csv_table, "LONGEST_LINE", 20)
    with pytest.raises(UserError, match="has a line of 20 bytes or more"):
        load_csv(*files)


class Svhn(TorchDataset[Any]):
    """As torchvision's SVHN: chosen by split, channels first, labels; no class names."""

    def __init__(self, root: str, split: str = "train") -> None:
        self.data, self.labels = few([0, 1, 2], 3, 8, 8, seed=len(split))


class Folder(TorchDataset[Any]):
    """As torchvision's sets of files: one image at a time, of any size."""

    def __init__(self, train: bool, size: int = 0, transform: Callable[..., Any] | None = None):
        self.transform, self.size = transform, size

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.new("RGB", (8 + index * self.size, 9), (index, 2, 3))
        return (self.transform(image) if self.transform else image), index % 2


def test_data_sets_of_torch_are_read_whole_or_image_by_image() -> None:
    whole = read_torch_dataset(Svhn, functools.partial(Svhn, "."))
    assert whole.image_shape == (3, 8, 8)
    assert (whole.num_train, whole.num_classes) == (60, 3)
    assert not torch.equal(whole.train_images, whole.test_images)
    fetched = read_torch_dataset(Folder, Folder)
    assert fetched.image_shape == (3, 9, 8)
    assert fetched.train_images[:, 0, 0, 0].tolist() == list(range(6))
    with pytest.raises(
        UserError, match=r"image 0 is \[9, 8, 3\] and image 1 is \[9, 9, 3\].*Resize"
    ):
        read_torch_dataset(Folder, functools.partial(Folder, size=1))
    resized = functools.partial(Folder, size=1, transform=lambda image: image.resize((5, 4)))
    assert read_torch_dataset(Folder, resized).image_shape == (3, 4, 5)


def test_a_data_set_without_splits_or_files_says_so(tmp_path: Path) -> None:
    from torchvision import datasets

    with pytest.raises(UserError, match="FakeData takes neither train nor split"):
        read_torch_dataset(datasets.FakeData, datasets.FakeData)
    with pytest.raises(UserError, match=r"CIFAR10 cannot be loaded: Dataset not found.*data\.root"):
        read_torch_dataset(datasets.CIFAR10, functools.partial(datasets.CIFAR10, tmp_path))


def test_batches_of_colour_are_scaled_by_one_mean_and_std() -> None:
    images, labels = few([0, 1], 3, 6, 7, each=3)
    dataset = pool("x", (images, labels), (images, labels))
    mean, std = dataset.pixel_mean_std()
    assert (mean, std) == pytest.approx(((images / 255).mean(), (images / 255).std()))
    served = Images(dataset, device=torch.device("cpu"), mean=mean, std=std)
    batch, _ = served.batch(torch.tensor([3, 0]))
    expected = torch.tensor((images[[3, 0]] / 255 - mean) / std).float()
    torch.testing.assert_close(batch, expected, atol=1e-5, rtol=1e-5)
    augmented, _ = served.batch(torch.tensor([3, 0]), Augmentation(strength=0.0), torch.Generator())
    torch.testing.assert_close(augmented, expected, atol=1e-5, rtol=1e-5)


@given(st.floats(-60, 60), st.integers(-3, 3), st.integers(-3, 3), st.sampled_from([0.8, 1.3]))
def test_wide_and_high_images_turn_without_distortion(
    angle: float, shift_x: int, shift_y: int, scale: float
) -> None:
    """As a large square image, of which they are a part."""
    line = torch.linspace(-1.5, 1.5, 41)
    y, x = torch.meshgrid(line, line, indexing="ij")
    square = torch.exp(-(x**2 + 3 * (y - 0.1) ** 2 + x * y) * 8)[None, None]
    wide = square[..., 12:29, :]  # [1, 1, 17, 41]

    def turned(image: torch.Tensor) -> torch.Tensor:
        height, width = image.shape[2:]
        values: dict[str, Any] = {
            "angle": torch.tensor([angle]),
            "shift_x": torch.tensor([shift_x / width]),
            "shift_y": torch.tensor([shift_y / height]),
            "scale": torch.tensor([scale]),
            "shear": torch.tensor([20.0]),
        }
        matrices = affine_matrices(**values, ratio=height / width)
        return resample(image, affine_grid(matrices, height, width))

    part, whole = turned(wide), turned(square)[..., 12:29, :]
    inside = turned(torch.ones_like(wide)) > 0.999  # of the wide image
    assert inside.any()
    torch.testing.assert_close(part[inside], whole[inside], atol=1e-4, rtol=0)


def test_contrast_of_colours_is_torchvision_s() -> None:
    from torchvision.transforms import functional as TF

    images = torch.rand(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    one, first = torch.ones(2), torch.ones(2, dtype=torch.bool)
    found = jitter_colour(images, brightness=one, contrast=one * 1.4, brightness_first=first)
    torch.testing.assert_close(found, TF.adjust_contrast(images, 1.4), atol=1e-5, rtol=1e-4)
