"""``python -m tests.torture``: inject hundreds of faults, finish each run and compare its outcome.

Every fault hits a real training on real images in its own process. A result is lost if the run
cannot be finished, or if its weights, metrics or files differ from those of an undisturbed run.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mnist_exp import gradients
from mnist_exp.app.commands.view_results import find_runs
from mnist_exp.errors import UserError
from mnist_exp.run.results import read_results
from tests.helpers.fault_injection import (
    SMALL,
    command,
    exit_code,
    few_images,
    flip_bit,
    kill_at_file_event,
    largest_file,
    outcome,
    start_command,
)

BASE = ("data.subset=300", *SMALL, "training.epochs=4")
RUNS = {
    "mlp100 k-fold, memristor": ("model=mlp100", "cv.n_splits=3", "constraint=memristor", *BASE),
    "mlp100 k-fold, published": ("model=mlp100", "cv.n_splits=3", "constraint=published", *BASE),
    "mlp100 k-fold, side by side": ("model=mlp100", "cv.n_splits=3", "cv.n_jobs=2", *BASE),
    "mlp100 k-fold, accumulator, device variation": (
        *("model=mlp100", "cv.n_splits=3", "constraint=memristor"),
        *("constraint.rounding=accumulate", "constraint.rate_variation=0.1"),
        *("constraint.bound_variation=0.05", *BASE),
    ),
    "cnn21k": ("model=cnn21k", *BASE),
    "cnn21k, averaged, augmented": (
        *("model=cnn21k", "training.averaging=0.9", "augmentation=light", *BASE),
    ),
}
COLLECTING = ("model=mlp100", "cv=none", "gradients=epoch", *BASE, "training.epochs=2")
MOST_ATTEMPTS = 200  # per run, in case every kill comes before any progress


class Torture:
    """Injects faults into runs below one directory; counts faults, recoveries and losses."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.random = random.Random(seed)
        self.faults: Counter[str] = Counter()
        self.recovered: Counter[str] = Counter()
        self.lost: list[str] = []
        self.number = 0

    def undisturbed(self, overrides: tuple[str, ...]) -> tuple[dict[str, Any], float]:
        """Return the outcome of a run without faults, and its duration in seconds."""
        started = time.monotonic()
        directory = self.new_directory()
        code, output = self.run(overrides, directory)
        assert code == 0, output
        return outcome(directory), time.monotonic() - started

    def new_directory(self) -> Path:
        """Return the path of a run directory not used before, without creating it."""
        self.number += 1
        return self.directory / f"run{self.number}"

    def run(
        self,
        overrides: tuple[str, ...],
        directory: Path,
        prepare: Callable[[], object] = lambda: None,
    ) -> tuple[int, str]:
        """Start a run, or resume it if it has begun."""
        arguments = self.arguments(overrides, directory)
        return command(*arguments, cwd=self.directory, prepare=prepare)

    def arguments(self, overrides: tuple[str, ...], directory: Path) -> tuple[str, ...]:
        """Return the command line that starts a run or resumes it."""
        if (directory / "results.json").exists() or (directory / "checkpoints").exists():
            return (f"resume={directory}",)
        shutil.rmtree(directory, ignore_errors=True)  # killed before it began
        return (*few_images(), *overrides, f"hydra.run.dir={directory}")

    def finish_and_compare(
        self,
        kind: str,
        overrides: tuple[str, ...],
        directory: Path,
        expected: dict[str, Any],
        more: tuple[str, ...] = (),
    ) -> None:
        """Finish a run, with the overrides ``more``, and compare its outcome with ``expected``."""
        arguments = (*self.arguments(overrides, directory), *more)
        code, output = command(*arguments, cwd=self.directory)
        if code != 0:
            self.lost.append(f"{kind}: {directory} cannot be resumed: {output}")
            return
        try:
            same = outcome(directory) == expected
        except UserError as error:
            self.lost.append(f"{kind}: {directory}: {error}")
            return
        if same:
            self.recovered[kind] += 1
            shutil.rmtree(directory)
        else:
            self.lost.append(f"{kind}: {directory} differs")

    def kill_at_random(self, kills: int) -> None:
        """SIGKILL runs at random moments, several times each."""
        for name, overrides in RUNS.items():
            kind = f"SIGKILL at a random moment, {name}"
            expected, seconds = self.undisturbed(overrides)
            while self.faults[kind] < kills:
                directory = self.new_directory()
                for _ in range(MOST_ATTEMPTS):
                    arguments = self.arguments(overrides, directory)
                    process = start_command(*arguments, cwd=self.directory)
                    time.sleep(self.random.uniform(0, seconds))
                    os.kill(process, signal.SIGKILL)
                    if exit_code(process) != -signal.SIGKILL:
                        break  # it ended before the kill
                    self.faults[kind] += 1
                    if self.random.random() < 0.25:
                        break
                self.finish_and_compare(kind, overrides, directory, expected)

    def kill_at_every_file_event(self) -> None:
        """SIGKILL a run before each file that it opens, renames or deletes."""
        kind = "SIGKILL at each open, rename and delete of a run with gradients"
        expected, _ = self.undisturbed(COLLECTING)
        for event in range(10_000):
            directory = self.new_directory()
            prepare = kill_at_file_event(event, directory)
            code, _ = self.run(COLLECTING, directory, prepare)
            if code == 0:
                return  # past the last event
            self.faults[kind] += 1
            self.finish_and_compare(kind, COLLECTING, directory, expected)
            if self.lost:
                return

    def stop_writes(self, kill: bool) -> None:
        """Break off a write in the middle of a file: by a kill, or as a full disk would."""
        kind = "killed in the middle of a write" if kill else "full disk (file size limit)"
        expected, _ = self.undisturbed(COLLECTING)
        for exponent in range(34):
            size = int(64 * 1.4**exponent)  # bytes, up to the largest file (gradients)
            directory = self.new_directory()
            log = os.open(os.devnull, os.O_WRONLY)
            silent = _silenced(largest_file(size, kill), log)
            code, _ = self.run(COLLECTING, directory, silent)
            os.close(log)
            if code == 0:
                break
            self.faults[kind] += 1
            self.finish_and_compare(kind, COLLECTING, directory, expected)

    def damage(self) -> None:
        """Truncate and flip bits in every file of a stopped run and of a finished one."""
        longer = ("training.epochs=3",)
        expected = {
            "stopped": (*self.undisturbed(COLLECTING), ()),
            "finished": (*self.undisturbed((*COLLECTING, *longer)), longer),
        }
        originals = {"stopped": self.new_directory(), "finished": self.new_directory()}
        arguments = self.arguments(COLLECTING, originals["stopped"])
        process = start_command(*arguments, cwd=self.directory)
        while not (originals["stopped"] / "checkpoints" / "epoch_00001.pt").exists():
            time.sleep(0.001)
        os.kill(process, signal.SIGTERM)
        exit_code(process)
        self.run(COLLECTING, originals["finished"])
        for state, original in originals.items():
            outcome_then, _, more = expected[state]
            files = [p.relative_to(original) for p in original.rglob("*") if _is_checked(p)]
            for file, region in itertools.product(sorted(files), range(9)):
                directory = self.new_directory()
                shutil.copytree(original, directory)
                self.damage_one(directory / file, region)
                damage = "cut off" if region == 8 else "bit flipped"
                kind = f"{damage}: {file.suffix} of a {state} run"
                self.faults[kind] += 1
                if "gradients" in file.parts:
                    self.expect_refused(kind, directory / file)
                else:
                    self.finish_and_compare(kind, COLLECTING, directory, outcome_then, more)

    def damage_one(self, path: Path, region: int) -> None:
        """Flip a random bit in eighth 0-7 of a file, or truncate the file (region 8)."""
        size = path.stat().st_size
        if region == 8:
            path.write_bytes(path.read_bytes()[: self.random.randrange(size)])
        else:
            position = self.random.randrange(size * region // 8, max(1, size * (region + 1) // 8))
            flip_bit(path, position, self.random.randrange(8))

    def expect_refused(self, kind: str, path: Path) -> None:
        """Expect an error from reading damaged gradients; runs do not resume from them."""
        try:
            gradients.open(path.parent).verify()
        except UserError:
            self.recovered[kind] += 1
        else:
            self.lost.append(f"{kind}: {path} is read without an error")
        shutil.rmtree(path.parents[2])

    def fill_disk(self) -> None:
        """Fill disks of several sizes, then enlarge each and resume its run."""
        kind = "full disk (tmpfs)"
        overrides = RUNS["mlp100 k-fold, memristor"]
        expected, _ = self.undisturbed(overrides)
        for kilobytes in (100, 300, 700, 1500, 3000, 4500, 6000, 8000, 12_000, 16_000):
            with _tmpfs(self.directory / "disk", kilobytes) as disk:
                if disk is None:
                    print("skipped: cannot mount a tmpfs here")
                    return
                code, output = self.run(overrides, disk / "run")
                if code == 0:
                    continue
                self.faults[kind] += 1
                results = read_results(disk / "run")
                told = results is None or "the disk is full" in results["error"]
                if "Traceback" in output or not told:
                    self.lost.append(f"{kind}, {kilobytes} kB: {output}")
                options = ["-o", "remount,size=1g"]
                subprocess.run(["mount", *options, str(disk)], check=True)
                self.finish_and_compare(kind, overrides, disk / "run", expected)

    def start_together(self, count: int = 20) -> None:
        """Start many runs at once: in one working directory, then with one run directory."""
        overrides = (*few_images(), *RUNS["cnn21k"], "training.epochs=1")
        kind = f"{count} runs started at once"
        apart = self.new_directory()
        apart.mkdir()
        together = [start_command(*overrides, cwd=apart) for _ in range(count)]
        codes = [exit_code(process) for process in together]
        runs = [outcome(run.directory) for run in find_runs(apart)]
        self.faults[kind] += count
        if codes == [0] * count and len(runs) == count and all(run == runs[0] for run in runs):
            self.recovered[kind] += count
        else:
            self.lost.append(f"{kind}: {codes}")
        kind = f"{count} starts in one directory"
        same = [
            start_command(*overrides, f"hydra.run.dir={apart / 'one'}", cwd=apart)
            for _ in range(count)
        ]
        codes = [exit_code(process) for process in same]
        self.faults[kind] += count
        if sorted(codes) == [0] + [2] * (count - 1) and outcome(apart / "one") == runs[0]:
            self.recovered[kind] += count
        else:
            self.lost.append(f"{kind}: {codes}")

    def report(self) -> int:
        """Print the counts; return exit code 1 if a result was lost."""
        for kind, count in self.faults.items():
            print(f"{count:5} faults, {self.recovered[kind]:5} runs recovered  {kind}")
        print(
            f"{sum(self.faults.values())} faults injected, {sum(self.recovered.values())} runs "
            f"recovered, {len(self.lost)} results lost"
        )
        for line in self.lost:
            print(f"LOST {line}")
        if self.lost:
            return 1
        shutil.rmtree(self.directory)
        return 0


def _silenced(prepare: Callable[[], object], log: int) -> Callable[[], None]:
    def silently() -> None:
        os.dup2(log, 1)  # the file size limit would apply to the log too
        os.dup2(log, 2)
        prepare()

    return silently


def _is_checked(path: Path) -> bool:
    if "gradients" in path.parts:
        return path.suffix in (".npy", ".json")
    return path.suffix in (".pt", ".json", ".jsonl") and ".hydra" not in path.parts


@contextlib.contextmanager
def _tmpfs(directory: Path, kilobytes: int) -> Iterator[Path | None]:
    directory.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(directory)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode != 0:
        yield None
        return
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


PARTS = ("kills", "files", "writes", "full", "disk", "damage", "starts")


def main(arguments: list[str]) -> int:
    """Run the selected parts and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, prog="make torture")
    parser.add_argument("parts", nargs="*", default=PARTS, help=f"from {', '.join(PARTS)}")
    parser.add_argument("--kills", type=int, default=30, help="random kills per kind of run")
    parser.add_argument("--seed", type=int, default=0, help="seed of random moments and places")
    options = parser.parse_args(arguments)
    torture = Torture(Path(tempfile.mkdtemp(prefix="torture-")), options.seed)
    parts: dict[str, Callable[[], None]] = {
        "kills": lambda: torture.kill_at_random(options.kills),
        "files": torture.kill_at_every_file_event,
        "writes": lambda: torture.stop_writes(kill=True),
        "full": lambda: torture.stop_writes(kill=False),
        "disk": torture.fill_disk,
        "damage": torture.damage,
        "starts": torture.start_together,
    }
    for name in options.parts:
        started = time.monotonic()
        parts[name]()
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    return torture.report()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
