"""The callbacks of a training, in the order they act: the package's own and the user's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig

from mnist_exp.callbacks.device_monitor import DeviceMonitor
from mnist_exp.callbacks.display import Display
from mnist_exp.callbacks.gradient_norm import GradientNorm
from mnist_exp.callbacks.progress import Progress
from mnist_exp.callbacks.recorder import Recorder
from mnist_exp.errors import UserError
from mnist_exp.experiment.instantiate import call_target
from mnist_exp.run.directory import RunDirectory
from mnist_exp.terminal import printable
from mnist_exp.train.callback import Callback

GROUPS = ("callbacks", "tracker")  # nodes of the configuration whose entries are callbacks
HOOKS = [name for name, value in vars(Callback).items() if callable(value)]


def build_callbacks(
    config: DictConfig,
    run: RunDirectory,
    by_validation: bool,
    display: Display,
    keep: int,
    others: Mapping[str, Callback] | None = None,
) -> dict[str, Callback]:
    """Build a training's callbacks: those that measure, the user's, trackers, and the recorder.

    Parameters
    ----------
    config : DictConfig
        The whole configuration.
    run : RunDirectory
        Where checkpoints and metrics go.
    by_validation : bool
        Whether validation accuracy selects the reported epoch.
    display : Display
        Where progress is shown.
    keep : int
        Number of newest checkpoints to keep.
    others : mapping or None
        Callbacks of the run's caller, by name; they act after the user's.
    """
    callbacks: dict[str, Callback] = {}
    if config.training.gradient_norm or config.verbose:
        callbacks["gradient_norm"] = GradientNorm()
    if config.constraint.get("_target_") is not None:
        callbacks["device_monitor"] = DeviceMonitor()
    if config.gradients.get("_target_") is not None:
        callbacks["gradients"] = call_target(config, "gradients")
    for group in GROUPS:
        for name in config[group]:
            callbacks[f"{group}.{name}"] = Named(f"{group}.{name}", config)
    callbacks |= others or {}
    callbacks["progress"] = Progress(verbose=config.verbose, display=display)
    callbacks["recorder"] = Recorder(run, keep, by_validation, callbacks.copy())
    return callbacks


class CallbackFailed(RuntimeError):
    """A callback of the configuration raised an error that is not a `UserError`."""


class Named(Callback):
    """A callback built from the configuration, whose errors name it.

    A tracker's errors end its calls, not the run, except where it is checked before the run.

    Parameters
    ----------
    key : str
        Its place in the configuration, such as ``callbacks.mine``.
    config : DictConfig
        The whole configuration.

    Raises
    ------
    UserError
        If the target is no callback, or rejects its settings.
    """

    def __init__(self, key: str, config: DictConfig) -> None:
        callback = call_target(config, key)
        self.name = f"{key} ({type(callback).__name__})"
        if not isinstance(callback, Callback):
            raise UserError(
                f"{key}: makes a {type(callback).__name__}; allowed is a subclass of "
                "mnist_exp.train.Callback."
            )
        self.callback = callback
        self.is_tracker = key.startswith("tracker.")
        self.silenced = False
        self.resumes_within_epochs = callback.resumes_within_epochs


def _named(hook: str) -> Callable[..., Any]:
    """Return a method that calls the hook of the user's callback."""

    def call(self: Named, *arguments: Any) -> Any:
        try:
            if not self.silenced:
                return getattr(self.callback, hook)(*arguments)
        except Exception as error:
            goes_on = self.is_tracker and not (hook == "check" and isinstance(error, UserError))
            if isinstance(error, UserError) and not goes_on:
                raise
            failed = f"{self.name} failed in {hook}: {type(error).__name__}: {error}"
            if not goes_on:
                raise CallbackFailed(failed) from error
            self.silenced = True
            end = "Nothing more is sent to it; the run goes on."
            print(f"warning: {printable(failed)}. {end}", file=sys.stderr, flush=True)
        return getattr(Callback, hook)(self, *arguments)

    return call


for _hook in HOOKS:
    setattr(Named, _hook, _named(_hook))
