"""Whole runs on real images: files written, numbers reported, choice of the epoch."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from mnist_exp.data import Dataset
from mnist_exp.errors import UserError
from mnist_exp.experiment.parts import Parts, build_parts
from mnist_exp.experiment.run import ALL_THREADS, room_for_folds, run_experiment
from mnist_exp.experiment.run_report import augmented_inputs
from mnist_exp.run.checkpoints import load_checkpoint
from mnist_exp.run.report import summary_lines
from tests.conftest import Compose

SMALL = (
    "data.subset=300",
    "plots.enabled=false",
    "report.enabled=false",
    "training.eval_batch_size=5000",
)


@pytest.fixture(scope="module")
def holdout_run(
    tmp_path_factory: pytest.TempPathFactory, compose_config: Compose
) -> tuple[Path, dict[str, Any], DictConfig]:
    """A run with validation, plots and more epochs than kept checkpoints."""
    directory = tmp_path_factory.mktemp("runs") / "run"
    config = compose_config(
        "model=mlp", "data.subset=300", "training.epochs=7", "plots.dpi=50", "plots.num_samples=9",
        "training.test_every_epoch=true",
    )  # fmt: skip
    return directory, run_experiment(config, directory), config


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.slow
def test_run_directory_is_complete(
    holdout_run: tuple[Path, dict[str, Any], DictConfig],
) -> None:
    directory, _, _ = holdout_run
    files = {path.relative_to(directory).as_posix() for path in directory.rglob("*")}
    assert {f"checkpoints/epoch_{epoch:05d}.pt" for epoch in range(3, 8)} <= files
    assert not {f"checkpoints/epoch_{epoch:05d}.pt" for epoch in (1, 2)} & files
    assert {"results.json", "metrics.jsonl", "checkpoints/best.pt"} <= files
    assert "checkpoints/mnist_mlp.pth" in files
    names = ("mnist_samples", "training_curves", "predictions", "confusion_matrix")
    assert {f"plots/{name}.png" for name in names} <= files
    assert "plots/augmented_samples.png" not in files  # no augmentation
    assert not [name for name in files if name.endswith(".tmp")]


@pytest.mark.slow
def test_augmented_examples_stand_beside_the_image_they_come_from(compose_config: Compose) -> None:
    indices = torch.arange(40, 60)

    def augmented(parts: Parts) -> torch.Tensor | None:
        return augmented_inputs(parts.images, parts.recipe.augmentation, indices, seed=1)

    assert augmented(build_parts(compose_config("augmentation=none"))) is None
    parts = build_parts(compose_config("augmentation=strong"))
    examples = augmented(parts)
    assert examples is not None
    plain = parts.images.inputs(parts.dataset.images[indices[:7]])
    assert torch.equal(examples[:, 0], plain)
    still = compose_config("augmentation=strong", "augmentation.strength=0")
    unchanged = augmented(build_parts(still))
    assert unchanged is not None
    torch.testing.assert_close(unchanged, plain.unsqueeze(1).expand(-1, 8, -1, -1, -1))


@pytest.mark.slow
def test_a_run_with_augmentation_draws_it(tmp_path: Path, compose_config: Compose) -> None:
    overrides = ("model=mlp", "augmentation=light", "data.subset=100", "cv.test=200")
    run_experiment(
        compose_config(*overrides, "plots.num_samples=1", "plots.dpi=50"), tmp_path / "run"
    )
    with Image.open(tmp_path / "run" / "plots" / "augmented_samples.png") as picture:
        assert picture.width > 300


def test_results_say_how_the_numbers_were_got(
    holdout_run: tuple[Path, dict[str, Any], DictConfig],
) -> None:
    directory, results, _ = holdout_run
    written = read_json(directory / "results.json")
    assert written["status"] == "completed"
    assert written["accuracy"] == results["accuracy"]
    assert written["accuracy"]["std"] is None
    expected = {"schema_version", "model", "parameters", "seed", "config_hash", "selection_rule"}
    expected |= {"wall_seconds", "samples_per_second", "versions", "cpu", "threads", "folds"}
    assert expected <= written.keys()
    assert written["parameters"] == 407_050
    matrix = torch.tensor(written["confusion_matrix"])
    assert matrix.sum() == 10_000
    accuracy = written["accuracy"]["mean"]
    assert matrix.diag().sum() / 10_000 == pytest.approx(accuracy)
    assert 0.5 < accuracy < 1
    (fold,) = written["folds"]
    assert (fold["fold"], fold["accuracy"], fold["seed"]) == (1, accuracy, written["seed"])
    for key in ("confusion_matrix", "per_class_accuracy"):
        assert fold[key] == written[key]


def test_metrics_file_has_the_rows_of_the_results(
    holdout_run: tuple[Path, dict[str, Any], DictConfig],
) -> None:
    directory, results, _ = holdout_run
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 8))
    for row, reported in zip(rows, results["folds"][0]["epochs"], strict=True):
        assert row.items() >= {k: v for k, v in reported.items() if k in row}.items()
        assert {"train_loss", "validation_accuracy", "test_loss", "lr"} <= row.keys()


def test_best_checkpoint_is_the_epoch_with_the_best_validation_accuracy(
    holdout_run: tuple[Path, dict[str, Any], DictConfig],
) -> None:
    directory, results, _ = holdout_run
    (fold,) = results["folds"]
    accuracies = [row["validation_accuracy"] for row in fold["epochs"]]
    best = accuracies.index(max(accuracies))
    assert fold["selected_epoch"] == best + 1
    assert load_checkpoint(directory / "checkpoints" / "best.pt")["epoch"] == best + 1
    assert fold["accuracy"] == fold["epochs"][best]["test_accuracy"]


def test_exported_weights_are_the_reported_ones(
    holdout_run: tuple[Path, dict[str, Any], DictConfig], mnist: Dataset
) -> None:
    directory, results, _ = holdout_run
    weights = torch.load(directory / "checkpoints" / "mnist_mlp.pth", weights_only=True)
    pixels = (mnist.test_images.flatten(1) / 255 - 0.1307) / 0.3081
    hidden = (pixels @ weights["network.0.weight"].T + weights["network.0.bias"]).relu()
    logits = hidden @ weights["network.2.weight"].T + weights["network.2.bias"]
    accuracy = (logits.argmax(1) == mnist.test_labels).double().mean().item()
    assert accuracy == pytest.approx(results["accuracy"]["mean"], abs=2e-4)


def test_pictures_have_the_resolution_asked_for_and_are_not_blank(
    holdout_run: tuple[Path, dict[str, Any], DictConfig],
) -> None:
    directory, _, _ = holdout_run
    for path in (directory / "plots").glob("*.png"):
        picture = Image.open(path)
        assert picture.info["dpi"] == pytest.approx((50, 50), abs=0.1)
        assert len(picture.convert("L").getcolors(256) or []) > 10


def test_summary_names_accuracy_rule_and_place(
    holdout_run: tuple[Path, dict[str, Any], DictConfig], tmp_path: Path
) -> None:
    directory, results, _ = holdout_run
    lines = summary_lines(results, directory)
    assert len(lines) == 6
    assert f"{results['accuracy']['mean']:.2%}" in lines[0]
    assert "best validation accuracy" in lines[0]
    assert lines[-2] == f"report: {directory / 'report.html'}"
    assert lines[-1] == f"results, checkpoints and plots: {directory}"
    assert summary_lines(results, tmp_path)[-1] == f"results and checkpoints: {tmp_path}"


@pytest.fixture(scope="module")
def fold_runs(
    tmp_path_factory: pytest.TempPathFactory, compose_config: Compose
) -> list[dict[str, Any]]:
    """Results of the same three folds, run one and two at a time."""
    root = tmp_path_factory.mktemp("folds")
    results = []
    for jobs in (1, 2):
        config = compose_config(
            "model=mlp100", "constraint=memristor", "cv.n_splits=3", "training.epochs=2",
            f"cv.n_jobs={jobs}", *SMALL,
        )  # fmt: skip
        results.append(run_experiment(config, root / str(jobs)))
    return results


@pytest.mark.slow
def test_folds_side_by_side_give_the_same_numbers(fold_runs: list[dict[str, Any]]) -> None:
    one_by_one, side_by_side = fold_runs
    assert one_by_one["accuracy"] == side_by_side["accuracy"]
    for one, other in zip(one_by_one["folds"], side_by_side["folds"], strict=True):
        assert one["confusion_matrix"] == other["confusion_matrix"]
        assert one["weights_sha256"] == other["weights_sha256"]


@pytest.mark.parametrize(
    ("cores", "threads", "device", "expected"),
    [(8, "null", "cpu", 8), (8, "3", "cpu", 2), (8, "9", "cpu", 1), (8, "null", "cuda", 1)],
)
def test_as_many_folds_at_a_time_as_threads_leave_cores_for_and_one_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
    compose_config: Compose,
    cores: int,
    threads: str,
    device: str,
    expected: int,
) -> None:
    monkeypatch.setattr("mnist_exp.experiment.run.ALL_THREADS", cores)
    config = compose_config(f"threads={threads}")
    assert room_for_folds(config, torch.device(device)) == expected


@pytest.mark.slow
def test_threads_do_not_leak_from_one_job_of_a_sweep_to_the_next(
    tmp_path: Path, compose_config: Compose
) -> None:
    small = ("model=mlp", "data.subset=100", "plots.enabled=false", "report.enabled=false")
    folds = ("model=mlp100", "cv.n_splits=2", "training.epochs=1")
    own = torch.get_num_threads()
    try:
        results = [
            run_experiment(compose_config(*small, *more), tmp_path / str(number))
            for number, more in enumerate([("threads=3",), (), folds])
        ]
    finally:
        torch.set_num_threads(own)
    assert [result["threads"] for result in results] == [3, ALL_THREADS, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong",
    [
        ("augmentation=strong", "augmentation.strength=20"),
        ("gradients=epoch", "gradients.format=foo"),
        ("gradients=epoch", "gradients.parameters=[nothing*]"),
        ("tracker=csv", "+tracker.mine._target_=nowhere.Writer"),
    ],
)
def test_what_a_part_refuses_leaves_no_run(
    tmp_path: Path, compose_config: Compose, wrong: tuple[str, ...]
) -> None:
    with pytest.raises(UserError):
        run_experiment(compose_config("model=mlp", "data.subset=50", *wrong), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_gradients_of_all_folds_must_fit_before_the_first_is_trained(
    tmp_path: Path, compose_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One collection for 50 images of 784-100-10 takes about half a megabyte."""
    config = compose_config(
        "model=mlp100", "gradients=epoch", "cv.n_splits=5", "data.subset=50", "training.epochs=2"
    )
    usage = shutil.disk_usage(tmp_path)._replace(free=3_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="in 10 collections"):
        run_experiment(config, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_folds_are_summed_up_as_mean_sample_std_and_mean_matrix(
    fold_runs: list[dict[str, Any]],
) -> None:
    results = fold_runs[0]
    accuracies = torch.tensor([fold["accuracy"] for fold in results["folds"]]).double()
    assert results["accuracy"]["mean"] == pytest.approx(accuracies.mean().item())
    std = accuracies.std(correction=1).item()
    assert results["accuracy"]["std"] == pytest.approx(std, rel=1e-4)
    assert results["accuracy"]["n"] == results["loss"]["n"] == 3
    matrices = torch.tensor([fold["confusion_matrix"] for fold in results["folds"]]).double()
    torch.testing.assert_close(torch.tensor(results["confusion_matrix"]).double(), matrices.mean(0))
    assert matrices.sum() == 70_000
    assert results["selection_rule"] == "last epoch"
    assert len({fold["seed"] for fold in results["folds"]}) == 3
    for fold in results["folds"]:
        assert len(fold["epochs"]) == 2
        assert all(len(row["gradient_norms"]) == 3 for row in fold["epochs"])


def test_published_constraint_stays_at_chance(tmp_path: Path, compose_config: Compose) -> None:
    config = compose_config(
        "model=mlp100", "constraint=published", "cv=none", "data.subset=6000",
        "training.epochs=2", "plots.enabled=false", "report.enabled=false",
    )  # fmt: skip
    assert run_experiment(config, tmp_path / "run")["accuracy"]["mean"] < 0.25


def test_any_scikit_learn_splitter_serves(tmp_path: Path, compose_config: Compose) -> None:
    config = compose_config(
        "model=mlp100", "cv=kfold", "cv._target_=sklearn.model_selection.ShuffleSplit",
        "~cv.shuffle", "cv.n_splits=2", "+cv.test_size=1000", "training.epochs=1", *SMALL,
    )  # fmt: skip
    folds = run_experiment(config, tmp_path / "run")["folds"]
    assert [torch.tensor(fold["confusion_matrix"]).sum() for fold in folds] == [1000, 1000]


@pytest.mark.parametrize("classes", ["[3,5]", "[9,0,4]"])
def test_a_choice_of_classes_trains_a_smaller_problem(
    tmp_path: Path, compose_config: Compose, classes: str
) -> None:
    config = compose_config("model=mlp", f"data.classes={classes}", "cv.validation=100", *SMALL)
    results = run_experiment(config, tmp_path / "run")
    count = classes.count(",") + 1
    assert torch.tensor(results["confusion_matrix"]).shape == (count, count)
    assert results["class_names"] == classes.strip("[]").split(",")
    assert results["accuracy"]["mean"] > 1.3 / count


def test_gradients_and_tracker_write_into_the_run_directory(
    tmp_path: Path, compose_config: Compose
) -> None:
    pytest.importorskip("tensorboard")
    config = compose_config(
        "model=mlp", "gradients=epoch", "gradients.max_samples=100", "gradients.at_start=true",
        "tracker=tensorboard", *SMALL,
    )  # fmt: skip
    results = run_experiment(config, tmp_path / "run")
    assert (tmp_path / "run/gradients/epoch_0/manifest.json").is_file()
    assert (tmp_path / "run/gradients/epoch_1/manifest.json").is_file()
    assert math.isfinite(results["folds"][0]["epochs"][0]["gradient_norm_mean"])
    assert list((tmp_path / "run/tensorboard").glob("events*"))
