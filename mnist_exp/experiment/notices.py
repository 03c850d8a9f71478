"""What a run says before it trains: what runs it, and what may make its results differ."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from mnist_exp.cpu import ops
from mnist_exp.cpu.threads import overload
from mnist_exp.errors import UserError
from mnist_exp.experiment.parts import Parts
from mnist_exp.run.reproduction import environment_differences
from mnist_exp.run.results import read_results
from mnist_exp.terminal import printable, printable_lines


def note_what_trains(parts: Parts, backpropagation: str) -> None:
    """Print on stderr what is not as usual: no kernels, a loss or weights of the user's own."""
    if (slower := ops.absence(parts.device)) is not None:
        print(f"note: {slower}", file=sys.stderr)
    if parts.recipe.loss is not None:
        print(f"note: backpropagation by {backpropagation}", file=sys.stderr)
    if parts.pretrained is not None and parts.pretrained.left_out:
        print(f"note: {parts.pretrained.left_out_line()}", file=sys.stderr)


def warn_of_overload(config: DictConfig, jobs: int) -> None:
    """Warn on stderr if there are far more CPU threads than cores."""
    given = {"threads": config.threads, "cv.n_jobs": config.cv.get("n_jobs")}
    if config.threads is None and (jobs == 1 or given["cv.n_jobs"] is None):
        given["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS")
    sentence = overload(torch.get_num_threads(), jobs, given)
    if sentence is not None:
        print(f"warning: {sentence}.", file=sys.stderr)


def warn_of_changes(directory: Path, facts: dict[str, Any], begun: bool) -> None:
    """Warn about changes in data, versions or hardware since an earlier run in the directory.

    Parameters
    ----------
    directory : Path
        The run directory.
    facts : dict
        Entries of results.json for the run about to start.
    begun : bool
        Whether a checkpoint exists to resume from.
    """
    try:
        before = read_results(directory)
    except UserError as error:
        print(f"warning: {printable_lines(error)} It will be overwritten.", file=sys.stderr)
        return
    if before is None:
        return
    if not begun:
        print("no checkpoint to resume from: training starts from the beginning")
    for line in environment_differences(before, facts):
        since = f"since this run was started, {printable(line)}"
        print(f"warning: {since}; bits may differ", file=sys.stderr)
