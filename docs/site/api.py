"""A page of the Python reference for each room that a user calls, from its docstrings."""

from __future__ import annotations

import ast
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# What to list where a room declares no __all__, or declares names that load on first use.
MEMBERS = {
    "mnist_exp": [
        "app.python_run.run_experiment",
        "app.runs.load_run",
        "app.runs.Run",
        "app.loaded_sweep.load_sweep",
        "app.loaded_sweep.Sweep",
    ],
    "mnist_exp.sklearn": ["PyTorchNNWrapper"],
    "mnist_exp.models": [],
    "mnist_exp.data": [],
    "mnist_exp.optim": [],
    "mnist_exp.cv": ["Split", "Scheme", "Holdout", "PooledFolds", "stratified_subset"],
    "mnist_exp.device": [],
    "mnist_exp.device.programmed": [],
    "mnist_exp.gradients": [],
    "mnist_exp.train": [],
    "mnist_exp.train.losses": ["cross_entropy", "focal", "mse"],
    "mnist_exp.train.metrics": [
        "top_k_accuracy",
        "expected_calibration_error",
        "negative_log_likelihood",
        "f1",
        "smaller_is_better",
        "read_in_percent",
    ],
    "mnist_exp.callbacks": [
        "device_monitor.DeviceMonitor",
        "early_stopping.EarlyStopping",
        "gradient_norm.GradientNorm",
        "progress.Progress",
        "recorder.Recorder",
    ],
    "mnist_exp.trackers": [],
    "mnist_exp.experiment": ["run.run_experiment"],
}


def on_config(config: MkDocsConfig) -> None:
    """Put the pages in place of ``api/`` in the navigation, and let griffe find the package."""
    (reference,) = (entry["Reference"] for entry in config.nav or [] if "Reference" in entry)
    place = next(entry for entry in reference if entry.get("Python") == "api/")
    place["Python"] = [{room: f"api/{room}.md"} for room in MEMBERS]
    handlers = config.plugins["mkdocstrings"].config.handlers
    handlers["python"]["paths"] = [str(Path(config.docs_dir).parent)]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add a page for each room."""
    root = Path(config.docs_dir).parent
    for room, members in MEMBERS.items():
        path = root.joinpath(*room.split("."))
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        tree = ast.parse(source.read_text())
        text = f"# {room}\n\n{ast.get_docstring(tree)}\n"
        text += "".join(f"\n::: {room}.{name}\n" for name in members or exported(tree))
        files.append(File.generated(config, f"api/{room}.md", content=text))


def exported(tree: ast.Module) -> list[str]:
    """Return the names in ``__all__``."""
    values = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    return list(ast.literal_eval(values[0]))
