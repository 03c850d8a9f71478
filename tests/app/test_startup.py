"""A run imports what it uses, when it uses it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.bench_startup import RUN

# Each takes half a second or more to import; torch._dynamo is torch.compile.
REPOSITORY = Path(__file__).parents[2]
HEAVY = {"sklearn", "scipy", "matplotlib", "torchvision", "pandas", "torch._dynamo"}


@pytest.mark.slow
def test_a_default_run_imports_no_heavy_module_before_its_first_step(tmp_path: Path) -> None:
    # with validation images, which are drawn as scikit-learn draws them
    command = [sys.executable, *RUN, "cv=holdout", f"hydra.run.dir={tmp_path}/run"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, cwd=REPOSITORY)
    assert ended.returncode == 0, ended.stderr
    imported = set(json.loads(ended.stdout.splitlines()[-1]))
    assert "torch" in imported
    assert imported & HEAVY == set()
