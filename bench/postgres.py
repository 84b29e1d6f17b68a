# SPDX-License-Identifier: MIT
"""PostgreSQL servers of a bench's own, thrown away after it; they wait for their disk, as real ones do."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
DEADLINE = 60.0


class Server:
    """
    One, whose files and socket are in a directory of its own.

    @param directory: for it; PostgreSQL runs as nobody where the bench is root's.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._before: tuple[str, ...] = ()
        directory.mkdir()
        if os.geteuid() == 0:
            self._before = NOBODY
            shutil.chown(directory, "nobody", "nogroup")

    def _call(self, *command: str) -> None:
        subprocess.run(
            [*self._before, *command],
            check=True,
            env={**os.environ, "HOME": str(self.directory)},
            cwd=self.directory,
            stdout=subprocess.DEVNULL,
        )

    def _ctl(self, *command: str) -> None:
        place = ("-D", str(self.directory / "data"), "-l", str(self.directory / "log"))
        self._call("pg_ctl", *place, "-w", "-s", *command)

    def make(self) -> None:
        """A cluster of its own."""
        options = ("--auth=trust", "--encoding=UTF8", "--locale=C")
        self._call("initdb", "-D", str(self.directory / "data"), "-U", "gmesh", *options)

    def follow(self, primary: Server) -> None:
        """A standby of another one."""
        source = ("-R", "-X", "stream", "-c", "fast", "-h", str(primary.directory), "-U", "gmesh")
        self._call("pg_basebackup", *source, "-D", str(self.directory / "data"))

    def start(self) -> None:
        """Have it run, and answer."""
        self._ctl(
            *("-o", f"-c listen_addresses= -c unix_socket_directories={self.directory} -c max_wal_size=4GB"),
            "start",
        )

    def stop(self) -> None:
        """As if it was killed."""
        self._ctl("-m", "immediate", "stop")

    def promote(self) -> None:
        """Have a standby take over."""
        self._ctl("promote")

    def database(self, name: str) -> str:
        """Make one. @return: its URL."""
        self.run(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)

    def url(self, database: str) -> str:
        return f"host={self.directory} user=gmesh dbname={database}"

    def run(self, *statements: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def wait_for_standby(self) -> None:
        """From now on a commit waits for the standby, which follows already."""
        self.run("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
        until = time.monotonic() + DEADLINE
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            asked = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
            while connection.execute(asked).fetchone() != (1,):
                if time.monotonic() > until:
                    raise TimeoutError("no standby follows")
                time.sleep(0.05)


@contextmanager
def server(directory: Path) -> Iterator[Server]:
    """One that runs."""
    made = Server(directory)
    made.make()
    with running(made):
        yield made


@contextmanager
def running(made: Server) -> Iterator[Server]:
    """Started, and stopped afterwards, if nobody stopped it meanwhile."""
    made.start()
    try:
        yield made
    finally:
        if (made.directory / "data/postmaster.pid").exists():
            made.stop()
