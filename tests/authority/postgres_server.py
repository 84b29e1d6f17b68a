# SPDX-License-Identifier: MIT
"""A PostgreSQL server of the tests' own, thrown away after them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from gmesh.authority.store import postgres
from gmesh.authority.store.postgres import PostgresConnection, PostgresEngine

NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")

MEMORY = Path("/dev/shm")
MEMORY_NEEDED = 4 << 30
"""Bytes, for a database of some megabytes a test: a disk takes minutes to write and delete them all."""
GUARDED = "guarded"
"""A role that needs a password, once there is one."""


class PostgresServer:
    """
    One in a directory of its own, run as somebody else when the tests are root.

    @param directory: of its files and its socket.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made = 0
        self._kept: dict[Path, str] = {}
        self._before: tuple[str, ...] = ()
        if os.geteuid() == 0:
            self._before = NOBODY
            shutil.chown(directory, "nobody", "nogroup")

    def make(self) -> None:
        """Make the cluster."""
        data = str(self._directory / "data")
        self._call(
            "initdb", "-D", data, "-U", "gmesh", *["--auth=trust", "--encoding=UTF8", "--locale=C", "-N"]
        )
        rules = self._directory / "data/pg_hba.conf"
        rules.write_text(f"local all {GUARDED} scram-sha-256\n{rules.read_text()}")

    def start(self) -> None:
        """Have it run, and answer."""
        options = f"-c listen_addresses= -c unix_socket_directories={self._directory} -c fsync=off"
        self._ctl("-o", options, "start")

    def stop(self) -> None:
        """As if it was killed."""
        self._ctl("-m", "immediate", "stop")

    def _ctl(self, *command: str) -> None:
        place = ("-D", str(self._directory / "data"), "-l", str(self._directory / "log"))
        self._call("pg_ctl", *place, "-w", "-s", *command)

    def _call(self, *command: str) -> None:
        environment = {**os.environ, "HOME": str(self._directory), "PGCTLTIMEOUT": "300"}
        subprocess.run(
            (*self._before, *command),
            check=True,
            env=environment,
            cwd=self._directory,
            stdout=subprocess.DEVNULL,
        )

    def url(self, database: str) -> str:
        return f"host={self._directory} user=gmesh dbname={database} connect_timeout=60"

    def database(self, template: str = "template0") -> str:
        """The URL of a new one, empty or a copy of another that nobody is connected to."""
        self._made += 1
        name = f"t{self._made}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def of(self, state: Path) -> tuple[str, bool]:
        """The URL of the database of a state directory, and whether it was made just now."""
        made = state not in self._kept
        if made:
            self._kept[state] = self.database()
        return self._kept[state], made

    def prepare(self, state: Path) -> None:
        """Have a state directory go by a new and empty one, which somebody else fills."""
        self._kept[state] = self.database()

    def copy(self, state: Path, other: Path) -> None:
        """Have a second state directory go by a copy of the database of the first."""
        self._kept[other] = self.database(str(conninfo_to_dict(self._kept[state])["dbname"]))

    def share(self, state: Path, other: Path) -> None:
        """Have a second state directory go by the database of the first."""
        self._kept[other] = self._kept[state]


def be_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the server bear with a machine that is busy: only in tests whose daemons have no other clock."""
    for name in ("_BEGIN", "_BEGIN_WRITE", "_BEGIN_NOTE", "_BEGIN_READ", "_LIMIT"):
        text = getattr(postgres, name)
        monkeypatch.setattr(postgres, name, re.sub(r"timeout = '\d+s'", "timeout = '120s'", text))


class DatedEngine(PostgresEngine):
    """
    A database whose server has the time of a test.

    @param wall: that one.
    """

    def __init__(self, url: str, wall: Callable[[], float]) -> None:
        super().__init__(url)

        class Dated(PostgresConnection):
            def begin(self, cursor: Any) -> tuple[int, int]:
                super().begin(cursor)
                return int(wall()), int(wall())

        self.connection = Dated
        self._wall = wall

    def fill(self, connection: PostgresConnection, cursor: Any, now: int) -> tuple[int, int]:
        super().fill(connection, cursor, now)
        return int(self._wall()), int(self._wall())


@contextmanager
def running(kind: type[PostgresServer] = PostgresServer) -> Iterator[PostgresServer]:
    """One that runs, and is thrown away."""
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("NOT RUN: there is no initdb of PostgreSQL on the PATH")
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_NEEDED
    directory = Path(tempfile.mkdtemp(prefix="pg", dir=MEMORY if roomy else None))
    try:
        server = kind(directory)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory)
