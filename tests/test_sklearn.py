"""The scikit-learn classifier: scikit-learn's checks, and agreement with the command line."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import inspect
import pickle
import pydoc
import random
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import get_class
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch.nn import functional as F

from mnist_exp import PyTorchNNWrapper
from mnist_exp.data import Dataset
from mnist_exp.device import DeviceSettings, Effect
from mnist_exp.experiment import build
from mnist_exp.models import MLP
from mnist_exp.models.effective_copy import effective_copy
from mnist_exp.sklearn import device_parameters
from mnist_exp.train.loop import Training, train
from tests.conftest import Compose

Samples = tuple[np.ndarray, np.ndarray]
ORDINARY = {"mapping": "direct", "clip": False, "quantize": False, "retain": False}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:X. network inputs")  # of check_class_weight_classifiers
@parametrize_with_checks([PyTorchNNWrapper()])
def test_scikit_learns_own_checks_pass_without_exception(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def digits(mnist: Dataset) -> Samples:
    """600 images of MNIST as rows of pixels in [0, 1], and their labels."""
    pixels = mnist.train_images[:600].reshape(600, -1)
    return (pixels.float() * (1 / 255)).numpy(), mnist.train_labels[:600].numpy()


@pytest.fixture(scope="module")
def words(digits: Samples) -> np.ndarray:
    """The labels in English; their alphabetical order differs from the numerical one."""
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    return np.array(names)[digits[1]]


def same_weights(one: PyTorchNNWrapper, other: PyTorchNNWrapper) -> bool:
    pairs = zip(one.model_.parameters(), other.model_.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_example_of_the_docstring_runs() -> None:
    # the package's attribute `sklearn` would be shadowed by a plain import here
    module = importlib.import_module("mnist_exp.sklearn")
    failed, tried = doctest.testmod(module)
    assert (failed, tried) == (0, 6)


def test_defaults_are_those_of_the_configuration(compose_config: Compose) -> None:
    config = compose_config("model=mlp100", "constraint=memristor")
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(PyTorchNNWrapper).parameters.items()
    }
    constraint = {k: v for k, v in config.constraint.items() if not k.startswith("_target_")}
    for name in device_parameters.NOT_REPORTED:
        constraint.pop(name)
    constraint["effects"] = tuple(constraint["effects"])
    assert {name: defaults.pop(name) for name in constraint} == constraint
    optimizer = {name: defaults.pop(name) for name in ("lr_pos", "lr_neg", "momentum")}
    assert optimizer == {k: v for k, v in config.optimizer.items() if k != "_target_"}
    training = {name: defaults.pop(name) for name in ("epochs", "batch_size", "label_smoothing")}
    assert training == {name: config.training[name] for name in training}
    assert get_class(config.scheduler["_target_"]).__name__ == "OneCycleLR"
    assert [defaults.pop("hidden_dim")] == config.model.hidden_sizes
    assert defaults == {
        "input_dim": None,
        "output_dim": None,
        "random_state": None,
        "device": config.runtime.device,
        "scheduler": "onecycle",
        "class_weight": None,
        "warm_start": False,
        "early_stopping": False,
        "validation_fraction": 0.1,
        "n_iter_no_change": 10,
        "tol": 1e-4,
        "verbose": False,
    }


def test_defaults_train_bit_for_bit_as_the_command_line_does(
    digits: Samples, mnist: Dataset, compose_config: Compose
) -> None:
    config = compose_config("model=mlp100", "constraint=memristor", "runtime=cpu")
    cpu = torch.device("cpu")
    indices = torch.arange(len(digits[0]))
    state = build.build_state(config, 10, len(indices), cpu, seed=7)
    images = build.build_images(config, mnist, cpu)
    train(
        state,
        Training(images, indices, build.build_recipe(config, torch.device("cpu"))),
        lambda model: {},
    )
    expected = effective_copy(state.model).double().state_dict()
    fitted = PyTorchNNWrapper(device="cpu", random_state=7).fit(*digits)
    assert fitted.model_.state_dict().keys() == expected.keys()
    for name, weight in fitted.model_.state_dict().items():
        assert torch.equal(weight, expected[name]), name


def test_without_device_limits_it_is_plain_gradient_descent(digits: Samples) -> None:
    classifier = PyTorchNNWrapper(
        **ORDINARY,
        lr_pos=0.5,
        lr_neg=0.5,
        momentum=0.0,
        scheduler="constant",
        label_smoothing=0.0,
        epochs=3,
        device="cpu",
        random_state=1,
    ).fit(*digits)
    X, y = (torch.from_numpy(part) for part in digits)
    torch.manual_seed(1)
    model = MLP(hidden_sizes=[100], num_classes=10, activation="relu", dropout=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, fused=False)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        for batch in torch.randperm(len(X), generator=generator).split(128):
            optimizer.zero_grad()
            F.cross_entropy(model(X[batch]), y[batch]).backward()
            optimizer.step()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(
            weight.double(), classifier.model_.state_dict()[name], rtol=1e-4, atol=1e-6
        )


def test_weights_are_differences_of_two_conductances_on_their_levels(digits: Samples) -> None:
    settings: dict[str, Any] = {"W_min": 0.25, "W_max": 0.75, "levels": 9, "gain": 2.0}
    fitted = PyTorchNNWrapper(**settings, epochs=2, random_state=0).fit(*digits)
    step = 2.0 * 0.5 / 8  # gain times the spacing of levels
    for index in (0, 2):
        weight = fitted.model_.network[index].weight
        assert torch.equal(weight, (weight / step).round() * step)
        assert weight.abs().max() <= 2.0 * 0.5
        assert len(weight.unique()) > 2


def test_string_labels_come_back_as_they_were(digits: Samples, words: np.ndarray) -> None:
    numbers = PyTorchNNWrapper(epochs=5, random_state=0).fit(digits[0], digits[1])
    named = PyTorchNNWrapper(epochs=5, random_state=0).fit(digits[0], words)
    assert list(named.classes_) == sorted(set(words))
    assert named.predict_proba(digits[0]).shape == (600, 10)
    assert named.score(digits[0], words) > 0.7 < numbers.score(*digits)


@pytest.mark.filterwarnings("ignore:.* of the initial weights")  # direct stays at chance
def test_grid_search_in_a_pipeline_finds_the_mapping_that_learns(
    digits: Samples, words: np.ndarray
) -> None:
    pixels = (digits[0] * 255).astype(np.uint8)
    scale = FunctionTransformer(lambda X: X / np.float32(255))
    pipeline = make_pipeline(scale, PyTorchNNWrapper(random_state=0))
    grid = {"pytorchnnwrapper__mapping": ["direct", "differential"]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(pixels, words)
    assert search.best_params_ == {"pytorchnnwrapper__mapping": "differential"}
    chance, learned = sorted(search.cv_results_["mean_test_score"])
    assert chance < 0.25 < 0.6 < learned
    again = cross_val_score(clone(search.best_estimator_), pixels, words, cv=2)
    assert again.mean() == learned


def test_the_callers_random_numbers_are_left_alone(digits: Samples) -> None:
    before = torch.get_rng_state()
    PyTorchNNWrapper(epochs=1).fit(*digits).partial_fit(*digits)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [32, 600])
def test_fits_in_threads_are_those_of_one_thread(digits: Samples, batch_size: int) -> None:
    """In any order, and while other code draws random numbers."""

    def fit(random_state: int) -> PyTorchNNWrapper:
        torch.rand(random_state + 1)
        settings: dict[str, Any] = {
            "batch_size": batch_size,
            "device": "cpu",
            "scheduler": "constant",
        }
        fitted = PyTorchNNWrapper(epochs=1, random_state=random_state, **settings).fit(*digits)
        return fitted.partial_fit(*digits)

    alone = [fit(seed) for seed in range(3)]
    threads = torch.get_num_threads()
    together = Parallel(n_jobs=4, prefer="threads")(delayed(fit)(i % 3) for i in range(18))
    assert all(same_weights(alone[i % 3], fitted) for i, fitted in enumerate(together))
    assert torch.get_num_threads() == threads


def test_no_global_generator_is_drawn_from_or_seeded(
    digits: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even temporarily, as another thread could draw meanwhile."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a global generator was touched")

    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index]
    for name in ("manual_seed", "set_rng_state", "seed"):
        monkeypatch.setattr(torch, name, refuse)
        monkeypatch.setattr(torch.random, name, refuse)
    monkeypatch.setattr(torch.random, "fork_rng", refuse)
    PyTorchNNWrapper(epochs=1, random_state=0).fit(*digits).partial_fit(*digits).predict(digits[0])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]
    assert random.getstate() == before[2]


def test_partial_fit_draws_from_a_random_state_once(digits: Samples) -> None:
    stream = np.random.RandomState(0)
    classifier = PyTorchNNWrapper(random_state=stream).partial_fit(*digits, classes=range(10))
    before = stream.get_state()[1].copy()  # type: ignore[index]
    classifier.partial_fit(*digits)
    assert np.array_equal(stream.get_state()[1], before)  # type: ignore[index]


def test_random_state_decides_the_weights(digits: Samples) -> None:
    def fit(random_state: Any) -> PyTorchNNWrapper:
        return PyTorchNNWrapper(epochs=1, random_state=random_state).fit(*digits)

    assert same_weights(fit(3), fit(3))
    assert not same_weights(fit(3), fit(4))
    stream = np.random.RandomState(0)
    assert not same_weights(fit(stream), fit(stream))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mapping": "direct", "rounding": "accumulate", "W_min": -1.0, "W_max": 1.0},
        {"rounding": "straight_through"},
        {"pulse_rounding": "stochastic", "write_noise": 0.03, "rate_variation": 0.1},
        ORDINARY,
    ],
)
def test_calls_of_partial_fit_add_up_to_one_fit(digits: Samples, settings: dict[str, Any]) -> None:
    settings = {**settings, "scheduler": "constant", "random_state": 5, "batch_size": 100}
    whole = PyTorchNNWrapper(**settings, epochs=3).fit(*digits)
    parts = PyTorchNNWrapper(**settings)
    parts.partial_fit(*digits, classes=np.arange(10))
    parts = pickle.loads(pickle.dumps(parts))
    parts.partial_fit(*digits).partial_fit(*digits)
    assert same_weights(whole, parts)
    losses = [[row["train_loss"] for row in each.history_] for each in (whole, parts)]
    assert losses[0] == losses[1]


def test_partial_fit_goes_on_after_fit_and_takes_new_rates(digits: Samples) -> None:
    fitted = PyTorchNNWrapper(epochs=2, random_state=0).fit(*digits)
    frozen = pickle.loads(pickle.dumps(fitted)).set_params(lr_pos=1e-30, lr_neg=1e-30)
    frozen.set_params(momentum=0.0).partial_fit(*digits)
    assert [row["epoch"] for row in frozen.history_] == [1, 2, 3]
    change = frozen.model_.network[2].bias - fitted.model_.network[2].bias
    assert change.abs().max() < 1e-25
    loss = fitted.partial_fit(*digits).history_[-1]["train_loss"]
    assert loss < fitted.history_[0]["train_loss"]


def test_partial_fit_accepts_classes_not_seen_yet(digits: Samples) -> None:
    X, y = digits
    classifier = PyTorchNNWrapper(random_state=0)
    classifier.partial_fit(X[y < 5], y[y < 5], classes=range(10))
    assert classifier.predict_proba(X).shape == (600, 10)
    classifier.partial_fit(X[y >= 5], y[y >= 5])
    with pytest.raises(ValueError, match=r"y holds \[11\]"):
        classifier.partial_fit(X[:2], [11, 1])
    with pytest.raises(ValueError, match="earlier calls had"):
        classifier.partial_fit(X, y, classes=range(5))
    with pytest.raises(ValueError, match="first call of partial_fit needs all labels"):
        PyTorchNNWrapper().partial_fit(X, y)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"input_dim": 100}, "input_dim=100: the data has 784 features"),
        ({"output_dim": 3}, "output_dim=3: the data has 10 classes"),
        ({"hidden_dim": 0}, "hidden_dim=0: allowed is a whole number of at least 1"),
        ({"epochs": 0}, "epochs=0: allowed is a whole number of at least 1"),
        ({"batch_size": 0}, "batch_size=0: allowed is a whole number of at least 1"),
        (
            {"label_smoothing": 1.0},
            "label_smoothing=1.0: allowed is a number, at least 0 and below 1",
        ),
        ({"scheduler": "cosine"}, "scheduler=cosine: allowed is onecycle or constant"),
        ({"lr_neg": -0.1}, "lr_neg=-0.1: allowed is a number, above 0"),
        ({"W_min": 0.6}, "W_min=0.6: must be below W_max=0.51"),
        ({"levels": 1}, "levels=1: allowed is a whole number from 2 to 16777216"),
        (
            {"lr_pos": True, "quantize": 1},
            "lr_pos=true: allowed is a number\nquantize=1: ",
        ),
        ({"device": "abacus"}, "allowed is auto or one of"),
        ({"epochs": 1, "batch_size": 600}, "a single step uses only the last rate of the cycle"),
    ],
)
def test_wrong_parameters_are_refused_by_name(
    digits: Samples, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        PyTorchNNWrapper(**settings).fit(*digits)


def test_dimensions_that_agree_with_the_data_change_nothing(digits: Samples) -> None:
    given = PyTorchNNWrapper(784, 20, 10, epochs=1, random_state=0).fit(*digits)
    assert same_weights(given, PyTorchNNWrapper(None, 20, epochs=1, random_state=0).fit(*digits))


@pytest.mark.parametrize(("factor", "remedy"), [(255, "X / 255"), (16, "X / 16"), (0.01, "Scaler")])
def test_features_of_another_scale_than_1_are_warned_of_once_with_what_would_fit(
    digits: Samples, factor: float, remedy: str
) -> None:
    X, y = digits
    with pytest.warns(UserWarning, match=f"from 0 to .* Give .*{remedy}") as caught:
        PyTorchNNWrapper(epochs=1, random_state=0).fit(X * factor, y)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_devices_that_cannot_hold_the_weights_are_warned_of(digits: Samples) -> None:
    with pytest.warns(UserWarning, match=r"With W_min=0 W_max=0\.4 the devices reach"):
        PyTorchNNWrapper(epochs=1, random_state=0, W_min=0, W_max=5e-6).fit(*digits)


@pytest.mark.filterwarnings("error")
def test_usual_features_raise_no_warning(digits: Samples) -> None:
    X, y = digits
    for features in (X, (X - 0.1307) / 0.3081, X * 5):
        PyTorchNNWrapper(epochs=1, random_state=0).fit(features, y)


def test_every_setting_of_devices_is_a_parameter(digits: Samples) -> None:
    fields = {f.name for f in dataclasses.fields(DeviceSettings)}
    assert fields - set(device_parameters.NOT_REPORTED) <= set(PyTorchNNWrapper().get_params())
    page = pydoc.plain(pydoc.render_doc(PyTorchNNWrapper))
    assert "levels: 'int' = 100" in page
    assert "effects: 'Sequence[Effect]' = ()" in page
    with pytest.raises(TypeError, match="unexpected keyword argument 'level'"):
        PyTorchNNWrapper(level=3)
    changed = clone(PyTorchNNWrapper(levels=5).set_params(write_noise=0.1))
    assert (changed.levels, changed.get_params()["write_noise"]) == (5, 0.1)
    assert str(changed) == "PyTorchNNWrapper(levels=5, write_noise=0.1)"


def test_a_new_setting_of_devices_needs_no_edit_here(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass(kw_only=True)
    class Newer(DeviceSettings):
        humidity: float = 0.5

    monkeypatch.setattr(device_parameters, "DEVICE_FIELDS", dataclasses.fields(Newer))

    class Classifier(BaseEstimator):
        @device_parameters.with_device_parameters
        def __init__(self, width: int = 3, *, mapping: str = "direct", **device: Any) -> None:
            self.width = width
            self.mapping = mapping

    assert Classifier().humidity == 0.5
    assert clone(Classifier(humidity=0.7)).get_params()["humidity"] == 0.7
    assert Classifier(4).get_params()["width"] == 4


class Wander(Effect):
    """A random walk whose steps grow."""

    steps = 0

    def __call__(self, w: torch.Tensor, before: torch.Tensor) -> None:
        self.steps += 1
        w += 1e-3 * self.steps * torch.rand(w.shape, generator=self.generator)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.steps = saved["steps"]


def test_effects_of_the_users_start_afresh_with_every_fit(digits: Samples) -> None:
    effect = Wander()
    settings: dict[str, Any] = {"random_state": 0, "batch_size": 100, "scheduler": "constant"}
    classifier = PyTorchNNWrapper(**settings, epochs=2, effects=[effect])
    first = clone(classifier).fit(*digits)
    assert same_weights(first, classifier.fit(*digits))
    assert same_weights(first, classifier.fit(*digits))
    assert effect.steps == 0
    assert not same_weights(first, PyTorchNNWrapper(**settings, epochs=2).fit(*digits))
    parts = PyTorchNNWrapper(**settings, effects=[effect])
    parts = parts.partial_fit(*digits, classes=np.arange(10))
    parts = pickle.loads(pickle.dumps(parts)).partial_fit(*digits)
    assert same_weights(first, parts)
    with pytest.raises(ValueError, match=r"constraint\.effects\[0\]: int is not an effect"):
        PyTorchNNWrapper(effects=[3]).fit(*digits)
