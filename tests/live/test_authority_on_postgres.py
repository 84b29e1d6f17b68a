# SPDX-License-Identifier: MIT
"""Real authority daemons on a real PostgreSQL server: waited for, killed, and found whole."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from authority.pgbouncer import pooled
from authority.postgres_server import PostgresServer, running
from live.authority_rig import AuthorityProcess, Fleet
from live.replica_rig import OnServer, Request
from psycopg.conninfo import conninfo_to_dict

from gmesh.authority import limits
from gmesh.trust.invite import Invite
from gmesh.trust.keys import NoiseKey, SigningKey

pytestmark = pytest.mark.live
CLIENTS, INVITES = 64, 30
HOSTS = 20
"""That join at each daemon in a round."""


class Host:
    """
    It has an invite, and keys.

    @param fleet: of the daemon that it asks first.
    """

    def __init__(self, fleet: Fleet, invite: Invite) -> None:
        self.fleet, self._invite = fleet, invite
        self._keys = SigningKey.generate(), NoiseKey.generate()

    def request(self, fleet: Fleet) -> Request:
        """To join, signed anew each time."""
        return fleet.join_request(self._invite, *self._keys)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """One of the test's own, which it may kill."""
    with running() as server:
        yield server


def test_p24_a_daemon_waits_for_its_server_and_serves_then(tmp_path: Path, server: PostgresServer) -> None:
    """One line says so; a killed server is waited for too, and a killed daemon goes on with all it said."""
    there = OnServer(tmp_path, server.database(), 1)
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


@pytest.fixture(params=["direct", "pgbouncer"])
def way(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A server, asked as it is or through PgBouncer in transaction mode (P32)."""
    with running() if request.param == "direct" else pooled() as server:
        yield server


@pytest.mark.soak
def test_p1_p32_one_invite_admits_one_of_64(
    tmp_path: Path, way: PostgresServer, record_property: Callable[[str, object], None]
) -> None:
    """30 invites, each tried by 64 clients at three daemons: one is a member, the others are refused."""
    there = OnServer(tmp_path, way.database(), 3)
    answers: Counter[tuple[int, str]] = Counter()
    try:
        there.start()
        with ThreadPoolExecutor(CLIENTS) as pool:
            for number in range(INVITES):
                invite = there.fleets[number % 3].invite(f"pump-{number}")
                fleets = [there.fleets[client % 3] for client in range(CLIENTS)]
                requests = [fleet.join_request(invite) for fleet in fleets]
                jobs = [
                    pool.submit(fleet.daemon.ask, "POST", "/join", *request)
                    for fleet, request in zip(fleets, requests, strict=True)
                ]
                answered = [job.result() for job in jobs]
                for status, answer in answered:
                    answers[status, answer.get("type", "")] += 1
                (admitted,) = (answer for status, answer in answered if status == 201)
                there.admits(admitted)
        record_property("answers", dict(answers))
        assert there.check() == len(there.admitted) == INVITES
        refused = (403, "urn:gmesh:problem:enrolment-refused")
        assert answers == {(201, ""): INVITES, refused: INVITES * (CLIENTS - 1)}
    finally:
        there.end()


class Unanswered:
    """
    Commits wait for a standby that there is not: so a server is killed inside one.

    @param url: of the daemons' database, without a pool.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def _sql(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def begin(self) -> None:
        self._sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        self._sql("SELECT pg_reload_conf()")

    def end(self) -> None:
        self._sql("ALTER SYSTEM RESET synchronous_standby_names")
        self._sql("SELECT pg_reload_conf()")

    def has_one(self) -> bool:
        """Whether whoever decides waits for the answer to a commit."""
        asked = "SELECT 1 FROM pg_stat_activity JOIN pg_locks USING (pid)"
        return self._sql(f"{asked} WHERE wait_event = 'SyncRep' AND relation = 'ordering'::regclass") != []


class Kills:
    """Rounds of the same load on three daemons, of which one is killed, or their server."""

    def __init__(self, there: OnServer, server: PostgresServer) -> None:
        self._there, self._server = there, server
        self.answers: Counter[str] = Counter()

    def run(self, name: str, victim: AuthorityProcess | None, inside: bool = False) -> None:
        """One round: each host is a member at its end, by asking once more elsewhere if it must."""
        there = self._there
        hosts = [
            Host(fleet, fleet.invite(f"pump-{name}-{place}-{number}"))
            for number in range(HOSTS)
            for place, fleet in enumerate(there.fleets)
        ]
        waits = Unanswered(self._server.url(str(conninfo_to_dict(there.url)["dbname"])))
        if inside:
            waits.begin()
        with ThreadPoolExecutor(12) as pool:
            before = len(there.admitted)
            jobs = [pool.submit(there.join, host.fleet, host.request(host.fleet)) for host in hosts]
            while not (waits.has_one() if inside else len(there.admitted) >= before + 15):
                assert not all(job.done() for job in jobs)
                time.sleep(0.001)
            if victim is None:
                self._server.stop()
                self._server.start()
            else:
                victim.end(signal.SIGKILL)
            if inside:
                waits.end()
            statuses = [job.result() for job in jobs]
        what = "server" if victim is None else "daemon"
        self.answers.update(f"{what} killed: {status}" for status in statuses)
        assert set(statuses) <= ({201, 503} if victim is None else {201, 503, None})
        for host, status in zip(hosts, statuses, strict=True):
            if status != 201:
                mine = (host.fleet.daemon, victim)
                other = next(fleet for fleet in there.fleets if fleet.daemon not in mine)
                again = there.join(other, host.request(other))
                assert again in (200, 201)
                self.answers[f"{what} killed: {status}, then {again}"] += 1
        there.check()


@pytest.mark.soak
def test_p3_p4_p32_kills_of_daemons_and_of_the_server_lose_nothing(
    tmp_path: Path, way: PostgresServer, record_property: Callable[[str, object], None]
) -> None:
    """30 and 10 under load, one inside COMMIT; each request is answered 2xx or 503, or its daemon is gone."""
    there = OnServer(tmp_path, way.database(), 3)
    kills = Kills(there, way)
    try:
        there.start()
        for round_ in range(30):
            kills.run(f"{round_}", there.daemons[round_ % 3])
            there.daemons[round_ % 3].start()
            if round_ % 3 == 0:
                kills.run(f"{round_}-server", None, inside=round_ == 15)
            if round_ == 15:
                told = [daemon.log.read_text() for daemon in there.daemons]
                assert sum(text.count("a commit that was not answered was done") for text in told) >= 1
        record_property("answers", dict(kills.answers))
        assert there.check() == len(set(there.admitted)) == 40 * 3 * HOSTS
    finally:
        there.end()
