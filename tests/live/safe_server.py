# SPDX-License-Identifier: MIT
"""A server of PostgreSQL that keeps what it acknowledges, as C{gmesh database check} asks for."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from authority.postgres_server import NOBODY, PostgresServer, running
from psycopg.conninfo import conninfo_to_dict


@contextmanager
def safe_server() -> Iterator[PostgresServer]:
    """The throw-away one, started once more without what makes tests fast."""
    with running() as server:
        directory = str(conninfo_to_dict(server.url("postgres"))["host"])
        options = f"-c listen_addresses= -c unix_socket_directories={directory}"
        place = ("-D", f"{directory}/data", "-l", f"{directory}/log", "-w", "-s", "-m", "immediate")
        subprocess.run(
            [*(NOBODY if os.geteuid() == 0 else ()), "pg_ctl", *place, "-o", options, "restart"],
            check=True,
            env={**os.environ, "HOME": directory},
            cwd=directory,
            stdout=subprocess.DEVNULL,
        )
        yield server
