"""A scikit-learn classifier: the network of ``model=mlp100`` with its weights on devices."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, check_scalar, validate_data

from mnist_exp.cpu.threads import settle_threads
from mnist_exp.data.batches import Features
from mnist_exp.errors import UserError
from mnist_exp.models.effective_copy import effective_copy
from mnist_exp.schema.arguments import wrong_kinds
from mnist_exp.sklearn.device_parameters import with_device_parameters
from mnist_exp.sklearn.from_run import network_of_run
from mnist_exp.sklearn.training import (
    build_scheduler,
    fresh_state,
    load_state_bytes,
    state_bytes,
    wrong_scales,
)
from mnist_exp.train.loop import Recipe, Training, train
from mnist_exp.train.state import TrainState


class PyTorchNNWrapper(ClassifierMixin, BaseEstimator):
    """Network with one hidden layer of ReLU units, trained under device limits.

    The defaults are those of ``model=mlp100 constraint=memristor`` on the command line: weights
    are differences of two conductances with 100 levels, which are rounded stochastically, drift
    toward ``W_min``, and rise and fall at different learning rates. With ``mapping="direct",
    clip=False, quantize=False, retain=False`` it is an ordinary network.

    Features should be of the order of 1: pixels in [0, 1], or standardised.

    Parameters
    ----------
    input_dim : int or None
        Number of features; None: taken from the data.
    hidden_dim : int
        Number of hidden units.
    output_dim : int or None
        Number of classes; None: taken from the data.
    lr_pos, lr_neg : float
        Learning rates of conductances that rise (gradient < 0) and fall; peak rates with
        ``scheduler="onecycle"``.
    momentum : float
        In [0, 1). "onecycle" varies it between 0.85 and 0.95, unless it is 0.
    scheduler : {"onecycle", "constant"}
        Course of the learning rates in `fit`; `partial_fit` keeps them constant.
    label_smoothing : float
        Share of the target spread over all classes, in [0, 1).
    retention, retention_tau : float or None
        Drift toward ``retention_target``: share of the distance lost per optimizer step, or time
        constant in steps; set one of the two.
    retention_target : float or None
        Conductance at which the drift ends; None: ``W_min``.
    W_min, W_max : float
        Bounds of a conductance.
    quantize, retain, clip : bool
        Whether to keep conductances on evenly spaced levels, let them drift, and keep them within
        their bounds.
    mapping, levels, rounding, ...
        Every other setting of `mnist_exp.device.DeviceSettings`, by its name. `fit` trains with
        copies of ``effects``.
    epochs : int
        Passes over the data in `fit`.
    batch_size : int
        Samples per optimizer step.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to train; predictions are made on the CPU.
    random_state : int, RandomState or None
        Seed of initial weights, data order and devices. An int gives the same numbers as ``seed``
        on the command line, even if several fits run in threads: torch's global generator is not
        used.

    Attributes
    ----------
    classes_ : ndarray
        The labels, sorted.
    n_features_in_ : int
        Number of features seen in training.
    model_ : mnist_exp.models.MLP
        The trained network with the weights its devices hold; float64, on the CPU.
    history_ : list of dict
        Training loss, accuracy, learning rate and time of each epoch.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import cross_val_score
    >>> from mnist_exp import PyTorchNNWrapper
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = PyTorchNNWrapper(batch_size=32, random_state=0)
    >>> bool(cross_val_score(classifier, X / 16, y, cv=2).mean() > 0.9)
    True
    """

    @with_device_parameters
    def __init__(
        self,
        input_dim: int | None = None,
        hidden_dim: int = 100,
        output_dim: int | None = None,
        lr_pos: float = 0.12,
        lr_neg: float = 0.1236,
        retention: float | None = 1e-5,
        W_min: float = 0.1,
        W_max: float = 0.51,
        quantize: bool = True,
        retain: bool = True,
        epochs: int = 10,
        batch_size: int = 128,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        *,
        momentum: float = 0.9,
        scheduler: str = "onecycle",
        label_smoothing: float = 0.1,
        mapping: str = "differential",
        **device_settings: Any,
    ) -> None:
        self.input_dim = input_dim
        self.hidden_dim = hidden_dim
        self.output_dim = output_dim
        self.lr_pos = lr_pos
        self.lr_neg = lr_neg
        self.retention = retention
        self.W_min = W_min
        self.W_max = W_max
        self.quantize = quantize
        self.retain = retain
        self.epochs = epochs
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.momentum = momentum
        self.scheduler = scheduler
        self.label_smoothing = label_smoothing
        self.mapping = mapping

    @classmethod
    def from_run(cls, directory: str | Path, **choice: Any) -> PyTorchNNWrapper:
        """Return a fitted classifier with the network of a run, an MLP with one hidden layer.

        It takes X of shape (n_samples, 784), pixels in [0, 1]: the run's normalisation is folded
        into the first layer's weights. Its classes are the run's labels, 0, 1, ... . `fit` starts
        from fresh weights. ``choice`` is ``epoch``, ``fold`` and ``trust``, as in
        `mnist_exp.load_run`. Raises UserError if the network is another one.
        """
        network = network_of_run(Path(directory), **choice)
        classifier = cls(hidden_dim=network.hidden)
        classifier.model_, classifier.n_features_in_ = network.model, network.features
        classifier.classes_, classifier.history_ = np.arange(network.classes), []
        return classifier

    def fit(self, X: ArrayLike, y: ArrayLike) -> PyTorchNNWrapper:
        """Train from fresh weights and return the classifier.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Real numbers.
        y : array-like of shape (n_samples,)
            Labels of any kind.

        Raises
        ------
        ValueError
            If a parameter is out of range or contradicts the data.
        """
        settle_threads()
        features, labels = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(labels)
        self.classes_ = np.unique(labels)
        state = self._fresh_state(self._seed())
        self._complete(features, labels, state, self.epochs, self.scheduler)
        return self

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None
    ) -> PyTorchNNWrapper:
        """Train one more epoch, continuing from the last call of `fit` or `partial_fit`.

        Momentum, random numbers and devices continue too: with ``scheduler="constant"`` n calls on
        the same data equal one `fit` of n epochs. Between calls you may change learning rates,
        momentum, batch size and label smoothing.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Real numbers.
        y : array-like of shape (n_samples,)
            Labels, all of them among the classes.
        classes : array-like of shape (n_classes,)
            All labels of this and later calls; required in the first call.

        Raises
        ------
        ValueError
            If the classes are missing or contradict the data or an earlier call; also as in `fit`.
        """
        settle_threads()
        first = not hasattr(self, "model_")
        features, labels = validate_data(self, X, y, dtype=np.float32, reset=first)
        check_classification_targets(labels)
        if not first and not hasattr(self, "_training"):
            raise ValueError("partial_fit: cannot go on with a run's network; call fit.")
        if first and classes is None:
            raise ValueError("classes: the first call of partial_fit needs all labels.")
        known = self.classes_ if classes is None else np.unique(classes)
        if not first and not np.array_equal(known, self.classes_):
            raise ValueError(f"classes={known}: earlier calls had {self.classes_}; leave it out.")
        unknown = np.setdiff1d(labels, known)
        if len(unknown):
            raise ValueError(f"y holds {unknown}, which is not among the classes {known}.")
        self.classes_ = known
        state = self._fresh_state(self._seed() if first else 0)  # 0: replaced by the loaded state
        if not first:
            load_state_bytes(state, self._training)
        self._complete(features, labels, state, state.epoch + 1, "constant")
        return self

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the probability of each class of ``classes_``, shape (n_samples, n_classes)."""
        settle_threads()
        check_is_fitted(self)
        features = torch.tensor(validate_data(self, X, dtype=np.float64, reset=False))
        with torch.no_grad():
            probabilities: np.ndarray = self.model_(features).softmax(1).numpy()
        return probabilities

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return the most probable label of each sample, shape (n_samples,)."""
        most_probable = self.predict_proba(X).argmax(1)
        predictions: np.ndarray = self.classes_[most_probable]
        return predictions

    def _fresh_state(self, seed: int) -> TrainState:
        """Check the parameters and return the initial training state."""
        parameters = self.get_params(deep=False)
        if mistakes := list(wrong_kinds(type(self), parameters)):
            raise UserError("\n".join(mistakes))
        self._check_dimension("input_dim", self.n_features_in_, "features")
        self._check_dimension("output_dim", len(self.classes_), "classes")
        check_scalar(self.hidden_dim, "hidden_dim", Integral, min_val=1)
        return fresh_state(parameters, self.n_features_in_, len(self.classes_), seed)

    def _complete(
        self, X: np.ndarray, y: np.ndarray, state: TrainState, epochs: int, scheduler: str
    ) -> None:
        """Train until ``epochs`` epochs are complete and set the fitted attributes."""
        recipe = self._recipe(epochs)
        state.scheduler = build_scheduler(scheduler, state, recipe, len(X))
        device = state.generator.device
        features = Features(X, np.searchsorted(self.classes_, y), device)
        for sentence in wrong_scales(features.X, state):
            warnings.warn(sentence, stacklevel=3)  # points at the caller of fit
        train(
            state, Training(features, torch.arange(len(X), device=device), recipe), lambda model: {}
        )
        self.model_ = effective_copy(state.model).cpu().double()
        self.history_ = state.history
        self._training = state_bytes(state)

    def _recipe(self, epochs: int) -> Recipe:
        share: dict[str, Any] = {"min_val": 0, "max_val": 1, "include_boundaries": "left"}
        return Recipe(
            epochs=int(check_scalar(epochs, "epochs", Integral, min_val=1)),
            batch_size=int(check_scalar(self.batch_size, "batch_size", Integral, min_val=1)),
            label_smoothing=check_scalar(self.label_smoothing, "label_smoothing", Real, **share),
            precision="fp32",
            on_nan="stop",
        )

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31))

    def _check_dimension(self, name: str, found: int, what: str) -> None:
        given = getattr(self, name)
        if given is not None and given != found:
            raise ValueError(
                f"{name}={given}: the data has {found} {what}; give {name}={found}, or None to "
                "take it from the data."
            )
