# SPDX-License-Identifier: MIT
"""Replicas behind HAProxy, restarted and upgraded one after the other under load: nobody is refused."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from authority.postgres_server import running
from live.authority_rig import AuthorityProcess, Fleet
from live.conftest import CLEAN_ENDS
from live.fronts import needs
from live.node_rig import until
from live.replica_rig import Balanced, Front, Load, OnServer

pytestmark = [pytest.mark.live, pytest.mark.soak]

OLDER_TREE = os.environ.get("GMESH_OLDER_TREE")
"""Sources of the release before, for daemons that are not upgraded; if not given, they are of this one."""
OLDER = ""
NEWER = """
import re
from gmesh.authority.store import postgres_schema
from gmesh.authority.store.migrate import Migration, newest, released
brought = released("migrations/postgres")
tables = re.findall("CREATE TABLE (\\w+)", " ".join(each.sql for each in brought))
text = f"-- compat: {newest()}\\nCREATE TABLE more (x BIGINT PRIMARY KEY);\\n"
text += "".join(f"ALTER TABLE {table} ADD COLUMN more BIGINT NOT NULL DEFAULT 0;\\n" for table in tables)
postgres_schema.migrations = lambda: [*brought, Migration(9001, "more", text)]
"""
"""This program with a migration that adds a table, and a column to each that there is."""


def be(daemon: AuthorityProcess, program: str) -> None:
    """From the next start on."""
    daemon.before = program
    daemon.environment = {"PYTHONPATH": OLDER_TREE} if OLDER_TREE and program == OLDER else {}


def restart(there: OnServer, balanced: Balanced, place: int, program: str) -> None:
    """One of them stops as it is told and starts as another program, until HAProxy gives it clients again."""
    daemon = there.daemons[place]
    port = daemon.port
    assert daemon.end(signal.SIGTERM) in CLEAN_ENDS
    assert "Traceback" not in daemon.log.read_text()
    until(lambda: balanced.states()[f"s{place}"].startswith("DOWN"))
    be(daemon, program)
    daemon.start(port)
    until(lambda: balanced.states()[f"s{place}"] == "UP")


@needs("haproxy")
def test_p22_a_rolling_restart_upgrade_and_way_back_refuse_nothing(
    tmp_path: Path, free_port: Callable[[], int], record_property: Callable[[str, object], None]
) -> None:
    """Each of three daemons: as it is, to a newer program that changes the tables, and back to the older."""
    with running() as server:
        there = OnServer(tmp_path, server.database(), 3, "--drain", "5", "--trusted-proxy", "127.0.0.1")
        try:
            for daemon in there.daemons:
                be(daemon, OLDER)
            there.start()
            balanced = Balanced(tmp_path / "haproxy", free_port(), there.daemons)
            with balanced.running(), Load(there, [balanced.port], 6) as load:
                for program, migrated in ((OLDER, False), (NEWER, True), (OLDER, True)):
                    for place in range(3):
                        restart(there, balanced, place, program)
                    with psycopg.connect(there.url) as connection:
                        asked = "SELECT to_regclass('more') IS NOT NULL"
                        assert connection.execute(asked).fetchone() == (migrated,)
            record_property("answers", dict(load.statuses()))
            assert set(load.statuses()) == {"200", "201"}, load.answers
            assert there.check() == len(there.admitted)
        finally:
            there.end()


@needs("haproxy")
def test_p10_behind_haproxy_documents_are_served_while_the_database_is_away(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """No replica is ready then: decisions wait, and go on when it is back."""
    with running() as server, ThreadPoolExecutor(1) as pool:
        there = OnServer(tmp_path, server.database(), 2, "--trusted-proxy", "127.0.0.1")
        try:
            there.start()
            balanced = Balanced(tmp_path / "haproxy", free_port(), there.daemons)
            with balanced.running():
                answers: Counter[tuple[str, str]] = Counter()
                front, other = (Front(balanced.port, f"127.0.7.{number}", answers) for number in (1, 2))
                fleet = Fleet(front, there.keys, there.genesis)
                assert fleet.invite("pump-1")
                server.stop()
                until(lambda: all(state.startswith("DOWN") for state in balanced.states().values()))
                for document in ("/status", "/crl", "/policy", "/genesis"):
                    assert other.ask("GET", document)[0] == 200
                waiting = pool.submit(fleet.invite, "pump-2")
                server.start()
                assert waiting.result()
                until(lambda: set(balanced.states().values()) == {"UP"})
                for each in (front, other):
                    each.close()
        finally:
            there.end()
