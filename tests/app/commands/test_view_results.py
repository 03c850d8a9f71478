"""The list of runs: filtered, sorted, exported, robust to damage, and free of heavy imports."""

from __future__ import annotations

import csv
import io
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from mnist_exp.app.commands.view_results import latest, main
from mnist_exp.errors import UserError
from mnist_exp.run.find_runs import find_runs
from mnist_exp.run.results import write_results
from mnist_exp.run.run_columns import ordered
from mnist_exp.run.saved_config import hash_config
from mnist_exp.run.sweep_record import AskedJob, JobRecord, SweepRecord, write_sweep
from mnist_exp.run.sweep_record import write_job as record_job

CONSTRAINTS = {"memristor": "mnist_exp.device.DeviceConstraint", "none": None}


def settings(
    constraint: str = "none", lr: float = 0.1, seed: int = 0, **changes: Any
) -> dict[str, Any]:
    """Return a configuration in the form in which runs save theirs."""
    return {
        "seed": seed,
        "training": {"epochs": 2},
        "model": {"name": "mlp100", "_target_": "mnist_exp.models.MLP", "hidden_sizes": [100]},
        "data": {"_target_": "mnist_exp.data.load_mnist", "subset": None},
        "optimizer": {"_target_": "torch.optim.SGD", "lr": lr},
        "constraint": {"_target_": CONSTRAINTS[constraint]},
        **changes,
    }


def overrides_of(config: Mapping[str, Any], constraint: str) -> list[str]:
    rate, seed = config["optimizer"]["lr"], config["seed"]
    return [f"constraint={constraint}", f"optimizer.lr={rate}", f"seed={seed}"]


def write_run(
    directory: Path, accuracy: float | None = None, constraint: str = "none", **values: Any
) -> dict[str, Any]:
    """Write what a run leaves; one without an accuracy has failed. Return its configuration."""
    config = settings(constraint, **values)
    results: dict[str, Any] = {"status": "failed", "error": "no", "model": "mlp100"}
    if accuracy is not None:
        numbers = {"mean": accuracy, "std": None, "n": 1}
        results = {"status": "completed", "model": "mlp100", "accuracy": numbers}
        results |= {"wall_seconds": 2.0 + config["seed"]}
    write_results(directory, results | {"config_hash": hash_config(config)})
    hydra = directory / ".hydra"
    hydra.mkdir()
    OmegaConf.save(OmegaConf.create(config), directory / "config.yaml")
    OmegaConf.save(OmegaConf.create(overrides_of(config, constraint)), hydra / "overrides.yaml")
    chosen = {"constraint": constraint, "model": "mlp100", "data": "mnist", "optimizer": "_recipe"}
    choices = {"hydra": {"runtime": {"choices": {**chosen, "hydra/launcher": "basic"}}}}
    OmegaConf.save(OmegaConf.create(choices), hydra / "hydra.yaml")
    return config


def write_seeds(sweep_dir: Path, accuracies: Sequence[float | None], **values: Any) -> None:
    """Write a sweep with a job per seed, the first seed failed, and one more that never ran."""
    jobs = []
    first = values.pop("first_seed", 0)
    constraint = values.get("constraint", "none")
    for number in range(len(accuracies) + 1):
        name, seed = str(number), first + number
        if number < len(accuracies):
            config = write_run(sweep_dir / name, accuracies[number], seed=seed, **values)
            overrides = overrides_of(config, constraint)
            status = "failed" if accuracies[number] is None else "completed"
            record_job(sweep_dir, JobRecord(number, overrides, name, hash_config(config), status))
        else:
            config = settings(seed=seed, **values)
            overrides = overrides_of(config, constraint)
        jobs.append(AskedJob(number, overrides, name, config))
    write_sweep(sweep_dir, SweepRecord(["seed=..."], [], {}, jobs=jobs, version=1))


def listed(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, str]]:
    """Return the rows of the CSV that the command prints."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--format", "csv"]) == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def names(rows: Sequence[Mapping[str, str]]) -> list[str]:
    return [Path(row["directory"]).name for row in rows]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs: two with memristors, one without."""
    root = tmp_path_factory.mktemp("runs")
    write_run(root / "plain", 0.97, lr=0.2, seed=1)
    write_run(root / "slow", 0.5, constraint="memristor", lr=1e-05)
    write_run(root / "fast", 0.75, constraint="memristor", lr=0.03)
    for number, name in enumerate(("plain", "slow", "fast")):
        stamp = 1_700_049_600 + 86_400 * number
        os.utime(root / name / "results.json", (stamp, stamp))  # noon of the 15th and on, UTC
    return root


def test_the_table_sorts_and_survives_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, accuracy in {"old": 0.9, "best": 0.99, "new": 0.5}.items():
        numbers = {"mean": accuracy, "std": None, "n": 1}
        results = {"status": "completed", "model": "m", "accuracy": numbers}
        write_results(tmp_path / "day" / name, results)
        stamp = 1000 + len(name) if name == "old" else 2000 + len(name)
        os.utime(tmp_path / "day" / name / "results.json", (stamp, stamp))
    (tmp_path / "multirun" / "0").mkdir(parents=True)
    (tmp_path / "multirun" / "0" / "results.json").write_text("{")
    entries = list(find_runs(tmp_path))
    by_accuracy = ordered(entries, lambda run: run.accuracy, highest_first=True)
    assert [e.directory.name for e in by_accuracy] == ["best", "old", "new", "0"]
    assert [e.directory.name for e in latest(entries)] == ["0", "best", "new", "old"]
    assert main([str(tmp_path), "--sort", "accuracy", "--limit", "1"]) == 0
    shown = capsys.readouterr().out
    assert "99.00%" in shown
    assert "90.00%" not in shown
    assert "multirun/0: damaged (" in shown


def test_settings_that_differ_have_columns_and_others_have_none(
    three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = listed(capsys, three, "--sort", "date", "--reverse")
    columns = ("constraint", "optimizer.lr", "seed")
    assert [[row[name] for name in columns] for row in rows] == [
        ["none", "0.2", "1"], ["memristor", "1e-05", "0"], ["memristor", "0.03", "0"],
    ]  # fmt: skip
    assert not {"data", "training.epochs", "optimizer"} & rows[0].keys()
    main([str(three), "--where", "constraint=memristor", "--sort", "accuracy"])
    head, *lines = capsys.readouterr().out.splitlines()[1:4]
    assert head.split()[:3] == ["accuracy", "model", "optimizer.lr"]
    assert [line.split()[:3] for line in lines] == [
        ["75.00%", "mlp100", "0.03"], ["50.00%", "mlp100", "1e-05"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("constraint=memristor", {"slow", "fast"}),
        ("constraint = Memristor", {"slow", "fast"}),
        ("constraint!=memristor", {"plain"}),
        ("constraint=none", {"plain"}),
        ("optimizer.lr=0.00001", {"slow"}),
        ("optimizer.lr<3e-2", {"slow"}),
        ("optimizer.lr<=3e-2", {"slow", "fast"}),
        ("optimizer=sgd", {"plain", "slow", "fast"}),  # a recipe: the class counts
        ("model.hidden_sizes=[100]", {"plain", "slow", "fast"}),
        ("data.subset=null", {"plain", "slow", "fast"}),
        ("data.subset>0", set()),
        ("data.subset!=null", set()),
        ("momentum!=0.9", None),
        ("optimizer.momentum!=0.9", {"plain", "slow", "fast"}),  # of another optimizer
        ("optimizer.momentum=0.9", set()),
        ("accuracy>=75%", {"plain", "fast"}),
        ("accuracy>0.75", {"plain"}),
        ("seconds>2.5", {"plain"}),
        ("status=completed", {"plain", "slow", "fast"}),
        ("date>=2023-11-17", {"fast"}),
        ("date<2023-11-17", {"plain", "slow"}),
        ("date=2023-11", {"plain", "slow", "fast"}),
    ],
)
def test_a_condition_chooses_runs(
    three: Path,
    capsys: pytest.CaptureFixture[str],
    condition: str,
    found: set[str] | None,
) -> None:
    if found is None:
        with pytest.raises(UserError, match=r"Did you mean optimizer\.momentum\?"):
            main([str(three), "--where", condition])
    else:
        assert {*names(listed(capsys, three, "--where", condition))} == found


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--where", "constrint=none"], r"constrint: .* Did you mean constraint\? Allowed are "),
        (["--where", "lr=1"], r"Did you mean optimizer\.lr\?"),
        (["--where", "constraint~none"], "one of = != < <= > >=, and a value"),
        (["--where", "seed=>1"], "one of = != < <= > >=, and a value"),
        (["--where", "seed"], "one of = != < <= > >=, and a value"),
        (["--where", "seed<many"], "< compares with a number, and 'many' is not one"),
        (["--where", "accuracy>98"], "accuracy is a share; write 98%"),
        (["--where", "date>yesterday"], "such as 2026-11-26"),
        (["--sort", "acuracy"], r"Did you mean accuracy\?"),
    ],
)
def test_a_wrong_condition_or_column_says_what_is_allowed(
    three: Path, arguments: list[str], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        main([str(three), *arguments])


@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        (["accuracy"], ["plain", "fast", "slow"]),
        (["accuracy", "--reverse"], ["slow", "fast", "plain"]),
        (["optimizer.lr"], ["slow", "fast", "plain"]),
        (["constraint", "--reverse"], ["plain", "fast", "slow"]),  # of equal ones, the latest first
        (["data.subset"], ["fast", "slow", "plain"]),
    ],
)
def test_any_column_sorts(
    three: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], order: list[str]
) -> None:
    assert names(listed(capsys, three, "--sort", *arguments)) == order


def test_runs_without_a_value_come_last_either_way_and_text_counts_as_people_do() -> None:
    values = ["job 10", None, 3.0, "job 9", 20]
    assert ordered(values, lambda value: value) == [3.0, 20, "job 9", "job 10", None]
    assert ordered(values, lambda value: value, highest_first=True)[-1] is None


def test_jobs_that_failed_or_never_ran_have_rows_with_their_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_seeds(tmp_path / "s", [0.9, None], constraint="memristor")
    rows = listed(capsys, tmp_path, "--where", "constraint=memristor")
    assert [(row["seed"], row["status"], row["test_accuracy"]) for row in rows] == [
        ("0", "completed", "0.9"), ("1", "failed", ""), ("2", "not run", ""),
    ]  # fmt: skip
    assert names(rows) == ["0", "1", "2"]
    assert rows[1]["error"] == "no"
    main([str(tmp_path)])
    shown = capsys.readouterr().out
    assert f"{tmp_path / 's'}: 1 failed, 1 not run" in shown
    assert shown.rstrip().endswith(f"sweep.resume={tmp_path / 's'}")


def test_a_damaged_sweep_is_a_row_and_its_runs_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_seeds(tmp_path / "s", [0.9])
    (tmp_path / "s" / "sweep.json").write_text("{")
    rows = listed(capsys, tmp_path)
    assert [row["status"] for row in rows] == ["damaged", "completed"]
    assert "sweep.json" in rows[0]["error"]


def test_two_sweeps_are_one_table_in_which_no_job_counts_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_seeds(tmp_path / "a", [0.9, None])  # seeds 0, 1; seed 2 never ran
    write_seeds(tmp_path / "b", [0.8, 0.7], first_seed=1)  # seeds 1, 2; seed 3 never ran
    both = (tmp_path / "a", tmp_path / "b")
    rows = listed(capsys, *both)
    assert [(Path(row["sweep"]).name, row["seed"], row["status"]) for row in rows] == [
        ("a", "0", "completed"), ("b", "1", "completed"), ("b", "2", "completed"),
        ("b", "3", "not run"),
    ]  # fmt: skip
    assert main([*map(str, both), "--format", "csv"]) == 0
    told = capsys.readouterr().err
    assert f"{tmp_path / 'a' / '1'}: failed, with the settings and seed of another run" in told
    assert len(listed(capsys, tmp_path)) == 6  # of one directory, every run is listed
    assert len(listed(capsys, tmp_path / "a", tmp_path / "a")) == 3


def test_over_seeds_has_mean_sample_std_n_and_the_seeds_that_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_seeds(tmp_path / "a", [0.9, None], constraint="memristor")
    write_seeds(tmp_path / "b", [0.8, 0.5], first_seed=5, constraint="memristor")
    write_seeds(tmp_path / "c", [0.99], lr=0.3)
    roots = (tmp_path / "a", tmp_path / "b", tmp_path / "c")
    one, other = listed(capsys, *roots, "--over-seeds", "--sort", "accuracy")
    assert other.items() >= {
        "n_seeds": "3", "constraint": "memristor", "optimizer.lr": "0.1", "model": "mlp100",
        "missing_seeds": "1 (failed), 2 (not run), 7 (not run)",
    }.items()  # fmt: skip
    values = [0.9, 0.8, 0.5]
    mean, std = (float(other[f"{name}_test_accuracy_over_seeds"]) for name in ("mean", "std"))
    assert mean == pytest.approx(statistics.mean(values))
    assert std == pytest.approx(statistics.stdev(values))
    assert one["n_seeds"] == "1"
    assert one["std_test_accuracy_over_seeds"] == ""
    main([*map(str, roots), "--over-seeds"])
    assert "73.33% +- 20.82%" in capsys.readouterr().out


def test_a_setting_that_follows_the_seed_does_not_tell_groups_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        write_run(tmp_path / str(seed), 0.5, seed=seed, cv={"random_state": seed})
    write_run(tmp_path / "2", 0.5, seed=2, cv={"random_state": 2, "n_jobs": 4})
    (row,) = listed(capsys, tmp_path, "--over-seeds")
    assert row["n_seeds"] == "3"


def test_exported_tables_have_every_row_and_say_what_the_numbers_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        write_run(tmp_path / str(number), number / 100, seed=number)
    folds = {"mean": 0.5, "std": 0.01, "n": 2}
    write_results(
        tmp_path / "a|b_c", {"status": "completed", "accuracy": folds, "model": "50% & \\x"}
    )
    assert main([str(tmp_path), "--format", "markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 13
    assert lines[0].startswith("| test accuracy (%), mean ± sample std over folds | model |")
    (row,) = [line for line in lines if "a\\|b_c" in line]
    assert row.startswith(r"| 50.00 ± 1.00 | 50% & \\x |")
    assert main([str(tmp_path), "--format", "latex", "--where", "folds=2"]) == 0
    shown = capsys.readouterr().out
    assert r"50.00 $\pm$ 1.00 & 50\% \& \textbackslash{}x &" in shown
    assert r"a\textbar{}b\_c \\" in shown
    assert r"test accuracy (\%), mean $\pm$ sample std over folds &" in shown


def test_settings_that_cannot_be_read_are_named_and_the_run_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "a", 0.5)
    write_run(tmp_path / "b", 0.6)
    (tmp_path / "b" / "config.yaml").write_text("a: &x [1]\nb: *x\n")
    assert main([str(tmp_path), "--sort", "accuracy"]) == 0
    shown = capsys.readouterr().out
    assert "60.00%" in shown
    assert f"settings unknown\n{tmp_path / 'b' / 'config.yaml'}: has an alias" in shown


def test_no_run_is_said_where_tables_are_not_piped_to(
    three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(three), "--where", "seed=9", "--format", "latex"]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"no run in {three} with seed=9\n"


def test_the_table_needs_no_heavy_package(three: Path) -> None:
    code = (
        "import sys; from mnist_exp.app.commands.view_results import main; "
        "main([sys.argv[1], '--over-seeds', '--where', 'constraint=none']); "
        "print({'torch', 'matplotlib', 'numpy', 'sklearn'} & {*sys.modules})"
    )
    root = Path(__file__).parents[3]
    shown = subprocess.run(
        [sys.executable, "-c", code, three], cwd=root, capture_output=True, text=True, check=True
    )
    assert shown.stdout.endswith("\nset()\n")
