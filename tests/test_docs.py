"""README and docs: every block runs; every setting and link in the text exists.

docs/architecture.md states the rules. Lines that train get `SMALL` appended; sweeps and runs over
seeds also get their entry of `SMALLER`.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from omegaconf import OmegaConf

from mnist_exp import schema
from mnist_exp.cpu.kernels import library
from mnist_exp.data.sources import BUNDLED
from mnist_exp.files.shipped_config import config_directory
from tests.conftest import Compose
from tests.helpers.fault_injection import exit_code, start
from tests.helpers.markdown import PAGES, REPOSITORY, anchors, blocks, inline_code, links
from tests.test_architecture import FLOORS

SMALL = [
    *("data.subset=350", "training.epochs=1"),
    *("plots.enabled=false", "report.enabled=false", "report.predictions=true"),
]
SMALLER = {
    "-m": ["cv=holdout", "cv.validation=100", "cv.test=500"],
    "seeds": ["--seeds", "2"],
    "evaluate-device": ["evaluation.repetitions=2", "evaluation.times=[1h,1y]"],
}
PROGRAM = ["python", "-m", "mnist_exp"]
LANGUAGES = {"bash", "python", "yaml", "text", "mermaid", "math"}
AS_THEY_ARE = ("--help", "--cfg", "resume=", "sweep.resume=")  # run unchanged

page_names = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=[pytest.mark.pages] * (page.parent.name == "docs"))
        for page in PAGES
    ],
)
def test_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    module = ModuleType(f"page_{page.stem.replace('-', '_')}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look there
    for block in blocks(page):
        if block.not_run is not None or block.quoted is not None:
            continue
        if block.file_name is not None:
            path = tmp_path / block.file_name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        where, directories = f"{page.name}:{block.line}", newest_directories()
        if block.language == "python":
            code = compile(filled_in(block.text, directories), where, "exec")
            exec(code, vars(module))
        elif block.language == "bash":
            for line in block.commands:
                run_line(filled_in(line, directories), where)


def run_line(line: str, where: str) -> None:
    """Run a line of a bash block, with settings that make it small."""
    words = shlex.split(line)
    if words[0] == "make":
        check_make(words)
        return
    environment: dict[str, str] = {}
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        name, _, environment[name] = words.pop(0).partition("=")
    assert words[:3] == PROGRAM, f"{where}: {line}: no rule for how to run this"
    output = Path("output.txt")

    def work() -> None:
        os.environ.update(environment)
        library.compiled.cache_clear()  # chosen by the environment
        sys.argv = ["mnist_exp", *small(words[3:])]
        runpy.run_module("mnist_exp", run_name="__main__", alter_sys=True)

    code = exit_code(start(work, output))
    assert code == 0, f"{where}: {line}\n{output.read_text()[-4000:]}"


def small(arguments: list[str]) -> list[str]:
    """Append settings to a command's arguments so that it takes seconds."""
    first = arguments[0] if arguments else "-"
    is_word = "=" not in first and not first.startswith("-")
    if first == "evaluate-device":
        return [*arguments, *SMALLER[first]]
    if (is_word and first != "seeds") or any(a.startswith(AS_THEY_ARE) for a in arguments):
        return arguments
    one_split = {"cv=holdout", "cv=none"} & set(arguments)
    if "model=mlp100" in arguments and first != "-m" and not one_split:
        arguments = [*arguments, "cv.n_jobs=1"]  # folds in processes take seconds to start
        if not any(argument.startswith("cv") for argument in arguments[:-1]):
            arguments += ["cv.n_splits=2"]
    if first == "-m":  # two values of each setting
        arguments = [re.sub(r"^([\w.]+=[^,\[]+,[^,]+),.*", r"\1", a) for a in arguments]
    if is_word:  # seeds: the first recipe alone
        arguments = arguments[:2]
    return [*arguments, *SMALL, *SMALLER.get(first, [])]


def newest_directories() -> dict[str, Path]:
    """Return values of RUN_DIR, SWEEP_DIR (newest so far) and DATA_DIR (bundled MNIST)."""
    made = {
        "RUN_DIR": max(Path("outputs").glob("2*/*"), key=os.path.getmtime, default=None),
        "SWEEP_DIR": max(Path("outputs/multirun").glob("*/*"), key=os.path.getmtime, default=None),
    }
    return {"DATA_DIR": BUNDLED, **{word: path for word, path in made.items() if path is not None}}


def filled_in(text: str, directories: dict[str, Path]) -> str:
    """Replace RUN_DIR, SWEEP_DIR and DATA_DIR by directories."""
    return re.sub(
        r"\b(RUN|SWEEP|DATA)_DIR\b", lambda found: str(directories.get(found[0], found[0])), text
    )


def check_make(words: list[str]) -> None:
    """Check that the Makefile has the target."""
    ended = subprocess.run(
        ["make", "-n", *words[1:]], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


@page_names
def test_blocks_have_a_language_and_yaml_is_well_formed(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{page.name}:{block.line}"
        if block.language == "yaml":
            OmegaConf.create(block.text)


@pytest.mark.slow
@page_names
def test_commands_and_settings_in_the_text_exist(page: Path, compose_config: Compose) -> None:
    for code in inline_code(page):
        words = code.split()
        if words[0] == "make":
            check_make(shlex.split(code))
        elif words[:3] == PROGRAM and words[3:]:
            check_arguments(words[3:], compose_config)
        elif all(re.fullmatch(r"[a-z_.]+=[^=]\S*", word) for word in words):
            check_settings(words, compose_config)


def check_arguments(arguments: list[str], compose_config: Compose) -> None:
    """Check what follows ``python -m mnist_exp``: a command's name, or settings."""
    first, *others = arguments
    if "=" in first or first.startswith("-"):
        check_settings([word for word in arguments if "=" in word], compose_config)
        return
    command = config_directory().parent / f"mnist_exp/app/commands/{first.replace('-', '_')}.py"
    assert command.is_file(), f"there is no command {first}"
    if first == "seeds":
        names = [word for word in others if not word.startswith("--") and not word.isdigit()]
        check_settings([as_setting(name) for name in names], compose_config)


def as_setting(name: str) -> str:
    """Return the setting that selects a model or an experiment; a setting stays as it is."""
    options = (config_directory() / group / f"{name}.yaml" for group in ("experiment", "model"))
    found = [option for option in options if option.is_file()]
    return f"{found[0].parent.name}={name}" if found else name


def check_settings(words: list[str], compose_config: Compose) -> None:
    """Check that the keys exist and, if a group option is selected, that the settings compose."""
    unknown = [word for word in words if not is_known_key(word.partition("=")[0])]
    assert unknown == []
    if any((config_directory() / word.partition("=")[0]).is_dir() for word in words):
        config = compose_config(*words)
        if "root" in config.data:  # data=idx requires one
            config.data.root = "DATA_DIR"
        schema.check(config)


def is_known_key(key: str) -> bool:
    """Return whether a key is a group, or occurs in config.yaml or an option of its group."""
    group, _, name = key.partition(".")
    if not name and (config_directory() / group).is_dir():
        return True
    files = [config_directory() / "config.yaml", *(config_directory() / group).rglob("*.yaml")]
    pattern = rf"^\s*{re.escape((name or group).rpartition('.')[2])}:"
    return any(re.search(pattern, path.read_text(), re.MULTILINE) for path in files)


@page_names
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{page.name}: {link}"
        assert path.is_relative_to(REPOSITORY), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(path), f"{page.name}: {link}"


def test_every_page_is_reached_from_the_readme() -> None:
    reached, ahead = set(), [PAGES[0]]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        near = {(page.parent / link.partition("#")[0]).resolve() for link in links(page)}
        ahead += [path for path in near & set(PAGES) if path not in reached]
    assert reached == set(PAGES)


def test_pictures_are_small() -> None:
    for picture in (REPOSITORY / "docs" / "images").iterdir():
        assert picture.stat().st_size < 60_000, picture.name


def test_the_drawing_has_every_room() -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    rooms = set().union(*FLOORS) - {"__init__", "__main__", "_version"}
    assert [room for room in sorted(rooms) if f"`{room}`" not in text] == []
