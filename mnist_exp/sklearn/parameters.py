"""The classifier's parameters: names, defaults and ranges."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from mnist_exp.schema.arguments import wrong_kinds
from mnist_exp.schema.rule import AT_LEAST_0, BELOW_1, integer, number, one_of, refusal, refuse
from mnist_exp.sklearn.device_parameters import with_device_parameters

# Of what no other part of the package checks.
RULES = {
    **dict.fromkeys(("hidden_dim", "epochs", "batch_size", "n_iter_no_change"), integer(1)),
    "scheduler": one_of("onecycle", "constant"),
    "label_smoothing": BELOW_1,
    "validation_fraction": number(lambda value: 0 < value < 1, "above 0 and below 1"),
    "tol": AT_LEAST_0,
}


class Parameters(BaseEstimator):
    """What `mnist_exp.PyTorchNNWrapper` documents as its parameters."""

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
        class_weight: Mapping[Any, float] | str | None = None,
        warm_start: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        verbose: bool | int = False,
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
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.verbose = verbose

    def _checked(self, num_features: int, num_classes: int) -> dict[str, Any]:
        """Return the parameters, checked but for what other parts of the package check.

        Raises
        ------
        ValueError
            If one is of the wrong kind, out of range or contradicts the data.
        """
        parameters: dict[str, Any] = self.get_params(deep=False)
        refuse(wrong_kinds(type(self), parameters))
        refuse(
            refusal(name, parameters[name], rule)
            for name, rule in RULES.items()
            if not rule.accepts(parameters[name])
        )
        self._check_dimension("input_dim", num_features, "features")
        self._check_dimension("output_dim", num_classes, "classes")
        return parameters

    def _check_dimension(self, name: str, found: int, what: str) -> None:
        given = getattr(self, name)
        if given is not None and given != found:
            raise ValueError(
                f"{name}={given}: the data has {found} {what}; give {name}={found}, or None to "
                "take it from the data."
            )

    def _drawn_seed(self) -> int:
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31))
