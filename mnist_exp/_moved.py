"""Modules under their names in version 0.1; names within them may have moved further."""

from __future__ import annotations

import importlib
import importlib.util

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader, MetaPathFinder
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType
else:  # importlib.abc loads tempfile and typing: long enough for a Ctrl-C before `main` catches it
    Loader = MetaPathFinder = object

MOVED = {
    "arguments": "schema.arguments",
    "autograd": "train.backprop.autograd",
    "backpropagation": "train.backprop.choose",
    "build": "experiment.build",
    "callbacks.tracking": "trackers.tensorboard",
    "check_models": "app.commands.check_models",
    "claim": "app.run_directories",
    "compiled_convolutions": "train.backprop.cnn_compiled",
    "compiled_layers": "train.backprop.mlp_compiled",
    "device_diagnostics": "callbacks.device_monitor",
    "device_plots": "plots.device",
    "env_check": "app.commands.env_check",
    "evaluate": "train.evaluate",
    "figures": "plots.figures",
    "float32_products": "cpu.float32_matmul",
    "fold": "experiment.fold",
    "fold_processes": "experiment.fold_processes",
    "foreign_targets": "app.foreign_targets",
    "fork_server": "cpu.fork_server",
    "gradient_collection": "gradients.collector",
    "gradient_norm": "callbacks.gradient_norm",
    "gradients.effective_copy": "models.effective_copy",
    "gradients.epoch_recording": "gradients.epoch_writer",
    "gradients.layer_calls": "gradients.layer_gradients",
    "gradients.plots": "gradients.pictures",
    "hardware": "cpu.features",
    "ignored_settings": "experiment.ignored_settings",
    "kernels": "cpu.kernels",
    "kernels.boundary": "cpu.kernels.boundary",
    "kernels.functions": "cpu.kernels.functions",
    "kernels.interface": "cpu.kernels.interface",
    "kernels.library": "cpu.kernels.library",
    "kernels.measurements": "cpu.kernels.measurements",
    "launch": "app.hydra_callback",
    "linear_layers": "train.backprop.mlp",
    "names": "files.names",
    "output": "terminal",
    "printable": "terminal",
    "progress": "callbacks.progress",
    "recipe_over_seeds": "app.commands.seeds",
    "regular_files": "files.regular",
    "resumption": "app.resume",
    "run.files": "files.atomic",
    "run.interruption": "interruption",
    "run.table": "app.commands.view_results",
    "schedule": "optim.schedule",
    "shipped_config": "files.shipped_config",
    "sweep": "run.sweep_table",
    "sweep_job": "app.sweep.job",
    "sweep_jobs": "app.sweep.jobs",
    "sweep_overrides": "app.sweep.overrides",
    "sweep_plots": "plots.sweep",
    "sweep_resumption": "app.sweep.resume",
    "targets": "experiment.instantiate",
    "threads": "cpu.threads",
    "tracking": "trackers.tensorboard",
    "training_state": "train.state",
    "waiting_threads": "cpu.openmp",
    "weight_averaging": "optim.weight_averaging",
    "weights": "train.backprop.weights",
}


# Code that ``python -m OLDNAME`` runs where the module is now a command.
RUN_COMMAND = """
import sys
from mnist_exp.__main__ import main
print("python -m {old} is called python -m mnist_exp {word} now.", file=sys.stderr)
sys.argv[:1] = ["{old}", "{word}"]
main()
"""


class _Alias(Loader):
    """Load the module under its current name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.name)
        self.own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.own_spec  # the import system has set the old name's spec

    def get_code(self, fullname: str) -> CodeType | None:
        """Return the code for ``python -m``; None, which it refuses, unless it is a command."""
        room, _, module = self.name.rpartition(".")
        if room != "mnist_exp.app.commands":
            return None
        text = RUN_COMMAND.format(old=fullname, word=module.replace("_", "-"))
        return compile(text, f"<{fullname}>", "exec")


class OldNames(MetaPathFinder):
    """Find ``mnist_exp.<old name>``; both names give the same module object.

    Must come first in ``sys.meta_path``: the other finders would load submodules of ``kernels`` a
    second time under their old names.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != "mnist_exp" or name not in MOVED:
            return None
        loader = _Alias(f"mnist_exp.{MOVED[name]}")
        return importlib.util.spec_from_loader(fullname, loader, origin="moved")
