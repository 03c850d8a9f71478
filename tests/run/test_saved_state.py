"""A checkpoint with a valid checksum and wrong content: refused by file and key, or resumed."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_exp.errors import UserError
from mnist_exp.experiment.run import run_experiment
from mnist_exp.interruption import Interrupted
from mnist_exp.run.checkpoints import load_checkpoint, save_checkpoint
from tests.app.test_resume import StopAfter
from tests.helpers.fault_injection import SMALL, composed
from tests.mutations import mutated
from tests.run.test_checkpoints import with_checksum

ONE_SPLIT = ("cv=none", "data.subset=100", *SMALL)
RUNS = {
    "plain": ("model=mlp100", *ONE_SPLIT),
    "validated, averaged, with a schedule": (
        *("model=mlp300", "cv=holdout", "cv.validation=100", "training.averaging=0.9"),
        *("scheduler=onecycle", "data.subset=100", *SMALL),
    ),
    "devices": ("model=mlp100", "constraint=memristor", *ONE_SPLIT),
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Directories of runs stopped in the middle of their second epoch, by name."""
    found = {}
    for name, arguments in RUNS.items():
        directory = tmp_path_factory.mktemp("stopped") / "run"
        with pytest.raises(Interrupted):
            run_experiment(composed(*arguments), directory, StopAfter(7))
        found[name] = directory
    return found


def newest(directory: Path) -> Path:
    return max((directory / "checkpoints").glob("epoch_*.pt"), key=lambda path: path.stem)


def goes_on(name: str, directory: Path) -> None:
    run_experiment(composed(*RUNS[name]), directory)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_sound_checkpoints_go_on(stopped: dict[str, Path], name: str, tmp_path: Path) -> None:
    goes_on(name, Path(shutil.copytree(stopped[name], tmp_path / "run")))


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
@settings(max_examples=10)  # each trains on
@given(data=st.data())
def test_any_content_with_a_checksum_is_refused_or_goes_on(
    tmp_path_factory: pytest.TempPathFactory,
    stopped: dict[str, Path],
    name: str,
    data: st.DataObject,
) -> None:
    directory = tmp_path_factory.mktemp("forged") / "run"
    shutil.copytree(stopped[name], directory)
    path = newest(directory)
    content = load_checkpoint(path)
    memory = content["state"]["optimizer"].pop("state")
    part = data.draw(st.sampled_from([*content["state"], "rest"]))
    if isinstance(content["state"].get(part), dict | list) and content["state"][part]:
        content["state"][part] = data.draw(mutated(content["state"][part]))
    else:
        content = data.draw(mutated(content))
    with contextlib.suppress(KeyError, TypeError, AttributeError):
        content["state"]["optimizer"]["state"] = memory
    content.pop("schema_version", None)
    save_checkpoint(path, content)
    with contextlib.suppress(UserError):  # but no other exception
        goes_on(name, directory)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c.pop("config"), "config is missing"),
        (lambda c: c["config"]["training"].pop("epochs"), "training.epochs was None and is 2 now"),
        (lambda c: c.update(fold="1"), "fold is '1'; allowed is null or a whole number"),
        (lambda c: c["state"].pop("order"), "state.order is missing"),
        (lambda c: c["state"].update(batch=-1), "state.batch is -1"),
        (lambda c: c["state"].update(history=[]), "the history is not of epochs 1 to 1"),
        (lambda c: c["state"].update(best=None), "the weights to report are missing"),
        (lambda c: c["state"]["best"]["model"].popitem(), r"best\.model has not the keys"),
        (lambda c: c["state"].update(order=torch.arange(7)), "its order is not that of"),
        (lambda c: c["state"]["optimizer"]["param_groups"][0].pop("lr"), "param_groups"),
        (lambda c: c["state"].update(generator=torch.zeros(3)), "state.generator is of type Tens"),
        (
            lambda c: c["state"]["optimizer"]["state"].update({0: {"x": torch.zeros(3)}}),
            r"optimizer\.state\.0\.x has shape \(3,\)",
        ),
    ],
)
def test_wrong_content_is_refused_by_key(
    stopped: dict[str, Path], tmp_path: Path, change: Any, reason: str
) -> None:
    directory = Path(shutil.copytree(stopped["plain"], tmp_path / "run"))
    content = load_checkpoint(newest(directory))
    change(content)
    del content["schema_version"]
    save_checkpoint(newest(directory), content)
    with pytest.raises(UserError, match=rf"run/checkpoints.*{reason}"):
        goes_on("plain", directory)


@pytest.mark.parametrize(
    ("effects", "reason"),
    [
        ([3], r"constraint\.effects\[0\] is 3; allowed is an object with keys"),
        ([{"state": {}}], r"constraint\.effects\[0\]\.generator is missing"),
        ([{"state": {}, "generator": 3}], r"constraint\.effects\[0\]\.generator is 3; allowed is"),
        (
            [{"state": {}, "generator": torch.zeros(3, dtype=torch.uint8)}],
            "does not fit this model",
        ),
        ([{"state": {"n": 1}, "generator": None}], r"effects\[0\] .*Wander\): KeyError: 'steps'"),
        ([], "the saved state has 0 effects, and there are 1 now"),
    ],
)
def test_wrong_states_of_effects_are_refused(tmp_path: Path, effects: Any, reason: str) -> None:
    wander = "constraint.effects=[{_target_: tests.device.test_added_effects.Wander}]"
    arguments = (*RUNS["devices"], wander)
    with pytest.raises(Interrupted):
        run_experiment(composed(*arguments), tmp_path, StopAfter(7))
    content = load_checkpoint(newest(tmp_path))
    content["state"]["constraint"]["effects"] = effects
    del content["schema_version"]
    save_checkpoint(newest(tmp_path), content)
    with pytest.raises(UserError, match=rf"{tmp_path}/checkpoints.*{reason}"):
        run_experiment(composed(*arguments), tmp_path)


def test_a_configuration_that_never_ends_is_refused(
    stopped: dict[str, Path], tmp_path: Path
) -> None:
    """Nests ten dictionaries, each ten times in the next: 10^10 settings in a kilobyte."""
    directory = Path(shutil.copytree(stopped["plain"], tmp_path / "run"))
    content = load_checkpoint(newest(directory))
    inner: dict[str, Any] = {"x": 1}
    for _ in range(10):
        inner = dict.fromkeys("0123456789", inner)
    content["config"]["training"] = inner
    del content["schema_version"]
    save_checkpoint(newest(directory), content)
    with pytest.raises(UserError, match="holds more than 100,000 values"):
        goes_on("plain", directory)


def archive_of(members: dict[str, bytes], compression: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"schema_version": 1, "x": torch.zeros(1000)}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    path = tmp_path / "bomb.pt"
    path.write_bytes(with_checksum(archive_of(members, zipfile.ZIP_STORED)))
    assert load_checkpoint(path)["x"].shape == (1000,)
    path.write_bytes(with_checksum(archive_of(members, zipfile.ZIP_DEFLATED)))
    with pytest.raises(UserError, match=r"bomb\.pt: refused.*members of the archive are compress"):
        load_checkpoint(path)
    hidden = archive_of(members, zipfile.ZIP_STORED)
    end = len(hidden) - 22
    listed = hidden.index(b"PK\x01\x02")
    twice = hidden[:end] + hidden[listed:end] + hidden[end:]  # we read one listing, torch another
    path.write_bytes(with_checksum(twice))
    with pytest.raises(UserError, match=r"bomb\.pt: refused"):
        load_checkpoint(path)


def test_a_pipe_in_place_of_a_checkpoint_is_refused(
    stopped: dict[str, Path], tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(stopped["plain"], tmp_path / "run"))
    path = newest(directory)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"epoch_00001_partial\.pt: is not a regular file"):
        goes_on("plain", directory)
