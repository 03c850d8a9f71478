"""A user's effects from the configuration: built, refused by name, resumed, and trusted or not."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from mnist_exp import schema
from mnist_exp.errors import UserError
from mnist_exp.experiment.constraint import build_constraint
from mnist_exp.run.results import read_results
from mnist_exp.run.saved_config import (
    bring_up_to_date,
    has_hash,
    hash_config,
    load_config,
    training_config,
)
from tests.conftest import Compose
from tests.helpers.fault_injection import SMALL, command, few_images, outcome

EFFECTS = '''
import torch
from mnist_exp.device import Effect

class TemperatureDrift(Effect):
    def __init__(self, rate: float, heat: "Heat | None" = None) -> None:
        self.rate, self.heat = rate, heat

    def __call__(self, w, before):
        w *= 1 + self.rate

class Heat:
    def __init__(self, degrees: float) -> None:
        self.degrees = degrees

class Wander(Effect):
    """Remembers its steps, draws random numbers, and can kill its run."""

    def __init__(self, die_at: int = -1) -> None:
        self.steps = 0
        self.die_at = die_at

    def __call__(self, w, before):
        import os, signal
        self.steps += 1
        if self.steps == self.die_at and os.environ.get("DIE"):
            os.kill(os.getpid(), getattr(signal, os.environ["DIE"]))
        w += 1e-4 * self.steps * torch.randn(w.shape, generator=self.generator)

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, saved):
        self.steps = saved["steps"]

class Broken(Effect):
    """Raises after some good calls; the trial of the first step makes two at most."""

    calls = 0

    def __init__(self, good=2):
        self.good = good

    def __call__(self, w, before):
        self.calls += 1
        if self.calls > self.good:
            raise ZeroDivisionError("cold")

class Frozen:
    __slots__ = ()

    def __call__(self, w, before):
        pass

def noise(w, before, sigma):
    w += sigma

def refuses():
    raise ValueError("no room")

nothing = None
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with the effects, importable in this test."""
    name = f"effects_of_{tmp_path.name}".replace("-", "_").replace(".", "_")
    (tmp_path / f"{name}.py").write_text(EFFECTS)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def built(compose_config: Compose, effects: str, option: str = "clip") -> Any:
    config = compose_config(f"constraint={option}", f"constraint.effects={effects}")
    schema.check(config)
    return build_constraint(config)


def test_effects_are_built_in_order_with_the_place_of_the_entry(
    compose_config: Compose, mine: str
) -> None:
    text = (
        f"[{{_target_: {mine}.TemperatureDrift, rate: 1e-4, heat: {{_target_: {mine}.Heat, "
        f"degrees: 30}}}}, {{_target_: {mine}.Wander, place: after_rounding}}, "
        f"{{_target_: {mine}.noise, _partial_: true, sigma: 0.5, place: before_update}}]"
    )
    constraint = built(compose_config, text)
    drift, wander, noise = constraint.effects
    assert (drift.rate, drift.heat.degrees, drift.place) == (1e-4, 30, "after_retention")
    assert wander.place == "after_rounding"
    assert (noise.place, noise.keywords) == ("before_update", {"sigma": 0.5})
    other = built(compose_config, text)
    assert other.effects[1] is not wander
    assert wander.__class__.place == "after_retention"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("3", "constraint.effects[0]: a _target_ is required, as in"),
        ("{rate: 3}", "constraint.effects[0]: a _target_ is required, as in"),
        ("{_target_: null}", "constraint.effects[0]: a _target_ is required, as in"),
        ("{_target_: MINE.Wander, place: late}", "constraint.effects[0].place=late: allowed is be"),
        (
            "{_target_: MINE.Drift}",
            "constraint.effects[0]._target_=MINE.Drift: is not a usable target",
        ),
        (
            "{_target_: MINE.TemperatureDrift, rates: 3}",
            "constraint.effects[0]: MINE.TemperatureDrift: missing a required argument: 'rate'. "
            "Its settings are: rate, heat.",
        ),
        (
            "{_target_: MINE.Wander, rate: 3}",
            "constraint.effects[0]: MINE.Wander: got an unexpected keyword argument 'rate'. "
            "Its settings are: die_at.",
        ),
        ("{_target_: MINE.Wander, die_at: 0.5}", "constraint.effects[0].die_at=0.5: allowed is a "),
        (
            "{_target_: MINE.TemperatureDrift, rate: 1, heat: {_target_: MINE.Heat, degree: 3}}",
            "constraint.effects[0].heat: MINE.Heat: missing a required argument: 'degrees'",
        ),
        ("{_target_: MINE.Heat, degrees: 3}", "constraint.effects[0]: MINE.Heat is not an effect"),
        (
            "{_target_: MINE.refuses}",
            "constraint.effects[0]: MINE.refuses refuses its settings: no",
        ),
        (
            "{_target_: MINE.refuses, _convert_: all}",
            "constraint.effects[0]: MINE.refuses cannot be called: no room",
        ),
        (
            "{_target_: MINE.Frozen, place: after_update}",
            "constraint.effects[0].place=after_update",
        ),
    ],
)
def test_a_wrong_effect_is_refused_by_its_index(
    compose_config: Compose, mine: str, entry: str, words: str
) -> None:
    with pytest.raises(UserError) as refused:
        built(compose_config, f"[{entry.replace('MINE', mine)}]")
    assert words.replace("MINE", mine) in str(refused.value)


def test_all_wrong_entries_are_listed(compose_config: Compose) -> None:
    with pytest.raises(UserError) as refused:
        built(compose_config, "[{place: late}, {_target_: a.b, place: late}, 4]")
    lines = str(refused.value).splitlines()
    assert [line.partition("]")[0] for line in lines] == [
        f"constraint.effects[{number}" for number in range(3)
    ]


def test_without_devices_there_is_nothing_to_act_on(compose_config: Compose, mine: str) -> None:
    config = compose_config(f"+constraint.effects=[{{_target_: {mine}.Wander}}]")
    with pytest.raises(UserError, match=r"constraint\.effects: constraint=none has no devices"):
        schema.check(config)
    assert build_constraint(compose_config()) is None


def test_a_constraint_of_the_users_needs_no_effects(compose_config: Compose) -> None:
    config = compose_config()
    config.constraint = {"_target_": "builtins.dict", "effects": []}
    made: Any = build_constraint(config)
    assert made == {}


def test_no_effects_are_as_in_a_configuration_of_an_older_version(compose_config: Compose) -> None:
    config = compose_config("constraint=memristor")
    older = config.copy()
    OmegaConf.set_struct(older, False)
    del older.constraint.effects
    hash_then = hash_config(training_config(older))
    assert hash_config(training_config(config)) == hash_then
    assert has_hash(training_config(config), hash_then)
    bring_up_to_date(older)
    assert older.constraint.effects == []
    with_effects = compose_config("constraint=clip", "constraint.effects=[{_target_: a.b}]")
    without = compose_config("constraint=clip")
    assert hash_config(training_config(with_effects)) != hash_config(training_config(without))


RUN = ("model=mlp100", "constraint=memristor", "cv=none", "data.subset=100", *SMALL)


def importing(directory: Path, **environment: str) -> Callable[[], None]:
    def prepare() -> None:
        sys.path.insert(0, str(directory))
        os.environ.update(environment)

    return prepare


@pytest.mark.slow
@pytest.mark.parametrize(("by", "code"), [("SIGTERM", 143), ("SIGKILL", -signal.SIGKILL)])
def test_a_run_with_effects_goes_on_bit_by_bit(
    tmp_path: Path, mine: str, by: str, code: int
) -> None:
    """Stopped within its second epoch; resumed only with trust, or with an option of the user's."""
    effects = f"constraint.effects=[{{_target_: {mine}.Wander, die_at: 7}}]"
    whole = (*few_images(), *RUN, effects, "hydra.run.dir=whole")
    assert command(*whole, cwd=tmp_path, prepare=importing(tmp_path))[0] == 0
    stopped = (*few_images(), *RUN, effects, "hydra.run.dir=stopped")
    ended, output = command(*stopped, cwd=tmp_path, prepare=importing(tmp_path, DIE=by))
    assert ended == code, output
    ended, output = command("resume=stopped", cwd=tmp_path, prepare=importing(tmp_path))
    assert ended == 2, output
    assert f"constraint.effects[0]._target_={mine}.Wander" in output
    own = "trust=true"
    if by == "SIGKILL":
        (tmp_path / "conf/constraint").mkdir(parents=True)
        (tmp_path / "conf/constraint/mine.yaml").write_text(
            "# @package _global_\ndefaults: [/constraint/_device]\n"
            f"constraint:\n  effects: [{{_target_: {mine}.Wander}}]\n"
        )
        own = "--config-dir=conf"
    ended, output = command("resume=stopped", own, cwd=tmp_path, prepare=importing(tmp_path))
    assert ended == 0, output
    ours, theirs = outcome(tmp_path / "stopped"), outcome(tmp_path / "whole")
    assert ours["metrics"] == theirs["metrics"]
    of_both = [found["results"]["folds"][0]["weights_sha256"] for found in (ours, theirs)]
    assert of_both[0] == of_both[1]


@pytest.mark.slow
def test_an_error_in_an_effect_ends_the_run_with_its_name_and_traceback(
    tmp_path: Path, mine: str
) -> None:
    effects = f"constraint.effects=[{{_target_: {mine}.Broken}}]"
    arguments = (*few_images(), *RUN, effects, "hydra.run.dir=run")
    code, output = command(*arguments, cwd=tmp_path, prepare=importing(tmp_path))
    name = f"constraint.effects[0] ({mine}.Broken): ZeroDivisionError: cold"
    assert code not in (0, 2)
    assert f"RuntimeError: {name}" in output
    assert 'raise ZeroDivisionError("cold")' in output
    results = read_results(tmp_path / "run")
    assert results is not None
    assert (results["status"], results["error"]) == ("failed", f"RuntimeError: {name}")
    at_once = effects.replace("Broken}", "Broken, good: 0}")
    code, output = command(*arguments[:-2], at_once, "hydra.run.dir=next", cwd=tmp_path,
                           prepare=importing(tmp_path))  # fmt: skip
    assert code == 2
    assert "fails in the first step of training: RuntimeError: " + name in output
    assert not (tmp_path / "next").exists()


@pytest.mark.slow
def test_each_fold_has_effects_of_its_own_also_in_processes(tmp_path: Path, mine: str) -> None:
    effects = f"constraint.effects=[{{_target_: {mine}.Wander}}]"
    folds = (*few_images(), *RUN, "cv=kfold", "cv.n_splits=2", effects)
    found = []
    for jobs in (1, 2):
        directory = tmp_path / str(jobs)
        code, output = command(
            *folds, f"cv.n_jobs={jobs}", f"hydra.run.dir={directory}", cwd=tmp_path,
            prepare=importing(tmp_path, PYTHONPATH=f"{tmp_path}:{os.getcwd()}"),
        )  # fmt: skip
        assert code == 0, output
        rows = json.loads((directory / "results.json").read_text())["folds"]
        found.append([row["weights_sha256"] for row in rows])
    assert found[0] == found[1]
    assert (
        load_config(tmp_path / "1", "resume").constraint.effects[0]["_target_"].endswith("Wander")
    )


def test_a_key_of_devices_without_devices_is_explained(tmp_path: Path) -> None:
    code, output = command("model=mlp", "constraint.effects=[{_target_: a.b}]", cwd=tmp_path)
    assert code == 2
    assert "constraint.effects: there is no such key in this configuration; it is a" in output
    assert "constraint=none has none" in output
