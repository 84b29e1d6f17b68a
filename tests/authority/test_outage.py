# SPDX-License-Identifier: MIT
"""The database goes and comes back: what waits is decided once, and everybody hears the truth in time."""

from __future__ import annotations

import errno
import json
import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from authority.in_place import HeldThreads
from authority.network import Answered, Network
from authority.postgres_proxy import Proxy
from authority.postgres_server import DatedEngine, PostgresServer
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from zope.interface import implementer

from gmesh.authority import limits
from gmesh.authority.rate_limit import RateLimits
from gmesh.authority.store.postgres import PostgresEngine
from gmesh.authority.store.transaction import AuditRow
from gmesh.errors import StoreError
from gmesh.trust.documents import Crl, parse_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.signed_requests import NODE_TAG

DOCUMENTS = ("status", "crl", "policy", "genesis")


class Behind(Network):
    """An authority whose way to its database can break."""

    proxy: Proxy

    def _make_engine(self) -> Any:
        direct: Any = super()._make_engine()
        self.direct = direct._dsn
        self.proxy = Proxy(Path(psycopg.conninfo.conninfo_to_dict(self.direct)["host"]))
        return DatedEngine(self.proxy.url(self.direct), self.wall)

    @property
    def crl(self) -> Crl:
        """As it is served."""
        return parse_document(self.ask("GET", "/crl").body, Crl).body

    def rows(self, action: str) -> int:
        """How many rows of the audit tell of an action, whatever the proxy does."""
        with psycopg.connect(self.direct) as connection:
            found = connection.execute("SELECT entry FROM audit").fetchall()
        return sum(json.loads(entry)["action"] == action for (entry,) in found)

    def asked(self, method: str, target: str, value: Any) -> list[Answered]:
        """Where the answer to a request of the administrator will be."""
        body = json.dumps(value).encode()
        answers: list[Answered] = []
        headers = self.signed(self.keys.admin, method, target, body)
        self.begin(method, target, headers, body).addCallback(answers.append)
        self.treq.flush()
        return answers

    def invited(self, name: str) -> list[Answered]:
        """Where the answer to a new invite will be."""
        key = b64url_encode(self.keys.signing().public)
        return self.asked("POST", "/admin/invites", {"invite_key": key, "name": name, "roles": ["client"]})

    def advance(self, seconds: int) -> None:
        for _ in range(10 * seconds):
            self.clock.advance(0.1)
            self.treq.flush()


@pytest.fixture
def behind(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rates: RateLimits
) -> Iterator[Behind]:
    monkeypatch.setattr(Network, "postgres", postgres)
    network = Behind(tmp_path / "authority", rates)
    yield network
    try:
        network.stop()
    finally:
        network.proxy.close()
    assert not network.clock.getDelayedCalls()


@pytest.mark.parametrize("when", ["begin", "before", "after"])
def test_p5_a_commit_whose_answer_is_lost_is_found_out(behind: Behind, when: str, logged: list[str]) -> None:
    """Whether it was done or not: the client hears the truth, and it is done once."""
    behind.joined("pump-1")
    before = behind.rows("revoke")
    behind.proxy.plan = when
    answers = behind.asked("POST", "/admin/revocations", {"node": "pump-1"})
    assert not answers and behind.proxy.plan == ""
    assert behind.rows("revoke") == before + (when == "after")
    behind.advance(1)
    assert [answer.status for answer in answers] == [201]
    assert behind.rows("revoke") == before + 1
    assert behind.crl.revoked_nodes and answers[0].json["crl_number"] == behind.crl.number
    counted = behind.authority.store.retried, behind.authority.store.resolved
    assert counted == {"begin": (0, 0), "before": (1, 1), "after": (0, 1)}[when]
    said = [line.rpartition(" ")[2] for line in logged if "commit that was not answered" in line]
    assert said == {"begin": [], "before": ["not"], "after": ["done"]}[when]


def test_p5_who_cannot_be_told_in_time_is_told_so_and_what_was_done_holds(behind: Behind) -> None:
    """The daemon goes on asking, and publishes what it finds was done."""
    behind.joined("pump-1")
    behind.proxy.plan = "after"
    answers = behind.asked("POST", "/admin/revocations", {"node": "pump-1"})
    behind.proxy.go()
    behind.advance(limits.DATABASE_WAIT_SECONDS + 1)
    assert [answer.status for answer in answers] == [503]
    behind.proxy.plan = ""
    behind.advance(12)  # a CRL that nobody waits for is looked for each ten seconds
    assert behind.crl.revoked_nodes
    assert behind.rows("revoke") == 1 and len(answers) == 1


def test_p10_while_the_database_is_away_documents_are_served_and_decisions_wait(
    behind: Behind, logged: list[str]
) -> None:
    """For 20 s, then they are refused and not done later; one line when it goes and one when it is back."""
    behind.joined("pump-1")
    logged.clear()
    behind.proxy.go()
    first = behind.invited("pump-2")
    behind.advance(limits.DATABASE_WAIT_SECONDS - 1)
    assert not first
    behind.advance(2)
    (refused,) = first
    assert refused.status == 503 and refused.headers.getRawHeaders("retry-after") == ["5"]
    for _ in range(5):
        behind.invited("pump-3")
        behind.advance(25)
        assert {behind.ask("GET", f"/{what}").status for what in ("status", "crl", "policy", "genesis")} == {
            200
        }
        assert behind.ask("GET", "/readyz").status == 503
    assert len(logged) < 20 and sum("cannot be reached" in line for line in logged) == 1
    assert behind.authority.store.retried == 0, "nothing was decided meanwhile"
    late = behind.invited("pump-4")
    behind.proxy.plan = ""
    behind.advance(1)
    assert [answer.status for answer in late] == [201]
    assert behind.ask("GET", "/readyz").status == 200
    assert sum("the database is back" in line for line in logged) == 1
    listed = behind.admin("GET", "/admin/invites").json["invites"]
    assert {invite["name"] for invite in listed} == {"pump-1", "pump-4"}


def test_a_daemon_that_stops_while_the_database_is_away_answers_who_waits(behind: Behind) -> None:
    """At once, and ends."""
    behind.proxy.go()
    answers = behind.invited("pump-1")
    assert not answers
    behind.stop()
    behind.treq.flush()
    assert [answer.status for answer in answers] == [503]
    behind.proxy.plan = ""
    behind.start()


def test_a_reader_whose_connection_broke_is_asked_on_another(behind: Behind, logged: list[str]) -> None:
    """Who reads notices nothing of a server that was restarted."""
    assert behind.admin("GET", "/admin/nodes").status == 200
    behind.proxy.go()
    behind.proxy.plan = ""
    logged.clear()
    assert behind.admin("GET", "/admin/nodes").status == 200
    assert not logged


def test_a_database_that_is_back_and_is_refused_is_not_asked_for_ever(
    behind: Behind, logged: list[str]
) -> None:
    """An older one was put in its place: one line says so, and a stop ends."""
    behind.joined("pump-1")
    behind.proxy.go()
    behind.invited("pump-2")
    behind.advance(limits.DATABASE_WAIT_SECONDS + 1)
    with psycopg.connect(behind.direct) as connection:
        connection.execute("DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)")
    store = behind.authority.store
    groups = store.groups
    logged.clear()
    behind.proxy.plan = ""
    behind.advance(2)
    assert store.groups - groups == 1 and store.outage.trouble is None
    assert sum("nothing was written: older-database" in line for line in logged) == 1
    assert behind.ask("GET", "/readyz").status == 503


def test_a_reader_without_room_costs_that_request_alone(behind: Behind, logged: list[str]) -> None:
    """Others are decided meanwhile; it is told to come again, and is answered then."""
    reader: Any = behind.authority.store._reader
    for connection in list(reader.connections.values()):
        reader.disconnect(connection)
    behind.proxy.plan = "full"
    answer = behind.admin("GET", "/admin/nodes")
    assert (answer.status, answer.slug) == (503, "unavailable")
    assert answer.headers.getRawHeaders("retry-after") == ["5"]
    assert any("too many clients" in line for line in logged)
    assert behind.authority.store.outage.trouble is None
    decided: list[Any] = []
    behind.authority.store.decide(lambda tx: tx.now).addBoth(decided.append)
    assert decided == [behind.now]
    behind.proxy.plan = ""
    assert behind.admin("GET", "/admin/nodes").status == 200
    assert not [line for line in logged if "decisions wait" in line or "is back" in line]


def test_a_question_that_takes_too_long_costs_itself_alone(behind: Behind) -> None:
    """The server cancels it."""
    asked: list[str] = []

    def slow(reader: Any) -> None:
        asked.append("slow")
        reader._cursor.several("SET LOCAL statement_timeout = '20ms'")
        reader.all("SELECT pg_sleep(30)")

    told: list[Any] = []
    behind.authority.store.read(slow).addErrback(told.append)
    assert told[0].check(StoreError) and told[0].value.reason == "unavailable" and asked == ["slow"]
    assert behind.authority.store.outage.trouble is None
    assert [answer.status for answer in behind.invited("pump-1")] == [201]


def test_a_note_that_takes_too_long_says_nothing_of_decisions(behind: Behind) -> None:
    """Others are sent to this daemon as before, and what it hears of members is written as before."""
    authority = behind.authority

    def slow(notes: Any) -> None:
        notes._cursor.several("SET LOCAL statement_timeout = '20ms'")
        notes.all("SELECT pg_sleep(30)")

    told: list[Any] = []
    authority.store.note(slow).addErrback(told.append)
    assert told[0].value.reason == "unavailable"
    assert authority.store.writable and authority.seems_ready()


def test_what_is_queued_is_decided_at_once_when_the_database_answers(behind: Behind) -> None:
    """A reader met no server while a group was written: the next does not wait for another try."""
    store = behind.authority.store
    writer: Any = store._writer
    at_once, writer.threadpool = writer.threadpool, HeldThreads()
    answers = [behind.invited(name) for name in ("pump-1", "pump-2")]
    store.outage.gone(StoreError("unavailable", "no server"))
    writer.threadpool.go()
    writer.threadpool = at_once
    behind.treq.flush()
    assert [answer.status for (answer,) in answers] == [201, 201]


def test_one_line_says_that_it_is_back_also_where_it_was_silent_first(
    behind: Behind, logged: list[str]
) -> None:
    """Looks were not answered, and then the connection was cut."""
    reader: Any = behind.authority.store._reader
    at_once, reader.threadpool = reader.threadpool, HeldThreads()
    behind.advance(3 * limits.FOLLOW_STALE_SECONDS)
    assert sum("the database is away" in line for line in logged) == 1, logged
    behind.proxy.go()
    reader.threadpool.go()
    reader.threadpool = at_once
    behind.advance(1)
    behind.proxy.plan = ""
    behind.advance(12)
    back = [line for line in logged if "answers again" in line or "is back" in line]
    assert len(back) == 1, logged


def test_who_waits_for_a_connection_has_no_wrong_clock_for_that(behind: Behind) -> None:
    """The time is read when the connection is there."""
    writer: Any = behind.authority.store._writer
    at_once, writer.threadpool = writer.threadpool, HeldThreads()
    answers = behind.invited("pump-1")
    behind.advance(limits.CLOCK_DIFFERENCE_SECONDS + 1)
    writer.threadpool.go()
    writer.threadpool = at_once
    behind.treq.flush()
    assert [answer.status for answer in answers] == [201]


def test_a_start_that_took_long_before_the_database_has_no_wrong_clock(
    behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A passphrase was asked for, perhaps."""
    behind.stop()
    first = iter([behind.now - limits.CLOCK_DIFFERENCE_SECONDS - 1.0])
    real = behind.wall
    monkeypatch.setattr(behind, "wall", lambda: next(first, None) or real())
    behind.start()
    assert behind.ask("GET", "/readyz").status == 200


def test_members_have_the_documents_while_the_database_is_away(behind: Behind) -> None:
    """As strangers have them: once it is known to be away, at once."""
    member = behind.joined("pump-1")
    behind.proxy.go()
    answers: list[Answered] = []
    for document in DOCUMENTS:
        target = f"/{document}"
        headers = behind.signed(member.node, "GET", target, tag=NODE_TAG)
        behind.begin("GET", target, headers).addCallback(answers.append)
        behind.treq.flush()
    assert [answer.status for answer in answers] == [200] * (len(DOCUMENTS) - 1)
    behind.advance(limits.DATABASE_WAIT_SECONDS + 1)
    assert [answer.status for answer in answers] == [200] * len(DOCUMENTS)


def test_a_commit_is_found_out_although_its_audit_could_not_be_written_at_first(
    behind: Behind, monkeypatch: pytest.MonkeyPatch, flush_logged_errors: Any
) -> None:
    """The disk of this host was full for a moment: it is tried again, and the writer goes on."""
    behind.joined("pump-1")
    tried: list[int] = []

    def mirror(rows: list[AuditRow]) -> None:
        tried.append(len(rows))
        if len(tried) == 1:
            raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(behind.authority.store, "_mirror", mirror)
    behind.proxy.plan = "after"
    answers = behind.asked("POST", "/admin/revocations", {"node": "pump-1"})
    behind.advance(2)
    assert [answer.status for answer in answers] == [201] and tried[:2] == [1, 1]
    assert behind.invited("pump-2")[0].status == 201
    assert len(flush_logged_errors(OSError)) == 1


def test_long_work_that_met_no_server_is_told_what_the_matter_is(behind: Behind) -> None:
    """In our words."""
    behind.proxy.go()
    told: list[Any] = []
    behind.authority.store.in_thread(lambda: behind.engine.connect()).addBoth(told.append)
    assert told[0].check(StoreError) and told[0].value.reason == "unavailable"


@implementer(IReactorTime)
class ClockOfThreads(Clock):
    """
    Time that obeys.

    @ivar handed: what threads want to be done in the thread of the test.
    """

    def __init__(self) -> None:
        super().__init__()
        self.handed: queue.Queue[tuple[Any, ...]] = queue.Queue()

    def callFromThread(self, function: Any, *arguments: Any) -> None:
        self.handed.put((function, *arguments))

    def wait(self) -> None:
        """Do the next of it."""
        function, *arguments = self.handed.get(timeout=60)
        function(*arguments)

    def callWhenRunning(self, function: Any) -> None:
        return None


@pytest.mark.parametrize("where", ["question", "commit", "rollback"])
def test_p11_a_server_that_never_answers_is_cut_off_and_its_thread_goes_on(
    postgres: PostgresServer, where: str
) -> None:
    """After 20 s, each time; the next work has a connection that answers."""
    url = postgres.database()
    proxy = Proxy(Path(psycopg.conninfo.conninfo_to_dict(url)["host"]))
    clock = ClockOfThreads()
    pool = PostgresEngine(proxy.url(url)).writer_pool(clock)
    pool.threadpool.start()
    told: list[Any] = []

    def ask(work: Callable[[Any], object]) -> None:
        pool.runWithConnection(work).addBoth(told.append)

    def hang(connection: Any) -> None:
        connection.execute("BEGIN")
        proxy.plan = "hang"
        if where == "question":
            connection.execute("SELECT 1")
        if where == "rollback":
            raise LookupError

    try:
        for _ in range(3):
            ask(lambda connection: connection.execute("SELECT 1").fetchone())
            clock.wait()
            assert told.pop() == (1,)
            ask(hang)
            assert proxy.hung.get(timeout=60)
            clock.advance(limits.DATABASE_WAIT_SECONDS - 0.5)
            assert clock.handed.empty() and not told
            clock.advance(0.5)
            clock.wait()
            assert told.pop().check(LookupError if where == "rollback" else psycopg.OperationalError)
            proxy.plan = ""
    finally:
        pool.threadpool.stop()
        proxy.close()
