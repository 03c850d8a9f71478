"""Untrusted files: reading never blocks, size is limited, links are never written through."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mnist_exp.errors import UserError
from mnist_exp.files import regular as regular_files
from mnist_exp.files.atomic import append_json_lines, remove_unfinished, write_atomic
from mnist_exp.files.regular import open_own, open_regular, read_json, read_regular
from mnist_exp.run.yaml_files import load_overrides, load_yaml


def not_regular(kind: str, path: Path) -> Path:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path


@pytest.mark.parametrize("kind", ["pipe", "device", "directory"])
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path, kind: str) -> None:
    path = not_regular(kind, tmp_path / "x")
    for read in (read_regular, open_regular, lambda p: read_json(p, 10)):
        with pytest.raises(UserError, match="x: is not a regular file"):
            read(path)
    with pytest.raises(UserError, match="x: is not a regular file"):
        open_own(path, os.O_RDWR)


def test_links_are_followed_for_reading_where_that_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_regular(tmp_path / "link") == b"content"
    with pytest.raises(UserError, match="link: is not a regular file"):
        open_regular(tmp_path / "link", follow=False)


def test_a_large_file_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: takes no disk space
    with pytest.raises(UserError, match="holds 1,099,511,627,776 bytes; such a file has at"):
        read_regular(path, limit=1000)
    monkeypatch.setattr(regular_files, "available_memory", lambda: 1 << 30)
    with pytest.raises(UserError, match="and 1,073,741,824 are free"):
        read_regular(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "Expecting"),
        (b"[" * 100_000 + b"]" * 100_000, "recursion|50 inside each"),
        (json.dumps([[[[]]]]).replace("[]", "[" * 60 + "]" * 60).encode(), "50 inside each other"),
        (b'{"x": NaN}', "NaN is not a JSON number"),
        (b"\xff", "decode"),
        (b"1" * 5000, "integer string conversion"),
    ],
)
def test_unusable_json_is_damaged(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError, match=f"(?s)x.json: .*damaged.*({reason})"):
        read_json(tmp_path / "x.json", 1 << 20)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x [1]\nb: *x\ntraining: {}", r"has an alias, \*x; write its value out"),
        ("training: " + "[" * 5000 + "]" * 5000, "more than 50 lists or maps inside each other"),
        ("training: [", "is damaged"),
        ("training: !!python/name:os.system x", "is damaged"),
        ("training: !!set {a}", "is damaged"),
        ("training: ${", "is damaged"),
        ("? [a]\n: b", "is damaged"),
        ("training: " + "1" * 5000, "is damaged"),
        ("#" * (1 << 20), "such a file has at most"),
        ("training: \udcff", "is damaged"),
    ],
)
def test_unusable_yaml_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=rf"(?s)config\.yaml: .*{reason}"):
        load_yaml(path)


def test_overrides_are_a_list_of_texts(tmp_path: Path) -> None:
    path = tmp_path / "overrides.yaml"
    path.write_text("- model=mlp\n- +a.b=${c}\n")
    assert load_overrides(path) == ["model=mlp", "+a.b=${c}"]
    for text in ("a: b", "- 1", "- {a: b}"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"overrides\.yaml: is damaged"):
            load_overrides(path)


def link(kind: str, path: Path, target: Path) -> None:
    path.symlink_to(target) if kind == "symbolic" else path.hardlink_to(target)


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_file_that_a_link_leads_to_is_never_written_to(tmp_path: Path, kind: str) -> None:
    own, run = tmp_path / "own", tmp_path / "run"
    own.write_bytes(b"mine")
    run.mkdir()
    link(kind, run / "metrics.jsonl", own)
    with pytest.raises(UserError, match=r"metrics.jsonl: (is not a regular|other paths lead)"):
        append_json_lines(run / "metrics.jsonl", [{"epoch": 1}])
    link(kind, run / "results.json", own)
    write_atomic(run / "results.json", b"new")
    link(kind, run / "other", own)
    write_atomic(run / "other", b"new")
    (run / ".directory.tmp").mkdir()
    (run / ".left.tmp").symlink_to(own)
    remove_unfinished(run)
    assert own.read_bytes() == b"mine"
    assert (run / "results.json").read_bytes() == (run / "other").read_bytes() == b"new"
