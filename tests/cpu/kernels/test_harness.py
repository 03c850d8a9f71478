"""Each kernel matches a naive C version, on odd sizes and any number of threads."""

import shutil
import subprocess
from pathlib import Path

import pytest

from mnist_exp.cpu.kernels.interface import SIGNATURES
from tests.cpu.kernels.run_harness import SETUP, compile_harness, runs_here

COMPILER = next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no C compiler to build the harness with")
@pytest.mark.parametrize("build", SETUP["BUILDS"])
def test_the_kernels_pass_the_harness(build: str, tmp_path: Path) -> None:
    if not runs_here(build):
        pytest.skip(f"this processor lacks the instructions of {build}")
    assert COMPILER is not None
    harness = compile_harness(tmp_path, COMPILER, build, ["-O1"])
    ended = subprocess.run([harness, "2"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_harness_calls_every_function_that_python_calls() -> None:
    harness = "".join(path.read_text() for path in Path(__file__).parent.glob("*.c"))
    assert [name for name in SIGNATURES if f"{name}(" not in harness] == []
