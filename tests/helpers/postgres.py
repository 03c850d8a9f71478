"""A PostgreSQL server of a test's own, from the system's binaries."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

USER = "postgres"  # the server refuses to run as root


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """Start a server on a free port of this machine; yield its URL for SQLAlchemy."""
    pytest.importorskip("psycopg", reason="PostgreSQL's driver is not installed")
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not binaries:
        pytest.skip("PostgreSQL's server is not installed")
    programs = binaries[-1].parent
    directory = Path(tempfile.mkdtemp(prefix="postgres-"))
    as_user: list[str] = []
    if os.geteuid() == 0:
        as_user = ["runuser", "-u", USER, "--"]
        shutil.chown(directory, USER)
    data = directory / "data"

    def run(*arguments: str | Path) -> None:
        log = directory.with_suffix(".log")
        with log.open("w") as output:  # a pipe would stay open in the server
            ended = subprocess.run(
                [*as_user, *map(str, arguments)], cwd="/", stdout=output, stderr=output, check=False
            )
        text = log.read_text()
        log.unlink()
        assert ended.returncode == 0, text

    run(programs / "initdb", "-D", data, "-U", USER, "-A", "trust", "--no-sync")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"-p {port} -k {directory} -c listen_addresses=127.0.0.1 -c fsync=off"
    run(programs / "pg_ctl", "-D", data, "-o", options, "-l", directory / "log", "-w", "start")
    try:
        yield f"postgresql+psycopg://{USER}@127.0.0.1:{port}/postgres"
    finally:
        run(programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(directory, ignore_errors=True)
