"""``mnist_exp fit-device``: the files it writes, what it prints, and that they train."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mnist_exp.app.commands import fit_device
from mnist_exp.app.commands import run as run_word
from mnist_exp.app.composition import composed, own_hydra
from mnist_exp.app.hydra_callback import check_job
from mnist_exp.experiment.run import run_experiment
from mnist_exp.run.results import read_results
from mnist_exp.schema.device_parts import FITTED_CURVES
from tests.helpers.fault_injection import few_images

TINY = (
    "cv=none",
    "training.epochs=1",
    "training.batch_size=20",
    "plots.enabled=false",
    "report.enabled=false",
    "threads=1",
)
OPTION = Path("conf/constraint/my_device.yaml")
PICTURE = OPTION.with_suffix(".png")


@pytest.fixture
def readings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example, in the working directory."""
    monkeypatch.chdir(tmp_path)
    assert run_word("fit-device", "my_device.csv", "--example") == 0
    return Path("my_device.csv")


def files_below(directory: Path) -> list[str]:
    return sorted(str(path) for path in directory.rglob("*") if path.is_file())


def test_help_loads_no_heavy_module(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom mnist_exp.app.commands import run\n"
        "try:\n    run('fit-device', '--help')\nexcept SystemExit:\n    pass\n"
        "print({'torch', 'scipy', 'numpy', 'matplotlib', 'sklearn'} & set(sys.modules))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines()[-1] == "set()"
    assert "columns pulse" in ended.stdout


@pytest.mark.parametrize("curve", ["auto", *FITTED_CURVES])
def test_the_option_trains_as_the_printed_command_says(
    readings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], curve: str
) -> None:
    assert run_word("fit-device", str(readings), "--name", "my_device", "--curve", curve) == 0
    printed = capsys.readouterr().out
    assert printed.count("R^2 0.98") == (6 if curve == "auto" else 2)
    train = printed.splitlines()[-1].removeprefix("train:").strip()
    program, words = shlex.split(train)[:3], shlex.split(train)[3:]
    assert program == ["python", "-m", "mnist_exp"]
    assert words == ["--config-dir", "conf", "constraint=my_device", "model=mlp100"]
    with own_hydra():
        config = composed([*words[2:], *few_images(), *TINY], words[1])
    check_job(config)
    constraint = config.constraint
    assert constraint.gain * (constraint.W_max - constraint.W_min) == pytest.approx(2)
    assert constraint.mapping == "reference"
    run_experiment(config, tmp_path / "run")
    results = read_results(tmp_path / "run")
    assert results is not None
    assert results["status"] == "completed"
    assert results["accuracy"]["mean"] > 0.4


def test_the_option_says_where_it_comes_from(
    readings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_word("fit-device", str(readings), "--name", "my_device") == 0
    text = OPTION.read_text()
    assert text.startswith("# @package _global_\n# my_device, fitted by mnist_exp fit-device on 20")
    assert "to my_device.csv:\n# 8 cycles of 63 pulses up and 63 down, conductances from" in text
    assert "# exponential, up: R^2 0.98" in text
    assert all("  # " in line for line in text.partition("constraint:\n")[2].splitlines())
    found = OmegaConf.load(OPTION).constraint
    assert found.levels == 64
    assert found.nonlinearity_ltp == pytest.approx(2.4, abs=0.1)
    assert found.nonlinearity_ltd == pytest.approx(-3.2, abs=0.1)
    assert found.W_max / found.W_min == pytest.approx(10, rel=0.05)
    assert found.write_noise == pytest.approx(0.01, rel=0.1)
    assert PICTURE.read_bytes().startswith(b"\x89PNG")
    assert "exponential (taken): BIC +0.0" in capsys.readouterr().out


def test_existing_files_are_replaced_only_with_force(
    readings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("fit-device", str(readings), "--name", "my_device", "--curve", "exponential")
    OPTION.parent.mkdir(parents=True)
    for path in (OPTION, PICTURE):
        path.write_text("mine")
        assert run_word(*words) == 2
        assert f"{path}: exists already" in capsys.readouterr().err
        assert path.read_text() == "mine"
        assert files_below(Path("conf")) == [str(path)]
        path.unlink()
    OPTION.write_text("mine")
    assert run_word(*words, "--force", "--picture", "fit.png") == 0
    assert OPTION.read_text().startswith("# @package")
    assert files_below(Path()) == [str(OPTION), "fit.png", "my_device.csv"]
    assert run_word("fit-device", "my_device.csv", "--example") == 2


def test_in_a_checkout_the_option_joins_those_of_the_package(
    readings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``conf`` is the package's own directory there; only an option that was fitted is replaced."""
    monkeypatch.setattr(fit_device, "config_directory", lambda: Path("conf"))
    words = ("fit-device", str(readings), "--name", "my_device", "--curve", "exponential")
    assert run_word(*words) == 0
    assert run_word(*words) == 2
    assert run_word(*words, "--force") == 0
    OPTION.write_text("# shipped")
    assert run_word(*words, "--force") == 2
    assert OPTION.read_text() == "# shipped"


@pytest.mark.parametrize(
    ("row", "words", "message"),
    [
        ("1,up,7,nan", (), "error: my_device.csv: row 9: conductance is 'nan'"),
        (None, ("--name", "memristor"), "memristor: is an option of the package"),
        (None, ("--name", "../up"), "--name ../up: allowed are letters"),
        (None, ("--name", "null"), "--name null: allowed are letters"),
        (None, ("--config-dir", "my_device.csv"), "my_device.csv/constraint/my_device.png: cannot"),
        ("", (), "row 9: direction is ''"),
    ],
)
def test_a_mistake_is_one_message_and_leaves_nothing(
    readings: Path,
    capsys: pytest.CaptureFixture[str],
    row: str | None,
    words: tuple[str, ...],
    message: str,
) -> None:
    lines = readings.read_text().splitlines()
    if row is not None:
        lines[8] = row or ",,,"
    readings.write_text("\n".join(lines))
    exponential = ("--curve", "exponential")
    assert run_word("fit-device", str(readings), "--name", "my_device", *exponential, *words) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert files_below(Path()) == ["my_device.csv"]
