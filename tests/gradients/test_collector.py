"""Collecting during training: what, when, how much disk, and no effect on the training."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from mnist_exp import gradients
from mnist_exp.data import Dataset
from mnist_exp.device import ArrayReading, reading_on
from mnist_exp.errors import UserError
from mnist_exp.files.shipped_config import config_directory
from mnist_exp.gradients import GradientCollector, disk_bytes
from mnist_exp.models import CNN20k
from mnist_exp.train.state import Row, TrainState
from tests.helpers.gradient_samples import (
    begin,
    images_of,
    normalise,
    samples_of,
    shift,
    shifted,
    small_network,
    training_on,
)

IDS = torch.arange(500, 560)


def collector(option: str = "epoch", **changes: Any) -> GradientCollector:
    """Build a collector from the shipped settings in conf/."""
    folder = config_directory() / "gradients"
    values = yaml.safe_load((folder / "epoch.yaml").read_text())
    values |= yaml.safe_load((folder / f"{option}.yaml").read_text())
    for key in ("_target_", "defaults"):
        values.pop(key, None)
    return GradientCollector(**(values | changes))


def end_epoch(collecting: GradientCollector, state: TrainState, epoch: int) -> Row:
    row: Row = {}
    state.epoch = epoch
    collecting.on_epoch_end(state, row)
    return row


def test_every_setting_stands_in_the_configuration() -> None:
    values = yaml.safe_load((config_directory() / "gradients" / "epoch.yaml").read_text())
    arguments = inspect.signature(GradientCollector).parameters
    assert set(values) - {"_target_"} == set(arguments)


def test_epochs_asked_for_are_collected(mnist: Dataset, tmp_path: Path) -> None:
    collecting = collector(epochs=[2], at_start=True)
    state = begin(collecting, small_network(), mnist, IDS, tmp_path)
    before = gradients.open(tmp_path / "gradients" / "epoch_0")
    assert before.manifest["weights"] == "before training"
    assert before.statistics["total"]["norm"]["mean"] > 0
    rows = [end_epoch(collecting, state, epoch) for epoch in (1, 2, 3)]
    assert [bool(row) for row in rows] == [False, True, False]
    assert {p.name for p in (tmp_path / "gradients").iterdir()} == {"epoch_0", "epoch_2"}
    assert rows[1]["gradient_norm_max"] >= rows[1]["gradient_norm_median"] > 0


def test_a_resumed_training_has_no_initial_weights(mnist: Dataset, tmp_path: Path) -> None:
    collecting = collector(at_start=True)
    state = begin(collecting, small_network(), mnist, IDS, tmp_path)
    epoch = tmp_path / "gradients" / "epoch_0"
    for done, order in ((1, None), (0, IDS)):
        shutil.rmtree(epoch, ignore_errors=True)
        state.epoch, state.order = done, order
        collecting.on_train_start(state, training_on(mnist, IDS, tmp_path))
        assert not epoch.exists()


def test_the_manifest_says_which_weights_these_are(mnist: Dataset, tmp_path: Path) -> None:
    collecting, model = collector(), small_network()
    state = begin(collecting, model, mnist, IDS, tmp_path)
    end_epoch(collecting, state, 1)
    with torch.no_grad():
        model.get_parameter("network.0.bias")[0] += 1
    end_epoch(collecting, state, 2)
    first, second = (
        gradients.open(tmp_path / "gradients" / f"epoch_{epoch}").manifest for epoch in (1, 2)
    )
    assert first["checkpoint"] == "checkpoints/epoch_00001.pt"
    assert first["model_sha256"] != second["model_sha256"]
    assert first["batch_norm"] == "running statistics"
    assert first["dropout"] == "off"


@pytest.mark.parametrize("choice", ["first", "random"])
def test_a_subset_of_the_samples(choice: str, mnist: Dataset, tmp_path: Path) -> None:
    ids = []
    for seed in (0, 0, 1):
        collecting = collector(max_samples=20, sample_choice=choice, seed=seed)
        end_epoch(collecting, begin(collecting, small_network(), mnist, IDS, tmp_path), 1)
        ids.append(gradients.open(tmp_path / "gradients" / "epoch_1").sample_ids.tolist())
    assert len(set(ids[0])) == 20
    assert set(ids[0]) <= set(IDS.tolist())
    assert ids[0] == ids[1]
    assert (ids[0] == ids[2]) is (choice == "first")
    assert (ids[0] == IDS[:20].tolist()) is (choice == "first")


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
def test_training_is_left_as_it_was(training: bool, mnist: Dataset, tmp_path: Path) -> None:
    """Covers weights, buffers, modes, .grad, hooks and random state, with dropout and shifts on."""
    model = CNN20k(num_classes=10, dropout=(0.1, 0.1)).train(training)
    nn.functional.cross_entropy(model(normalise(mnist.images[:8])), mnist.labels[:8]).backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    grads = {name: p.grad for name, p in model.named_parameters()}
    copies = {name: g.clone() for name, g in grads.items() if g is not None}
    modes = [module.training for module in model.modules()]
    random_state = torch.get_rng_state()
    collecting = collector(at_start=True, dropout=True, augmented=True)
    end_epoch(collecting, begin(collecting, model, mnist, IDS, tmp_path, augmentation=shift), 1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(p.grad is grads[name] for name, p in model.named_parameters())
    assert all(torch.equal(grads[name], copy) for name, copy in copies.items())  # type: ignore[arg-type]
    assert all(p.requires_grad for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random_state)


def train_batches(
    collecting: GradientCollector, state: TrainState, mnist: Dataset, *, augmented: bool = False
) -> list[dict[str, torch.Tensor]]:
    """Train one epoch of SGD in batches of 25; return each batch's mean-loss gradient."""
    batch_gradients = []
    for ids in IDS.flip(0).split(25):
        augmentation = shift if augmented else None
        inputs, labels = images_of(mnist).batch(ids, augmentation, state.generator)
        state.optimizer.zero_grad()
        nn.functional.cross_entropy(state.model(inputs), labels).backward()
        batch_gradients.append(
            {
                name: p.grad.clone()
                for name, p in state.model.named_parameters()
                if p.grad is not None
            }
        )
        collecting.on_batch_start(state, ids, inputs)
        state.optimizer.step()
    return batch_gradients


@pytest.mark.parametrize("form", ["factored", "dense"])
def test_batch_mode_has_the_gradients_each_step_was_made_of(
    form: str, mnist: Dataset, tmp_path: Path
) -> None:
    """The mean over a batch's samples equals the gradient the optimizer used."""
    collecting = collector("batch", format=form)
    state = begin(collecting, small_network(), mnist, IDS, tmp_path)
    steps = train_batches(collecting, state, mnist)
    row = end_epoch(collecting, state, 1)
    stored = gradients.open(tmp_path / "gradients" / "epoch_1")
    stored.verify()
    assert stored.sample_ids.tolist() == IDS.flip(0).tolist()
    assert stored.manifest["batch_sizes"] == [25, 25, 10]
    first = 0
    for size, step in zip(stored.manifest["batch_sizes"], steps, strict=True):
        for name, expected in step.items():
            ours = stored[name][first : first + size].mean(0)
            torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-4)
        first += size
    squares = [sum(g.square().sum().item() for g in step.values()) for step in steps]
    mean = sum(s * n for s, n in zip(squares, (25, 25, 10), strict=True)) / 60
    assert row["mean_gradient_norm"] == pytest.approx(mean**0.5, rel=1e-4)


def test_batch_mode_keeps_augmented_inputs(mnist: Dataset, tmp_path: Path) -> None:
    collecting = collector("batch")
    state = begin(collecting, small_network(), mnist, IDS, tmp_path, augmentation=shift)
    train_batches(collecting, state, mnist, augmented=True)
    end_epoch(collecting, state, 1)
    stored = gradients.open(tmp_path / "gradients" / "epoch_1")
    assert stored.manifest["pixel_values"] is None


def test_inputs_that_are_not_those_of_their_ids_are_refused(mnist: Dataset, tmp_path: Path) -> None:
    collecting = collector("batch")
    state = begin(collecting, small_network(), mnist, IDS, tmp_path)
    ids = IDS[:5]
    torch.manual_seed(1)  # seed with a nonzero shift
    with pytest.raises(UserError, match="epoch 1 are not those of its images"):
        collecting.on_batch_start(state, ids, shifted(mnist.images[ids]))
    collecting.close()
    assert list((tmp_path / "gradients").iterdir()) == []


def test_an_epoch_that_is_broken_off_leaves_nothing(mnist: Dataset, tmp_path: Path) -> None:
    collecting = collector("batch")
    train_batches(collecting, begin(collecting, small_network(), mnist, IDS, tmp_path), mnist)
    collecting.close()
    assert list((tmp_path / "gradients").iterdir()) == []


@pytest.mark.parametrize("form", ["factored", "dense"])
def test_an_epoch_resumed_in_its_middle_is_not_taken_for_a_whole_one(
    form: str, mnist: Dataset, tmp_path: Path
) -> None:
    collecting = collector("batch", format=form)
    state = begin(collecting, small_network(), mnist, IDS, tmp_path)
    ids = IDS[:25]
    collecting.on_batch_start(state, ids, images_of(mnist).batch(ids)[0])
    with pytest.warns(UserWarning, match="epoch 1 are not written: 25 of 60 samples came"):
        assert end_epoch(collecting, state, 1) == {}
    assert list((tmp_path / "gradients").iterdir()) == []


def with_free_disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))


@pytest.mark.parametrize("form", ["dense", "factored"])
def test_too_small_a_disk_is_refused_before_training(
    form: str, mnist: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message offers three settings, and each of them fits."""
    model = small_network()
    collecting = collector(format=form)
    needed = 3 * disk_bytes(model, samples_of(mnist, IDS), collecting.settings)
    with_free_disk(monkeypatch, needed - 100)
    with pytest.raises(UserError, match="These fit: ") as caught:
        begin(collecting, model, mnist, IDS, tmp_path)
    message = str(caught.value)
    assert f"take {needed / 1e6:.1f} MB in 3 collections" in message
    offers = message.split("These fit: ")[1].rstrip(".").split("; ")
    assert len(offers) == 3
    for offer in offers:
        key, _, value = offer.split(" (")[0].removeprefix("gradients.").partition("=")
        cheaper = collector(**{"format": form, key: yaml.safe_load(value)})
        begin(cheaper, model, mnist, IDS, tmp_path)
    with_free_disk(monkeypatch, needed)
    begin(collecting, model, mnist, IDS, tmp_path)


def test_a_network_that_is_read_from_arrays_is_refused(mnist: Dataset, tmp_path: Path) -> None:
    model = small_network()
    with (
        reading_on(model, ArrayReading(), seed=0),
        pytest.raises(UserError, match=r"gradients=none or constraint\.read=null"),
    ):
        begin(collector(), model, mnist, IDS, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "step"}, r"gradients\.mode=step: allowed is epoch or batch"),
        ({"format": "zip"}, r"gradients\.format=zip: allowed is factored or dense or statistics"),
        ({"dtype": "int8"}, r"gradients\.dtype=int8: allowed is float32"),
        ({"sample_choice": "last"}, r"gradients\.sample_choice=last: allowed is random"),
        ({"max_samples": 0}, r"gradients\.max_samples=0: allowed is null or"),
        ({"top_k": 0}, r"gradients\.top_k=0: allowed is"),
        ({"mode": "batch", "at_start": True}, "gradients=batch takes every training batch"),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        collector(**changes)


def test_a_second_training_keeps_the_folder_under_the_root(mnist: Dataset, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    collector = GradientCollector(root=str(tmp_path / "disk"))
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    state = begin(collector, model, mnist, torch.arange(50), tmp_path / "run")
    first = collector.path
    collector.on_train_start(state, training_on(mnist, torch.arange(50), tmp_path / "run"))
    assert collector.path == first
