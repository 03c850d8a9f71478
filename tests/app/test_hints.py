"""What the command line says to settings that do not exist or cannot be composed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import mnist_exp
from mnist_exp.app.arguments import options_first
from mnist_exp.errors import UserError
from tests.helpers.fault_injection import command, few_images

# What is typed, and words of the answer.
REFUSED = {
    "model=null": "model=null: allowed is an option, cnn20k or cnn21k or mlp",
    "data=1e3": "data=1e3: allowed is an option, csv or",
    "experiment=null": "For none, leave experiment out",
    "tracker=[null]": "tracker=[null]: allowed is an option, csv or",
    "modle=mlp": "modle: there is no such key in this configuration; did you mean model?",
    "lr=0.1": "lr: there is no such key in this configuration; did you mean optimizer.lr?",
    "training.learning_rate=1": "did you mean optimizer.lr?",
    "training.foobar=1": "no such key in this configuration; python -m mnist_exp settings training",
    "epochs=3": "did you mean training.epochs?",
    "constraint=memristor optimizer.lr=1": "did you mean optimizer.lr_neg or optimizer.lr_pos? (it "
    "is a setting of optimizer=adagrad, optimizer=adam, optimizer=adamw, optimizer=lbfgs, "
    "optimizer=muon or",
    "cv=holdout cv.n_splits=5": "cv.n_splits: there is no such key in this configuration; it is a "
    "setting of cv=kfold, cv=repeated_stratified_kfold or cv=stratified_kfold",
    "constraint.levels=16": "or 11 more; constraint=none has none",
    "constraint=memristor constraint.read.output_bits=6": "constraint.read is null here and has no "
    "keys; choose constraint/read=analog or constraint/read=one_bit_inputs as well, such as "
    "constraint/read=analog constraint.read.output_bits=6",
    "constraint=reram_es constraint.curve.potentiation_only=true": "has it, and its default holds "
    "here; to set it, write a plus before it: +constraint.curve.potentiation_only=true",
    "constraint=reram_es constraint.read=analog": "as constraint/read=analog gives",
    "constraint=analog +constraint.read.foo=3": "nothing reads this key; constraint.read has input",
    "evaluation=pcm evaluation.read.output_bits=6": "set it as a whole, such as "
    "'evaluation.read={_target_: mnist_exp.device.ArrayReading, output_bits: 6}'",
    "evaluation=ideal evaluation.drift.t0=6": "null here and has no keys; it is a setting of eval",
    "callbacks.early_stopping.patience=3": "it is a setting of callbacks=early_stopping",
    "abracadabra=3": "your own values go under extra: +extra.abracadabra=...",
    "extra.a=3": "extra.a: there is no such key in this configuration; add it, with a plus: +ext",
    "+training.epoch=3": "training.epoch=3: nothing reads this key; did you mean training.epochs?",
    "+constraint.levels=16": "nothing reads levels; it is a setting of constraint=ag_si,",
    "-m training.epoch=1,2": "did you mean training.epochs?",
    "-m model=mlp,null": "model=null: allowed is an option",
    "-m sweep=5": "sweep.resume=DIR",
    "-m model=mlp,mlp100 model.dropout=0.1": "as all of these have it, write ++model.dropout=...",
    "-m constraint=ag_si,epiram optimizer.lr_pos=0.1": "as all of these have it, write ++",
    "-m constraint=ag_si,none optimizer.lr_pos=0.1": "sweep constraint=ag_si on its own",
    "-m model=mlp,cnn21k,mlp100 model.dropout=0.1": "model=cnn21k, which this sweep includes, has "
    "no such key; sweep model=mlp,mlp100 on its own, with ++model.dropout=...",
    "--config-dir own -m seed=0,1 +model.width=3": "nothing reads this key; it is a setting of mode"
    "l=mine",
    "constraint/update=tiki_taka": "goes with an option of constraint that has it, such as "
    "constraint=memristor constraint/update=...",
    "evaluation.times=[1s]": "it is a setting of evaluation=ideal, evaluation=pcm or ",
    "sweep.dry_run=true": "sweep.dry_run: lists the jobs of a sweep; add --multirun",
    "sweep.filter=seed<3": """such as 'sweep.filter="seed<3"'""",
    "resume=2026": "resume=2026: there is no such directory",
    "sweep.resume={}": "is not a sweep that can be resumed",
    "~optimizer": "optimizer._target_: is missing; choose an option: optimizer=NAME",
    "~tracker": "~tracker: there is nothing to take away; leave it out",
    "hydra.run.dir=${nope}": "hydra.run.dir: cannot be resolved",
    "data.class_names=[a,ü]": """such as 'data.class_names=["a","ü"]'""",
    "hydra.run.dir=lr=1": """needs quotes, such as 'hydra.run.dir="lr=1"'""",
    "-m hydra.sweep.dir=a,b": """give one, or quote a text: 'hydra.sweep.dir="a,b"'""",
    "hydra.mode=MULTI": "hydra.mode=MULTI: Invalid value 'MULTI', expected one of [RUN, MULTIRUN]",
    "-m hydra/launcher=basic,joblib": "all jobs of a sweep share Hydra's settings; give one",
    "seed=${oc.env:NO_SUCH}": "seed cannot be resolved: Environment variable 'NO_SUCH' not found",
    "-m seed=1,abc": "job 1 (seed=abc): seed=abc: allowed is a whole number of at least 0",
    "data.root=${hydra:nope} data=idx": "data.root=null: allowed is",
    "model=mlp optimizer.betas=[0.9]": "optimizer.betas=[0.9]: allowed is two numbers",
    "seed=1 --nope": "unrecognized arguments: --nope",
    "=5": "the configuration cannot be composed",
    "-m hydra/launcher=ray_cluster": "hydra/launcher=ray: its package is not installed. Run `pip "
    "install 'hydra-ray-launcher<1.4'` first.",
    "--config-dir own experiment=typo": "training.epochz=3: nothing reads this key; did you mean "
    "training.epochs?",
    "--config-dir own experiment=no_package": "needs '# @package _global_' as its first line",
    "--config-dir own runtime=slow": "runtime.thread=3: nothing reads this key; did you mean threa",
    "--config-dir own experiment=broken": "the configuration cannot be composed (ParserError)",
    "--config-dir own experiment=number": "5=3: nothing reads this key",
    "--config-path /own/.hydra": "To continue a run: resume=/own; to repeat it: reproduce=/own",
}
FILES = {
    "experiment/typo": "# @package _global_\ntraining: {epochz: 3}\n",
    "experiment/no_package": "training: {epochs: 3}\n",
    "experiment/broken": "# @package _global_\ntraining: [\n",
    "experiment/number": "# @package _global_\n5: 3\n",
    "runtime/slow": "device: cpu\nthread: 3\n",
    "model/mine": "# @package _global_\nmodel: {name: mine, _target_: mine.Net, width: 3}\n",
    ".hydra/config": "seed: 0\n",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with options of the user's own in ``own``."""
    directory = tmp_path_factory.mktemp("place")
    for name, text in FILES.items():
        path = directory / "own" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("typed", REFUSED)
def test_a_wrong_setting_is_answered_with_what_was_meant_and_leaves_nothing(
    place: Path, typed: str
) -> None:
    before = sorted(place.rglob("*"))
    code, output = command(*typed.replace("/own", f"{place}/own").split(), cwd=place)
    (place / "command.log").unlink()
    assert code == 2, output
    assert REFUSED[typed] in output.replace(str(place), "")
    assert "Traceback" not in output
    assert sorted(place.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "typed", ["model=null", "constraint=memristor optimizer.lr=1", "+training.epoch=3"]
)
def test_python_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        mnist_exp.run_experiment(*typed.split())
    assert REFUSED[typed] in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_options_stand_anywhere() -> None:
    assert options_first(["a=1", "-m", "b=2,3"]) == ["-m", "a=1", "b=2,3"]
    typed = ["a=1", "--config-dir", "x", "b=2", "--cfg", "job", "a=1"]
    assert options_first(typed) == ["--config-dir", "x", "--cfg", "job", "a=1", "b=2", "a=1"]
    assert options_first([]) == []


@pytest.mark.slow
def test_interpolations_are_the_same_in_a_run_a_sweep_and_in_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers from the environment are numbers; Hydra's values resolve."""
    monkeypatch.setenv("MINE", "1")
    monkeypatch.chdir(tmp_path)
    root = Path(few_images()[1].partition("=")[2])
    (tmp_path / "data").symlink_to(root)
    small = (
        *("data=idx", "data.root=${hydra:runtime.cwd}/data", "model=mlp", "cv=none", "threads=1"),
        *("seed=${oc.env:MINE}", "training.epochs=${oc.env:MINE}", "plots.enabled=false"),
    )
    mnist_exp.run_experiment(*small, directory=tmp_path / "python")
    for settings in (("hydra.run.dir=run",), ("-m", "hydra.sweep.dir=sweep")):
        code, output = command(*small, *settings, cwd=tmp_path)
        assert code == 0, output
    monkeypatch.delenv("MINE")
    runs = [mnist_exp.load_run(tmp_path / name) for name in ("python", "run", "sweep/0")]
    for run in runs:
        assert (run.config.seed, run.config.training.epochs) == (1, 1)
        assert run.config.data.root == os.path.join(tmp_path, "data")
        assert run.results["config_hash"] == runs[0].results["config_hash"]
    assert len({run.results["folds"][0]["weights_sha256"] for run in runs}) == 1
    code, output = command("resume=run", cwd=tmp_path)
    assert (code, "is finished already" in output) == (0, True), output
