"""A scikit-learn classifier: the network of ``model=mlp100`` with its weights on devices."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from mnist_exp.cpu.threads import settle_threads
from mnist_exp.device.reading.layers import restarted
from mnist_exp.errors import UserError
from mnist_exp.sklearn.parameters import Parameters
from mnist_exp.sklearn.sample_weights import Samples, weighted_samples
from mnist_exp.sklearn.training import (
    fresh_state,
    load_state_bytes,
    state_bytes,
    train_until,
    wrong_scales,
)
from mnist_exp.sklearn.validation import SCORE, held_network
from mnist_exp.train.state import Row, TrainState


class PyTorchNNWrapper(ClassifierMixin, Parameters):
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
        Passes over the data in a call of `fit`, fewer if ``early_stopping`` ends it.
    batch_size : int
        Samples per optimizer step.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to train; predictions are made on the CPU.
    class_weight : dict, "balanced" or None
        Weights of classes by label, 1 for those left out; they multiply the weights of samples.
        "balanced": in inverse proportion to the total weight of each class's samples.
    warm_start : bool
        Whether `fit` trains ``epochs`` more epochs from where the last call ended, as `partial_fit`
        does, instead of from fresh weights.
    early_stopping : bool
        Whether `fit` holds back ``validation_fraction`` of the samples, stratified by class, ends
        when the accuracy on them has not risen by more than ``tol`` for ``n_iter_no_change`` epochs
        in a row, and returns the best epoch's weights. "onecycle" plans for all epochs: if training
        ends early, its low last rates are never reached.
    validation_fraction, n_iter_no_change, tol : float, int, float
        Settings of ``early_stopping``; without it, unused.
    verbose : bool or int
        Whether to print a line per epoch, and on a terminal a progress bar.
    random_state : int, RandomState or None
        Seed of initial weights, data order, devices and held-back samples. An int gives the same
        numbers as ``seed`` on the command line, even if several fits run in threads: torch's global
        generator is not used.

    Attributes
    ----------
    classes_ : ndarray
        The labels, sorted.
    n_features_in_ : int
        Number of features seen in training.
    model_ : mnist_exp.models.MLP
        The trained network with the weights its devices hold; float64, on the CPU.
    history_ : list of dict
        Training loss, accuracy, learning rate and time of each epoch since the weights were fresh.
    loss_curve_ : list of float
        The training losses in ``history_``.
    n_iter_ : int
        Epochs in the last call of `fit` or `partial_fit`.
    validation_scores_ : list of float or None
        Accuracies on the held-back samples in ``history_``; None without ``early_stopping``.
    best_validation_score_ : float or None
        That of the weights in ``model_``; None without ``early_stopping``.

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

    @classmethod
    def from_run(
        cls,
        directory: str | os.PathLike[str],
        *,
        epoch: int | str = "best",
        fold: int | None = None,
    ) -> PyTorchNNWrapper:
        """Return a fitted classifier with the network of a run; nothing is trained.

        It takes pixels in [0, 1], [n_samples, 784], such as ``images.reshape(-1, 784) / 255``: the
        run's own normalisation is part of the first layer of ``model_``. ``classes_`` are the run's
        class names, as numbers if all of them are. Its parameters are those of the run where the
        classifier has them; `fit` trains anew with them. Effects, and step models and update
        schemes of your own, are left out with a warning.

        Parameters
        ----------
        directory : path
            A run of a network with one hidden layer of ReLU units, with a device constraint or
            without, such as ``model=mlp100``.
        epoch : int or {"best", "last"}
            The epoch whose weights to take; "best" is the reported one.
        fold : int or None
            From 1; needed if the run has folds.

        Raises
        ------
        UserError
            If the run is of another network, or has no such checkpoint.
        """
        from mnist_exp.sklearn.from_run import fitted_classifier

        return fitted_classifier(cls, Path(directory), epoch, fold)

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> PyTorchNNWrapper:
        """Train from fresh weights, unless ``warm_start`` is set, and return the classifier.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Real numbers.
        y : array-like of shape (n_samples,)
            Labels of any kind.
        sample_weight : array-like of shape (n_samples,) or None
            What each sample counts: a batch's loss is the weighted mean. A sample of weight 0 is
            left out; its label remains a class. Accuracies in ``history_`` of training samples
            count each alike.

        Raises
        ------
        ValueError
            If a parameter is out of range or contradicts the data.
        """
        settle_threads()
        state, samples = self._begin(X, y, None, sample_weight, self.warm_start)
        self._complete(state, samples, int(self.epochs), self.scheduler)
        return self

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
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
        sample_weight : array-like of shape (n_samples,) or None
            As in `fit`.

        Raises
        ------
        ValueError
            If the classes are missing or contradict the data or an earlier call; also as in `fit`.
        """
        settle_threads()
        if classes is None and not hasattr(self, "classes_"):
            raise ValueError("classes: the first call of partial_fit needs all labels.")
        if self.early_stopping or isinstance(self.class_weight, str):
            raise UserError(
                f"early_stopping={self.early_stopping}, class_weight={self.class_weight!r}: "
                "partial_fit does not know the samples of later calls; allowed are "
                "early_stopping=False, and class_weight as a dict or None."
            )
        state, samples = self._begin(X, y, classes, sample_weight, True)
        self._complete(state, samples, 1, "constant")
        return self

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the probability of each class of ``classes_``, shape (n_samples, n_classes)."""
        settle_threads()
        check_is_fitted(self)
        features = torch.tensor(validate_data(self, X, dtype=np.float64, reset=False))
        with torch.no_grad(), restarted(self.model_):
            probabilities: np.ndarray = self.model_(features).softmax(1).numpy()
        return probabilities

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return the most probable label of each sample, shape (n_samples,)."""
        most_probable = self.predict_proba(X).argmax(1)
        predictions: np.ndarray = self.classes_[most_probable]
        return predictions

    def _begin(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None,
        sample_weight: ArrayLike | None,
        continues: bool,
    ) -> tuple[TrainState, Samples]:
        """Check data and parameters; return the state to train from and the samples that count."""
        continues = continues and hasattr(self, "classes_")
        if continues and not hasattr(self, "_training"):
            raise UserError(
                "a classifier made by from_run holds no state of a training to continue. Continue "
                "the run itself (resume=RUN_DIR), or train anew: fit with warm_start=False."
            )
        features, labels = validate_data(self, X, y, dtype=np.float32, reset=not continues)
        check_classification_targets(labels)
        given = None if classes is None else np.unique(classes)
        if not continues:
            self.classes_ = np.unique(labels) if given is None else given
        elif given is not None and not np.array_equal(given, self.classes_):
            raise ValueError(f"classes={given}: earlier calls had {self.classes_}; leave it out.")
        if len(unknown := np.setdiff1d(labels, self.classes_)):
            raise ValueError(f"y holds {unknown}, which is not among the classes {self.classes_}.")
        parameters = self._checked(self.n_features_in_, len(self.classes_))
        places = np.searchsorted(self.classes_, labels)
        samples = weighted_samples(
            features, places, self.classes_, sample_weight, self.class_weight
        )
        if not continues:
            self._seed = self._drawn_seed()
        state = fresh_state(parameters, self.n_features_in_, len(self.classes_), self._seed)
        if continues:
            load_state_bytes(state, self._training)
        return state, samples

    def _complete(self, state: TrainState, samples: Samples, epochs: int, scheduler: str) -> None:
        """Train ``epochs`` more epochs and set the fitted attributes."""
        for sentence in wrong_scales(samples.X, state):
            warnings.warn(sentence, stacklevel=3)  # points at the caller of fit
        before = state.epoch
        parameters = self.get_params(deep=False) | {"scheduler": scheduler}
        best = train_until(state, samples, before + epochs, parameters, self._seed)
        self.model_ = held_network(state.model)
        self._training = state_bytes(state)
        self._set_history(state.history, state.epoch - before, best)

    def _set_history(self, rows: list[Row], epochs: int, best: float | None) -> None:
        """Set the attributes about the course of training, the last ``epochs`` of them new."""
        self.history_ = rows
        self.n_iter_ = epochs
        self.loss_curve_ = [row["train_loss"] for row in rows]
        self.best_validation_score_ = best
        scores = [row[SCORE] for row in rows if SCORE in row]
        self.validation_scores_ = None if best is None else scores
