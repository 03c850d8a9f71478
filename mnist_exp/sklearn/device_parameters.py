"""The settings of devices as parameters of a classifier, so that a new one needs no edit there."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import fields
from typing import Any, TypeVar

from mnist_exp.device import DeviceConstraint, DeviceSettings

Init = TypeVar("Init", bound=Callable[..., None])
KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY
NEVER = 2**31  # in optimizer steps; the classifier has no diagnostics
NOT_REPORTED = ("diagnose_every", "cost")
DEVICE_FIELDS = [field for field in fields(DeviceSettings) if field.name not in NOT_REPORTED]


def with_device_parameters(init: Init) -> Init:
    """Give an ``__init__`` every field of `DeviceSettings` that it does not name itself.

    They are keyword-only parameters of its signature, with the defaults of `DeviceSettings`, and
    become attributes. scikit-learn reads the signature, and so do ``help`` and notebooks.

    Parameters
    ----------
    init : callable
        Ends in ``**device_settings``, which stand for these parameters.
    """
    signature = inspect.signature(init)
    named = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    added = [
        inspect.Parameter(f.name, KEYWORD_ONLY, default=f.default, annotation=f.type)
        for f in DEVICE_FIELDS
        if f.name not in signature.parameters
    ]
    whole = signature.replace(parameters=[*named, *added])

    @functools.wraps(init)
    def complete(self: Any, *args: Any, **settings: Any) -> None:
        whole.bind(self, *args, **settings)  # names an unknown parameter
        init(self, *args, **settings)
        vars(self).update({p.name: settings.get(p.name, p.default) for p in added})

    complete.__signature__ = whole  # type: ignore[attr-defined]
    return complete  # type: ignore[return-value]


def build_constraint(parameters: Mapping[str, Any]) -> DeviceConstraint:
    """Return the constraint of a classifier's parameters, with fresh copies of its effects."""
    settings = {field.name: parameters[field.name] for field in DEVICE_FIELDS}
    settings["effects"] = deepcopy(settings["effects"])  # so that every fit starts alike
    return DeviceConstraint(**settings, diagnose_every=NEVER)
