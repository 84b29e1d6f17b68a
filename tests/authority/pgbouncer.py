# SPDX-License-Identifier: MIT
"""PgBouncer of Debian in transaction mode before a throw-away server, as its example has it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from authority.postgres_server import NOBODY, PostgresServer, running
from psycopg.conninfo import make_conninfo

from gmesh.testing.patience import Patience

EXAMPLE = Path(__file__).parents[2] / "debian/examples/pgbouncer-authority.ini"
DEADLINE = 180.0


class PooledServer(PostgresServer):
    """One whose databases are asked through PgBouncer, and made without it."""

    def database(self) -> str:
        """@see: L{PostgresServer.database}"""
        return make_conninfo(super().database(), host=str(self.pool))

    @property
    def pool(self) -> Path:
        """Where the socket of PgBouncer is."""
        return self._directory / "pool"

    def configure(self) -> Path:
        """Write its file. @return: the name."""
        self.pool.mkdir()
        text = EXAMPLE.read_text()
        for pattern, here in (
            ("gmesh = .*", f"* = host={self._directory}"),
            ("listen_addr = .*", f"listen_addr =\nunix_socket_dir = {self.pool}"),
            ("listen_port = .*", "listen_port = 5432"),
            ("query_wait_timeout = .*", "query_wait_timeout = 2"),
            ("auth_type = .*\nauth_file = .*", f"auth_type = any\nlogfile = {self.pool}/log"),
        ):
            text, changed = re.subn(f"(?m)^{pattern}$", here, text)
            assert changed == 1, pattern
        file = self.pool / "pgbouncer.ini"
        file.write_text(text.replace("* = ", "* = user=gmesh ", 1))
        if self._before:
            shutil.chown(self.pool, "nobody", "nogroup")
        return file

    def wait_for_pool(self, process: subprocess.Popen[bytes]) -> None:
        patience = Patience(DEADLINE)
        url = make_conninfo(self.url("postgres"), host=str(self.pool))
        while True:
            try:
                psycopg.connect(url).close()
                return
            except psycopg.OperationalError as error:
                assert process.poll() is None and patience.lasts(), error
                time.sleep(0.02)


@contextmanager
def pooled() -> Iterator[PooledServer]:
    """A server and a PgBouncer before it, which run and are thrown away."""
    if shutil.which("pgbouncer") is None:
        pytest.skip("NOT RUN: there is no pgbouncer on the PATH")
    with running(PooledServer) as server:
        assert isinstance(server, PooledServer)
        before = NOBODY if os.geteuid() == 0 else ()  # it refuses to be root
        process = subprocess.Popen([*before, "pgbouncer", "-q", str(server.configure())])
        try:
            server.wait_for_pool(process)
            yield server
        finally:
            process.kill()
            process.wait(DEADLINE)
