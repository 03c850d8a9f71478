"""`PyTorchNNWrapper.from_run`: a fitted classifier from a run directory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from mnist_exp import PyTorchNNWrapper, load_run
from mnist_exp.data import Dataset
from mnist_exp.device import LinearStep
from mnist_exp.errors import UserError
from mnist_exp.experiment import run_experiment
from mnist_exp.run.results import write_results
from mnist_exp.sklearn.from_run import _own_parts
from tests.conftest import Compose

SMALL = (
    "model=mlp100",
    "model.hidden_sizes=[8]",
    "training.epochs=1",
    "training.averaging=null",
    "data.subset=300",
    "plots.enabled=false",
    "report.enabled=false",
    "cv=holdout",
    "cv.test=200",
)
RUNS = {
    "plain": (),
    "normalised": ("data.normalization=mean_std", "data.mean=0.1307", "data.std=0.3081"),
    "memristor": ("constraint=memristor",),
    "two_classes": ("data.classes=[7,3]", "data.normalization=mean_std", "data.mean=null"),
}


@pytest.fixture(scope="module", params=RUNS)
def directory(
    request: pytest.FixtureRequest,
    compose_config: Compose,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    directory: Path = tmp_path_factory.mktemp(request.param)
    run_experiment(compose_config(*SMALL, *RUNS[request.param]), directory)
    return directory


def test_it_predicts_as_the_run_does(directory: Path) -> None:
    run = load_run(directory)
    dataset = run.dataset()
    images = dataset.test_images[:500]
    classifier = PyTorchNNWrapper.from_run(directory)
    X = images.reshape(-1, 784).numpy() / 255
    found = run.predict_proba(images.numpy())
    names = [int(name) for name in run.class_names]
    order = np.argsort(names)
    assert classifier.classes_.tolist() == sorted(names)
    np.testing.assert_allclose(classifier.predict_proba(X), found[:, order], atol=1e-5)
    true = np.array(names)[dataset.test_labels[:500]]
    assert classifier.score(X, true) == pytest.approx(
        (run.predict(images) == dataset.test_labels[:500]).double().mean().item(), abs=0.01
    )
    assert classifier.n_features_in_ == 784
    assert classifier.history_ == load_rows(run)
    assert classifier.loss_curve_ == [row["train_loss"] for row in classifier.history_]
    assert classifier.n_iter_ == 1


def load_rows(run: object) -> list[dict[str, object]]:
    """Return the rows of metrics, whether or not pandas is there."""
    rows = run.metrics  # type: ignore[attr-defined]
    return rows if isinstance(rows, list) else rows.to_dict("records")


def test_its_parameters_are_those_of_the_run(directory: Path, mnist: Dataset) -> None:
    classifier = PyTorchNNWrapper.from_run(directory)
    config = load_run(directory).config
    found = classifier.get_params()
    assert (found["hidden_dim"], found["batch_size"]) == (8, config.training.batch_size)
    if config.constraint.get("_target_") is None:
        assert (found["mapping"], found["quantize"]) == ("direct", False)
    else:
        for name in ("mapping", "W_min", "W_max", "levels", "retention", "rounding"):
            assert found[name] == config.constraint[name]
        assert (found["lr_pos"], found["lr_neg"]) == (
            config.optimizer.lr_pos,
            config.optimizer.lr_neg,
        )
    X, y = mnist.train_images[:200].reshape(-1, 784).numpy() / 255, mnist.train_labels[:200]
    classifier.set_params(epochs=1).fit(X, y.numpy())
    assert classifier.classes_.tolist() == list(range(10))


def test_step_models_of_the_package_come_along_and_the_user_s_own_with_a_warning() -> None:
    curve = {"_target_": "mnist_exp.device.LinearStep", "gamma_up": 0.3}
    update = {"_target_": "os.getcwd"}
    given = {"curve": OmegaConf.create(curve), "update": OmegaConf.create(update), "effects": []}
    with pytest.warns(UserWarning, match=r"lack update \(os.getcwd\) of the run's constraint"):
        found = _own_parts(given)
    assert found == {"curve": LinearStep(gamma_up=0.3)}
    assert _own_parts({"curve": "exponential", "update": "direct", "effects": []}) == {}


def test_going_on_needs_the_state_of_a_training(directory: Path) -> None:
    classifier = PyTorchNNWrapper.from_run(directory).set_params(warm_start=True)
    for train in (classifier.partial_fit, classifier.fit):
        with pytest.raises(UserError, match="made by from_run holds no state of a training"):
            train(np.zeros((2, 784)), [3, 7])


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("model.hidden_sizes=[8,8]", r"model.hidden_sizes=\[8, 8\]"),
        ("model.activation=tanh", "model.activation=tanh"),
        ("model=cnn21k", "model._target_=mnist_exp.models"),
        ("++constraint._target_=my.Constraint", "constraint._target_=my.Constraint"),
        ("++model.dropout={_target_: os.getcwd}", r"model.dropout=.*os\.getcwd"),
    ],
)
def test_another_network_is_refused_by_name(
    override: str, named: str, tmp_path: Path, compose_config: Compose
) -> None:
    given = [o for o in SMALL if o.partition("=")[0] != override.partition("=")[0]]
    if override.startswith("model="):
        given.remove("model.hidden_sizes=[8]")
    OmegaConf.save(compose_config(*given, override), tmp_path / "config.yaml", resolve=True)
    write_results(tmp_path, {"status": "completed"})
    with pytest.raises(UserError, match=f"from_run needs .*{named}"):
        PyTorchNNWrapper.from_run(tmp_path)


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run directory"):
        PyTorchNNWrapper.from_run(tmp_path)
