"""What a run's page says in words and numbers: the result, how to repeat it, where time went."""

from __future__ import annotations

from typing import Any

import numpy as np

from mnist_exp.report.run_charts import SHARES
from mnist_exp.report.run_files import RunFiles
from mnist_exp.run.command_line import command, resume_command
from mnist_exp.run.config_sources import config_flags
from mnist_exp.run.overview import DAMAGED, DEAD, last_written
from mnist_exp.run.saved_config import RUN_KEYS, key_of
from mnist_exp.run.text_table import shown_accuracy, shown_duration, shown_number, shown_time
from mnist_exp.wording import counted

Pairs = list[tuple[str, str]]
STOPPED = {
    "interrupted": "This run was interrupted.",
    "failed": "This run failed.",
    "running": "This run is still going on.",
    DEAD: "This run stopped before its end.",
    DAMAGED: "The files of this run are damaged.",
}
UNITS = {"energy_estimate": "J", "time_estimate": "s"}
COSTS = {
    "pulses": "write pulses",
    "pulses_mean": "write pulses of a device, mean",
    "pulses_max": "write pulses of a device, most",
    "share_written": "devices written",
    "conversions": "conversions",
    "energy_estimate": "energy, estimated",
    "time_estimate": "time, estimated",
}


def title(run: RunFiles) -> str:
    """Return the page's title: the model, its devices and the data."""
    results, options = run.results, run.settings.options
    model = results.get("model") or options.get("model") or run.directory.resolve().name
    constraint = options.get("constraint", "none")
    parts = [model] + [f"on {constraint}"] * (constraint != "none")
    return " ".join(parts) + (f", {results['data']}" if "data" in results else "")


def facts(run: RunFiles) -> dict[str, Any]:
    """Return the values of the template that are words and numbers."""
    return {
        "status": STOPPED.get(run.status, ""),
        "headline": _headline(run),
        "overview": _overview(run),
        "metrics": _metrics(run),
        "fold_rows": _fold_rows(run),
        "commands": _commands(run),
        "cost": _cost(run),
        "device_facts": _device_facts(run),
        "environment": _environment(run),
        "times": _times(run),
        "loss_note": _loss_note(run),
    }


def _headline(run: RunFiles) -> dict[str, str] | None:
    accuracy = run.results.get("accuracy")
    if accuracy is None:
        return None
    n = accuracy["n"]
    spread = f", mean ± sample standard deviation of {n} folds" if n > 1 else ""
    rule = run.results.get("selection_rule", "")
    epochs = sorted({row["selected_epoch"] for row in run.results["folds"]})
    selected = f" (epoch {', '.join(map(str, epochs))})" if len(epochs) <= 3 else ""
    return {
        "accuracy": shown_accuracy(accuracy["mean"], accuracy["std"], " ± "),
        "of": f"test accuracy{spread}",
        "rule": f"Reported weights: {rule}{selected}." if rule else "",
    }


def _overview(run: RunFiles) -> Pairs:
    results = run.results
    found: Pairs = [("model", str(results.get("model", "")))]
    if "parameters" in results:
        found.append(("parameters", f"{results['parameters']:,}"))
    found.append(("data", str(results.get("data", ""))))
    found.append(_tested(run))
    if "loss" in results:
        loss = results["loss"]
        spread = "" if loss["std"] is None else f" ± {loss['std']:.4f}"
        found.append(("test loss (nats)", f"{loss['mean']:.4f}{spread}"))
    found.append(("epochs", _epochs(run)))
    found.append(("seed", str(results.get("seed", ""))))
    if "wall_seconds" in results:
        found.append(("time", shown_duration(results["wall_seconds"])))
    changed = last_written(run.directory)
    found.append(("date", shown_time(changed)[:16] if changed else ""))
    return [(name, value) for name, value in found if value]


def _tested(run: RunFiles) -> tuple[str, str]:
    """Return how many images were tested; folds that are repeated test each several times."""
    folds = run.results.get("folds", ())
    tests = sum(sum(map(sum, row.get("confusion_matrix", ()))) for row in folds)
    if not tests:
        return "test images", ""
    if run.predictions is None and len(folds) > 1:
        return "tests of an image", f"{tests:,}"
    images = tests if run.predictions is None else len(np.unique(run.predictions.index))
    return "test images", f"{images:,}" + f" ({tests:,} tests)" * (tests != images)


def _epochs(run: RunFiles) -> str:
    done = sorted({max(r["epoch"] for r in run.rows if r["fold"] == f) for f in run.folds
                   if any(r["fold"] == f for r in run.rows)})  # fmt: skip
    asked = run.section("training").get("epochs")
    shown = str(done[0]) if len(done) == 1 else f"{done[0]} to {done[-1]}" if done else "0"
    return shown if asked is None or done == [asked] else f"{shown} of {asked}"


def _metrics(run: RunFiles) -> Pairs:
    found = []
    for name, value in run.results.get("metrics", {}).items():
        if value["mean"] is None:
            shown = "–"
        elif value.get("percent"):
            shown = shown_accuracy(value["mean"], value["std"], " ± ")
        else:
            shown = f"{value['mean']:.4g}" + (
                "" if value["std"] is None else f" ± {value['std']:.2g}"
            )
        found.append((name.replace("_", " "), shown))
    return found


def _fold_rows(run: RunFiles) -> list[dict[str, Any]]:
    folds = run.results.get("folds", ())
    return list(folds) if len(folds) > 1 or any("stopped" in row for row in folds) else []


def _commands(run: RunFiles) -> list[tuple[str, str]]:
    """Return what to do with the run, and the command for it."""
    found = []
    if not run.completed and run.status != "running" and run.results:
        failed = "Go on from its last checkpoint, once the reason above is gone"
        what = failed if run.status == "failed" else "Go on where it stopped"
        found.append((what, resume_command(run.directory)))
    left_out = (*RUN_KEYS, "hydra.run.dir", "hydra.sweep.dir")
    words = [o for o in run.settings.overrides if key_of(o) not in left_out]
    flags = config_flags(run.directory)
    if run.settings.config and flags is not None:
        found.append(("Train the same once more", command(*flags, *words)))
    if run.completed:
        found.append(
            ("Train it again and compare every result", command("reproduce", str(run.directory)))
        )
    return found


def _cost(run: RunFiles) -> Pairs:
    found = []
    for name, value in run.results.get("cost", {}).items():
        text = COSTS.get(name, name.replace("_", " "))
        mean = value["mean"]
        shown = f"{mean:.2%}" if name.startswith(("share", "endurance")) else f"{mean:,.4g}"
        found.append((text, f"{shown} {UNITS.get(name, '')}".strip()))
    return found


def _device_facts(run: RunFiles) -> Pairs:
    """Return what the last epochs say of the devices, mean over folds."""
    last = {row["fold"]: row for row in run.rows}.values()

    def mean(column: str) -> float | None:
        values = [row[column] for row in last if isinstance(row.get(column), int | float)]
        return sum(values) / len(values) if values else None

    found: Pairs = []
    if (used := mean("distinct_levels")) is not None:
        constraint = run.section("constraint")
        levels = constraint.get("levels") if constraint.get("quantize") else None
        found.append(("levels in use", f"{used:.4g}" + (f" of {levels}" if levels else "")))
    for column, name in SHARES.items():
        if (value := mean(column)) is not None:
            found.append((name, f"{value:.2%}"))
    if (drift := mean("mean_drift")) is not None:
        found.append(("drift of a conductance in a step", f"{drift:.3g}"))
    return found


def _environment(run: RunFiles) -> Pairs:
    results = run.results
    found = [(name, str(value)) for name, value in run.versions.items()]
    for key, name in {
        "cpu": "processor", "gpu": "GPU", "threads": "threads", "host": "machine",
        "precision": "precision", "float32_products": "float32 products", "kernels": "kernels",
        "backpropagation": "backpropagation", "deterministic": "deterministic",
        "git_commit": "git commit", "data_sha256": "SHA-256 of the data",
        "config_hash": "hash of the configuration",
    }.items():  # fmt: skip
        if results.get(key) not in (None, ""):
            value = results[key]
            shown = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
            found.append(
                (name, shown[:12] if key.endswith(("sha256", "hash", "commit")) else shown)
            )
    if "weights_from" in results:
        found.append(("started from the weights of", results["weights_from"]["path"]))
    return found


def _times(run: RunFiles) -> list[dict[str, Any]]:
    """Return where the time went: name, seconds, share of the whole and a note."""
    results = run.results
    total = results.get("wall_seconds", 0.0)
    if not total:
        return []
    training, collecting = (_sum(run, column) for column in ("seconds", "gradient_seconds"))
    folds = [row["wall_seconds"] for row in results.get("folds", ())]
    loops = sum(folds)
    parts = [("training steps", training), ("collecting gradients", collecting)]
    if folds:
        parts.append(
            ("evaluation after epochs, checkpoints, callbacks", loops - training - collecting)
        )
    if folds and loops <= total:
        parts.append(("test, pictures and everything else", total - loops))
    whole = max(total, sum(seconds for _, seconds in parts))
    rows = [
        {"name": name, "seconds": shown_duration(seconds), "share": seconds / whole}
        for name, seconds in parts
        if seconds > 0.0005 * whole
    ]
    side_by_side = f", {counted(len(folds), 'fold')} side by side" if loops > total else ""
    whole_run = {"name": f"whole run{side_by_side}", "seconds": shown_duration(total)}
    return [*rows, {**whole_run, "share": None}]


def _sum(run: RunFiles, column: str) -> float:
    values = [row[column] for row in run.rows if isinstance(row.get(column), int | float)]
    return float(sum(values))


def _loss_note(run: RunFiles) -> str:
    smoothing = run.section("training").get("label_smoothing")
    if not smoothing:
        return ""
    return f"The training loss is with label smoothing ({shown_number(smoothing)}), others without."
