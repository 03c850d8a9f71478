"""Runs on data of one's own: other sizes, colour, labels that do not start at 0, class names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset as TorchDataset

from mnist_exp import PyTorchNNWrapper, load_run
from mnist_exp.cpu.kernels import library
from mnist_exp.errors import UserError
from mnist_exp.experiment.dataset import described_dataset
from mnist_exp.experiment.run import run_experiment
from mnist_exp.interruption import Interrupted
from tests.app.test_resume import StopAfter
from tests.conftest import Compose
from tests.helpers.own_data import few, write_csv, write_idx

TINY = (
    "training.epochs=1",
    "training.batch_size=16",
    "cv=holdout",
    "cv.validation=null",
    "threads=1",
)
NO_PLOTS = ("plots.enabled=false", "report.enabled=false")
GREY, COLOUR = (16, 20), (32, 32, 3)
Y = [1, 2, 5]  # neither from 0 nor without gaps


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Grey images of 16 x 20 pixels as IDX, with labels that have gaps."""
    root = tmp_path_factory.mktemp("grey")
    write_idx(root, few(Y, *GREY), few(Y, *GREY, seed=1))
    return "data=idx", f"data.root={root}"


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Images of 32 x 32 pixels in three channels, as .npz."""
    file = tmp_path_factory.mktemp("colour") / "tiny.npz"
    (x_train, y_train), (x_test, y_test) = few([0, 1, 2], *COLOUR), few([0, 1, 2], *COLOUR, seed=1)
    np.savez_compressed(
        file, x_train=x_train, y_train=y_train[:, None], x_test=x_test, y_test=y_test
    )
    return "data=npz", f"data.file={file}"


def results_of(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "results.json").read_text())


def test_a_run_on_grey_images_of_another_size_names_its_labels_everywhere(
    tmp_path: Path, grey: tuple[str, str], compose_config: Compose
) -> None:
    config = compose_config(
        *grey,
        "model=mlp100",
        "data.class_names=[one,two,five]",
        "augmentation=strong",
        *TINY,
        "plots.num_samples=4",
    )
    run_experiment(config, tmp_path)
    results = results_of(tmp_path)
    assert results["class_names"] == ["one", "two", "five"]
    assert results["label_values"] == Y
    assert results["image_shape"] == [1, *GREY]
    assert results["parameters"] == 320 * 100 + 100 + 100 * 3 + 3
    assert (tmp_path / "plots" / "augmented_samples.png").stat().st_size > 1000

    run = load_run(tmp_path)
    images = run.dataset().test_images
    assert run.predict_proba(images).shape == (60, 3)
    assert run.predict_proba(images[0]).shape == (3,)
    assert run.evaluate().accuracy == results["accuracy"]["mean"]
    with pytest.raises(UserError, match=r"\[28, 28\]; give pixels .* uint8 \[N, 16, 20\], or \[16"):
        run.predict(np.zeros((28, 28), np.uint8))
    classifier = PyTorchNNWrapper.from_run(tmp_path)
    assert classifier.n_features_in_ == 320
    X = images.reshape(len(images), -1).numpy() / 255
    expected = np.array(run.class_names)[run.predict(images)]
    assert (classifier.predict(X) == expected).mean() > 0.98


@pytest.mark.parametrize("model", ["mlp", "cnn21k", "cnn20k"])
def test_every_network_takes_colour(
    tmp_path: Path, colour: tuple[str, str], compose_config: Compose, model: str
) -> None:
    drawn = model == "mlp"  # pictures of the images look alike for all
    pictures = ("plots.dpi=40", "plots.num_samples=4") if drawn else NO_PLOTS
    config = compose_config(*colour, f"model={model}", "gradients=epoch", *pictures, *TINY)
    run_experiment(config, tmp_path)
    results = results_of(tmp_path)
    assert results["image_shape"] == [3, 32, 32]
    assert "label_values" not in results
    assert results["accuracy"]["mean"] > 0.3
    images = load_run(tmp_path).dataset().test_images
    assert load_run(tmp_path).evaluate().accuracy == results["accuracy"]["mean"]
    assert load_run(tmp_path).predict(images[0]).shape == ()
    assert (tmp_path / "plots" / "gradient_hardest_samples.png").is_file() == drawn


@pytest.mark.parametrize("data", ["grey", "colour"])
@pytest.mark.parametrize("model", ["mlp", "cnn21k"])
def test_compiled_kernels_and_plain_torch_train_the_same(
    tmp_path: Path,
    compose_config: Compose,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    data: str,
    model: str,
) -> None:
    losses = {}
    for kernels in ("compiled", "torch"):
        monkeypatch.setenv("MNIST_EXP_KERNELS", kernels)
        library.compiled.cache_clear()
        config = compose_config(
            *request.getfixturevalue(data), f"model={model}", "augmentation=light", *TINY, *NO_PLOTS
        )
        run_experiment(config, tmp_path / kernels)
        losses[kernels] = results_of(tmp_path / kernels)["loss"]["mean"]
    monkeypatch.undo()
    library.compiled.cache_clear()
    assert losses["compiled"] == pytest.approx(losses["torch"], rel=1e-3)


def test_a_run_with_labels_from_1_to_3_resumes_bit_for_bit(
    tmp_path: Path, compose_config: Compose
) -> None:
    split = few([1, 2, 3], 12, 12)
    files = [write_csv(tmp_path / name, split, names=True) for name in ("a.csv", "b.csv.gz")]
    data = "data=csv", f"data.train_file={files[0]}", f"data.test_file={files[1]}"
    config = compose_config(*data, "model=mlp", *TINY, *NO_PLOTS, "training.epochs=3")
    run_experiment(config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run_experiment(config, tmp_path / "cut", StopAfter(6))
    run_experiment(config, tmp_path / "cut")
    whole, cut = results_of(tmp_path / "whole"), results_of(tmp_path / "cut")
    assert whole["class_names"] == ["1", "2", "3"]
    assert whole["folds"][0]["weights_sha256"] == cut["folds"][0]["weights_sha256"]
    assert whole["confusion_matrix"] == cut["confusion_matrix"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model=cnn21k",), "CNN21k takes images of at least 16 x 16 pixels, these have 8 x 30"),
        (("data.class_names=[a,b]",), r"has 3 classes \(1, 2, 5\); give a name for each"),
        (("data.classes=[0,1]",), r"data\.classes=\[0, 1\].*out of 1, 2, 5"),
    ],
)
def test_what_does_not_fit_the_data_is_refused_before_anything_is_written(
    tmp_path: Path, compose_config: Compose, overrides: tuple[str, ...], message: str
) -> None:
    root = write_idx(tmp_path / "data", few(Y, 8, 30), few(Y, 8, 30))
    config = compose_config("data=idx", f"data.root={root}", *TINY, *NO_PLOTS, *overrides)
    with pytest.raises(UserError, match=message):
        run_experiment(config, tmp_path / "run")
    assert not (tmp_path / "run" / "results.json").exists()


class Own(nn.Module):
    """Takes what it needs to know about the images by name."""

    def __init__(
        self, *, num_classes: int, image_shape: tuple[int, int, int], in_channels: int
    ) -> None:
        super().__init__()
        assert image_shape[0] == in_channels
        self.network = nn.Sequential(
            nn.Conv2d(in_channels, 4, image_shape[1:]), nn.Flatten(), nn.Linear(4, num_classes)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images)
        return logits


class TinyCifar(TorchDataset[Any]):
    """In the form of torchvision's CIFAR10: pixels [N, H, W, C], a list of labels, class names."""

    classes = ("cat", "dog")

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        self.data, labels = few([0, 1], 10, 12, 3, seed=int(train))
        self.targets = labels.tolist()


def test_a_data_set_of_torch_and_a_network_that_asks_for_the_shape_need_no_code_between(
    tmp_path: Path, compose_config: Compose
) -> None:
    targets = f"data._target_={__name__}.TinyCifar", f"model._target_={__name__}.Own"
    config = compose_config("data=torchvision", *targets, "model=mlp100", *TINY, *NO_PLOTS)
    del config.model.hidden_sizes, config.model.activation, config.model.dropout
    run_experiment(config, tmp_path)
    results = results_of(tmp_path)
    assert results["class_names"] == ["cat", "dog"]
    assert results["image_shape"] == [3, 10, 12]


class NoNetwork(TinyCifar):
    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        Path(root).mkdir()
        raise RuntimeError("no network")


def test_a_download_that_fails_leaves_no_directory(tmp_path: Path, compose_config: Compose) -> None:
    root = tmp_path / "data"
    options = f"data._target_={__name__}.NoNetwork", f"data.root={root}"
    with pytest.raises(UserError, match="NoNetwork cannot be loaded: no network"):
        described_dataset(compose_config("data=torchvision", *options))
    assert not root.exists()


def test_files_of_emnist_s_names_get_a_hint_to_turn_their_images(
    tmp_path: Path, compose_config: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    write_idx(tmp_path, few([1, 2], 8, 8), few([1, 2], 8, 8), prefix="emnist-letters-")
    data = "data=idx", f"data.root={tmp_path}"
    run_experiment(compose_config(*data, "model=mlp", *TINY, *NO_PLOTS), tmp_path / "a")
    assert "add data.transpose=true" in capsys.readouterr().err
    config = compose_config(*data, "data.transpose=true", "model=mlp", *TINY, *NO_PLOTS)
    run_experiment(config, tmp_path / "b")
    assert "transpose" not in capsys.readouterr().err
    lying, upright = (load_run(tmp_path / name).dataset().images for name in "ab")
    assert torch.equal(upright, lying.transpose(1, 2))
