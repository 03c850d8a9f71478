"""Compile the harness of the kernels and run it: ``python -m tests.cpu.kernels.run_harness``.

Every build goes through the address and undefined-behaviour sanitizers together and through the
thread sanitizer, with gcc and, where it is installed, clang. A build for another processor is
compiled but not run.
"""

from __future__ import annotations

import itertools
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mnist_exp.cpu.features import cpu_flags
from mnist_exp.cpu.kernels.library import BUILDS

REPOSITORY = Path(__file__).parents[3]
SETUP = runpy.run_path(str(REPOSITORY / "setup.py"))  # sources and flags as they are installed
SOURCES = REPOSITORY / SETUP["SOURCES"]
COMPILERS = ("gcc", "clang")
STRICT = ["-Wall", "-Wextra", "-Wmissing-prototypes", "-Wstrict-prototypes", "-Werror"]
SANITIZERS = {
    "address and undefined": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "thread": ["-fsanitize=thread"],
}
ROUNDS = 8
ENVIRONMENT = {"TSAN_OPTIONS": "halt_on_error=1", "UBSAN_OPTIONS": "print_stacktrace=1"}


def compile_harness(folder: Path, compiler: str, build: str, flags: list[str]) -> Path:
    """Return the harness, compiled into ``folder`` for a build of the kernels.

    Raises
    ------
    subprocess.CalledProcessError
        If the compiler warns.
    """
    harness = folder / "harness"
    files = sorted(map(str, [*Path(__file__).parent.glob("*.c"), *SOURCES.glob("*.c")]))
    instructions = [*SETUP["FLAGS"], *SETUP["BUILDS"][build]]
    command = [compiler, *instructions, *STRICT, *flags, f"-I{SOURCES}", *files]
    subprocess.run([*command, "-lm", "-o", str(harness)], check=True)
    return harness


def runs_here(build: str) -> bool:
    """Whether this processor has the instructions of a build."""
    return cpu_flags().issuperset(BUILDS[build])


def passes(compiler: str, build: str, sanitizer: str) -> bool:
    """Return whether a sanitizer finds nothing; a build for another processor is only compiled."""
    flags = ["-O1", "-g", "-fno-omit-frame-pointer", *SANITIZERS[sanitizer]]
    with tempfile.TemporaryDirectory() as folder:
        harness = compile_harness(Path(folder), compiler, build, flags)
        if not runs_here(build):
            print("compiled, not run: another processor", flush=True)
            return True
        # No forks: another thread may hold a lock of the sanitizer's, for ever in the child (as in
        # the allocator of clang 14's address sanitizer). The harness without sanitizers forks.
        environment = {**os.environ, **ENVIRONMENT}
        command = [str(harness), str(ROUNDS), "0"]
        return subprocess.run(command, check=False, env=environment).returncode == 0


def main() -> int:
    """Run every combination of compiler, build and sanitizer; return 1 if one fails, else 0."""
    compilers = [compiler for compiler in COMPILERS if shutil.which(compiler)]
    if not compilers:
        print("no compiler: install gcc or clang to run the sanitizers.", file=sys.stderr)
        return 1
    failed = []
    for what in itertools.product(compilers, SETUP["BUILDS"], SANITIZERS):
        print("==", *what, flush=True)
        if not passes(*what):
            failed.append(what)
    for what in failed:
        print("FAILED:", *what)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
