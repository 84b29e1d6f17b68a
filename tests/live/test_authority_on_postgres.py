# SPDX-License-Identifier: MIT
"""Real authority daemons on a real PostgreSQL server: waited for, killed, and found whole."""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from authority import state_files
from authority.postgres_server import PostgresServer, running
from click.testing import CliRunner
from live.authority_rig import DEADLINE, AuthorityProcess, Fleet, check_rows

from gmesh.authority import limits
from gmesh.cli.database import database
from gmesh.trust.documents import Certificate, parse_document

pytestmark = pytest.mark.live


class OnServer:
    """Daemons of one authority, the server of their database, and who asks the first of them."""

    def __init__(self, path: Path, server: PostgresServer, count: int) -> None:
        keys = state_files.Keys()
        policy = {**state_files.POLICY_TEXT, "max_nodes": 100_000}
        now = int(time.time()) - 60
        self.server = server
        self.url = server.database()
        named = path / "url"
        named.touch(mode=0o600)
        named.write_text(self.url)
        self.daemons = []
        free = ("--rate", "100000000", "--key-rate", "100000000", "--failure-rate", "1000000")
        for number in range(count):
            state = path / str(number) / "authority"
            genesis = state_files.write_state(state, keys, now, policy)
            self.daemons.append(
                AuthorityProcess(state, *free, "--connections", "0", "--database-file", str(named))
            )
        made = CliRunner().invoke(
            database, ["create", self.url, "--state", str(self.daemons[0].state)], catch_exceptions=False
        )
        assert made.exit_code == 0
        self.fleets = [Fleet(daemon, keys, genesis) for daemon in self.daemons]
        self.admitted: list[int] = []

    def join(self, fleet: Fleet, request: tuple[dict[str, str], bytes]) -> int | None:
        """One host joins. @return: the status; None if the connection broke."""
        try:
            status, answer = fleet.daemon.ask("POST", "/join", *request)
        except (OSError, ValueError, http.client.HTTPException):
            return None
        if status == 201:
            certificate = json.dumps(answer["certificate"]).encode()
            self.admitted.append(parse_document(certificate, Certificate).body.serial)
        return status

    def check(self) -> None:
        """Nothing that was acknowledged is lost, and nothing is half."""
        with psycopg.connect(self.url) as connection:
            serials = {row[0] for row in connection.execute("SELECT serial FROM certificate").fetchall()}
            used = connection.execute("SELECT used_serial FROM invite WHERE used_at IS NOT NULL").fetchall()
            entries = connection.execute("SELECT seq, entry, hash FROM audit ORDER BY seq").fetchall()
        check_rows(serials, [row[0] for row in used], entries, self.admitted)
        assert sorted(serials) == list(range(min(serials), min(serials) + len(serials)))

    def end(self) -> None:
        for daemon in self.daemons:
            if daemon.process is not None and daemon.process.poll() is None:
                daemon.process.kill()
                daemon.process.wait(DEADLINE)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """One of the test's own, which it may kill."""
    with running() as server:
        yield server


def test_p24_a_daemon_waits_for_its_server_and_serves_then(tmp_path: Path, server: PostgresServer) -> None:
    """One line says so; a killed server is waited for too, and a killed daemon goes on with all it said."""
    there = OnServer(tmp_path, server, 1)
    (daemon,), (fleet,) = there.daemons, there.fleets
    try:
        server.stop()
        daemon.spawn()
        daemon.logged(rb"cannot be reached: .*; waits for it")
        server.start()
        daemon.port = int(daemon.logged(rb"listening on tcp:(\d+)")[1])
        daemon.logged(rb" ready,")
        assert there.join(fleet, fleet.join_request(fleet.invite("pump-1"))) == 201
        request = fleet.join_request(fleet.invite("pump-2"))
        server.stop()
        with ThreadPoolExecutor(1) as pool:
            asked = time.monotonic()
            waiting = pool.submit(there.join, fleet, request)
            daemon.logged(rb"decisions wait, documents are served")
            assert daemon.ask("GET", "/status")[0] == 200
            done = waiting.done()
            assert not done or time.monotonic() - asked > limits.DATABASE_WAIT_SECONDS
            server.start()
            daemon.logged(rb"the database is back")
            late = time.monotonic() - asked > limits.DATABASE_WAIT_SECONDS
            status = waiting.result()
            assert status == 201 or (late and status == 503)
        daemon.end(signal.SIGKILL)
        text = daemon.log.read_text()
        assert text.count("cannot be reached") == 2 and "Traceback" not in text
        there.check()
    finally:
        there.end()


@pytest.mark.soak
def test_p3_p4_kills_of_daemons_and_of_the_server_lose_nothing(
    tmp_path: Path, server: PostgresServer
) -> None:
    """30 rounds under load on three daemons; each request is answered 2xx or 503, or its daemon is gone."""
    there = OnServer(tmp_path, server, 3)
    try:
        for daemon in there.daemons:
            daemon.start()
        for round_ in range(30):
            victim = there.daemons[round_ % 3] if round_ % 3 else None
            before = len(there.admitted)
            requests = [
                (fleet, fleet.join_request(fleet.invite(f"pump-{round_}-{place}-{number}")))
                for number in range(20)
                for place, fleet in enumerate(there.fleets)
            ]
            with ThreadPoolExecutor(12) as pool:
                jobs = [pool.submit(there.join, *request) for request in requests]
                while len(there.admitted) < before + 15 and not all(job.done() for job in jobs):
                    time.sleep(0.001)
                if victim is None:
                    server.stop()
                    server.start()
                else:
                    victim.end(signal.SIGKILL)
                statuses = {job.result() for job in jobs}
            assert statuses <= ({201, 503} if victim is None else {201, 503, None})
            there.check()
            if victim is not None:
                victim.start()
    finally:
        there.end()
