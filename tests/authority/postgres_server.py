# SPDX-License-Identifier: MIT
"""A PostgreSQL server of the tests' own, thrown away after them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")


class PostgresServer:
    """One that is running."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made = 0

    def url(self, database: str) -> str:
        return f"host={self._directory} user=gmesh dbname={database}"

    def database(self) -> str:
        """The URL of a new and empty one."""
        self._made += 1
        name = f"t{self._made}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)


@contextmanager
def running() -> Iterator[PostgresServer]:
    """A cluster in a directory of its own, run as somebody else when the tests are root."""
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("NOT RUN: there is no initdb of PostgreSQL on the PATH")
    directory = Path(tempfile.mkdtemp(prefix="pg"))
    before: tuple[str, ...] = ()
    if os.geteuid() == 0:
        before = NOBODY
        shutil.chown(directory, "nobody", "nogroup")
    environment = {**os.environ, "HOME": str(directory)}
    ctl = (*before, "pg_ctl", "-D", str(directory / "data"), "-w", "-s", "-l", str(directory / "log"))

    def call(*command: str) -> None:
        subprocess.run(command, check=True, env=environment, cwd=directory, stdout=subprocess.DEVNULL)

    try:
        call(
            *(*before, "initdb", "-D", str(directory / "data"), "-U", "gmesh", "--auth=trust"),
            *("--encoding=UTF8", "--locale=C", "--no-sync"),
        )
        call(*ctl, "-o", f"-c listen_addresses= -c unix_socket_directories={directory} -c fsync=off", "start")
        try:
            yield PostgresServer(directory)
        finally:
            call(*ctl, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(directory)
