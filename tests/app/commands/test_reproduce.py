"""``mnist_exp reproduce RUN_DIR`` equals ``reproduce=RUN_DIR``, for any directory name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.fault_injection import KFOLD, command, few_images, outcome


@pytest.mark.slow
def test_a_run_is_reproduced_by_the_command(tmp_path: Path) -> None:
    arguments = (*few_images(), *KFOLD)
    code, output = command(*arguments, "hydra.run.dir='a run, of {old}'", cwd=tmp_path)
    assert code == 0, output
    code, output = command("reproduce", "a run, of {old}", "hydra.run.dir=again", cwd=tmp_path)
    assert code == 0, output
    assert "identical to " in output
    assert outcome(tmp_path / "again")["results"].pop("reproduction")["identical"]
    code, output = command("reproduce", "a run, of {old}", "seed=1", cwd=tmp_path)
    assert (code, "seed was 0 and is 1 now" in output) == (2, True)
