# SPDX-License-Identifier: MIT
"""
What one daemon publishes, the others of its database have soon, and at once where somebody asks.

Each has a clock of its own: what is not advanced stands still, or is dead.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from authority.database import statements
from authority.in_place import HeldThreads
from authority.network import WHO_VOTES, Network
from authority.state_files import POLICY_TEXT
from authority.test_reload import reload, successor
from authority.test_replicas import Two, heartbeat
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from gmesh.authority import limits
from gmesh.authority.approval_rules import APPROVALS_FILE
from gmesh.authority.audit import verify_chain
from gmesh.authority.audit_file import audit_rows
from gmesh.authority.metrics import AuthorityCollector
from gmesh.authority.rate_limit import RateLimits
from gmesh.errors import GmeshError
from gmesh.trust.documents import Crl, Document, Genesis, Policy, Status, parse_document
from gmesh.trust.encoding import b64url_encode

SOON = 0.5
"""Seconds after which the others have it."""
_DOCUMENTS: tuple[tuple[str, Any], ...] = (
    ("/status", Status),
    ("/crl", Crl),
    ("/policy", Policy),
    ("/genesis", Genesis),
)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    """Each signs with nonces of its own."""
    made = Two(tmp_path)
    made.two._counter = 10**6
    made.advance(5)
    yield made
    made.close()


def status(network: Network) -> Document[Status]:
    return parse_document(network.ask("GET", "/status").body, Status)


def shown(network: Network) -> Document[Status]:
    """What it would serve without a look."""
    return network.authority.publisher.status_document


def publish(network: Network, **changes: Any) -> int:
    """The next policy. @return: its version."""
    answer = network.admin("POST", "/admin/policies", {"text": {**POLICY_TEXT, **changes}})
    assert answer.status == 201, answer.body
    version: int = answer.json["version"]
    return version


def revoke(network: Network, name: str) -> int:
    """@return: the number of the CRL that names it."""
    answer = network.admin("POST", "/admin/revocations", {"node": name})
    assert answer.status == 201, answer.body
    number: int = answer.json["crl_number"]
    return number


def begin_to_revoke(network: Network) -> None:
    """Somebody else has the CRL made, perhaps."""
    body = json.dumps({"node": "pump-1"}).encode()
    headers = network.signed(network.keys.admin, "POST", "/admin/revocations", body)
    network.begin("POST", "/admin/revocations", headers, body)
    network.treq.flush()


def number_of(kind: str, body: Any) -> int:
    number: int = body.version if kind in ("/policy", "/genesis") else body.number
    return number


def go_round(two: Two, requests: int, changes: int) -> None:
    """A client that asks now here, now there; none of the numbers that it hears falls."""
    order = Random(12)
    heard: dict[str, int] = {}
    member = two.one.joined("pump-1")
    for request in range(requests):
        network = order.choice((two.one, two.two))
        if request % (requests // changes) == 0:
            publish(order.choice((two.one, two.two)), max_nodes=1000 + request)
        if request % 10 == 9:
            said = heartbeat(network, member, heard.get("/crl", 0))
            answer = network.ask(*said)
            assert answer.status == 200, answer.body
        else:
            kind, struct = order.choice(_DOCUMENTS)
            number = number_of(kind, parse_document(network.ask("GET", kind).body, struct).body)
            assert number >= heard.get(kind, 0), f"{kind} at request {request}"
            heard[kind] = number
        for each in order.sample((two.one, two.two), 2):
            each.clock.advance(0.11)
    assert heard["/policy"] > changes


def test_p12_who_goes_round_the_replicas_sees_no_number_fall(two: Two) -> None:
    """Though each looks by itself only now and then, and 20 changes are made meanwhile."""
    go_round(two, 300, 20)


@pytest.mark.soak
def test_p12_for_long(two: Two) -> None:
    """As the short one: 10,000 requests and 200 changes."""
    go_round(two, 10_000, 200)


def test_p12_a_heartbeat_that_names_more_is_answered_with_as_much(two: Two) -> None:
    """A node that heard of it elsewhere is not answered with less than it has."""
    member = two.one.joined("pump-1")
    two.one.joined("pump-2")
    number = revoke(two.one, "pump-2")
    answer = two.two.ask(*heartbeat(two.two, member, number))
    assert answer.json["status"]["signed"]["crl"]["number"] == number


def test_what_is_asked_for_waits_for_a_look_that_began_afterwards(two: Two) -> None:
    """One that runs already may have begun before the change, so it is not enough; the next serves all."""
    reader: Any = two.two.authority.store._reader
    in_place, reader.threadpool = reader.threadpool, HeldThreads()
    asked: list[Any] = []
    two.two.begin("GET", "/policy").addCallback(asked.append)
    two.two.treq.flush()
    running, held = reader.threadpool, HeldThreads()
    reader.threadpool = held
    for _ in range(3):
        two.two.begin("GET", "/policy").addCallback(asked.append)
    two.two.treq.flush()
    running.go()
    two.two.treq.flush()
    assert len(asked) == 1
    version = publish(two.one, max_nodes=7)
    assert len(held._waiting) == 1
    held.go()
    two.two.treq.flush()
    reader.threadpool = in_place
    versions = [parse_document(answer.body, Policy).body.version for answer in asked]
    assert versions == [version - 1, version, version, version]


def test_documents_are_served_as_they_are_held_where_the_database_does_not_answer(
    two: Two, logged: list[str]
) -> None:
    """After a second, and then at once for all who come; when it answers again the new ones are there."""
    reader: Any = two.two.authority.store._reader
    in_place, reader.threadpool = reader.threadpool, HeldThreads()
    before = two.two.authority.publisher.policy.body
    version = publish(two.one, max_nodes=7)
    asked: list[Any] = []
    two.two.begin("GET", "/policy").addCallback(asked.append)
    two.two.treq.flush()
    two.two.clock.advance(limits.LOOK_SECONDS - 0.1)
    assert asked == []
    two.two.clock.advance(0.1)
    two.two.treq.flush()
    assert [answer.body for answer in asked] == [before]
    assert two.two.ask("GET", "/policy").body == before
    reader.threadpool.go()
    reader.threadpool = in_place
    assert parse_document(two.two.ask("GET", "/policy").body, Policy).body.version == version
    assert [line for line in logged if "the database" in line] == [], "it was slow once, and is not away"


def test_a_look_that_finds_nothing_new_is_one_question(two: Two) -> None:
    """Asked for or not; what follows a change is fetched in a snapshot, once."""
    for _ in range(2):
        two.two.clock.advance(1)
        with statements() as ran:
            two.two.clock.advance(limits.FOLLOW_SECONDS)
            assert two.two.ask("GET", "/crl").status == 200
        assert len(ran) == 2 and ran[0] == ran[1] and ran[0].startswith("SELECT"), ran
        version = publish(two.one, max_nodes=7)
        with statements() as ran:
            two.two.clock.advance(limits.FOLLOW_SECONDS)
        assert two.two.authority.publisher.shown.policy == version
        assert [text.startswith("BEGIN") for text in ran[:2]] == [False, True], ran


class Broken:
    """A thread pool whose work fails."""

    def callInThreadWithCallback(self, done: Any, function: Any, *arguments: Any) -> None:
        done(False, Failure(sqlite3.OperationalError("gone")))


def test_one_line_says_that_the_database_is_gone_and_one_that_it_is_back(two: Two, logged: list[str]) -> None:
    """However long it lasts, and none where looks fail for less than five seconds; documents are served."""
    reader: Any = two.two.authority.store._reader
    in_place = reader.threadpool
    short = int(limits.FOLLOW_STALE_SECONDS / limits.FOLLOW_SECONDS)
    for looks in (short, 2 * short):
        assert logged == []
        reader.threadpool = Broken()
        for _ in range(looks):
            two.two.clock.advance(limits.FOLLOW_SECONDS)
            assert two.two.ask("GET", "/crl").status == 200
        reader.threadpool = in_place
        two.two.clock.advance(limits.FOLLOW_SECONDS)
    assert len(logged) == 2, logged
    assert "served as they are" in logged[0] and "answers again" in logged[1]


def test_a_database_that_hangs_is_told_once_it_lasts(two: Two, logged: list[str]) -> None:
    """Though no look is answered or refused meanwhile; and that it is back."""
    reader: Any = two.two.authority.store._reader
    in_place, reader.threadpool = reader.threadpool, HeldThreads()
    for _ in range(2 * limits.FOLLOW_STALE_SECONDS):
        two.two.clock.advance(1)
    assert len(logged) == 1, logged
    reader.threadpool.go()
    reader.threadpool = in_place
    assert len(logged) == 2, logged
    assert "served as they are" in logged[0] and "answers again" in logged[1]


def test_p13_a_long_poll_hears_of_a_change_that_another_replica_made(two: Two) -> None:
    """Within half a second, and of nothing before."""
    answered: list[Any] = []
    held = status(two.two)
    two.two.begin("GET", f"/status?after={held.digest}").addCallback(answered.append)
    two.two.treq.flush()
    two.advance(1)
    two.two.treq.flush()
    assert answered == []
    version = publish(two.one, max_nodes=7)
    two.two.clock.advance(SOON)
    two.two.treq.flush()
    assert parse_document(answered[0].body, Status).body.policy.version == version


def test_p13_who_holds_a_status_of_another_replica_is_not_answered_with_an_older_one(two: Two) -> None:
    """It is looked for, and then waited behind, as any that was shown here."""
    publish(two.one, max_nodes=7)
    newest = shown(two.one)
    assert newest.body.number > shown(two.two).body.number
    answered: list[Any] = []
    two.two.begin("GET", f"/status?after={newest.digest}").addCallback(answered.append)
    two.two.treq.flush()
    assert answered == [] and shown(two.two).digest == newest.digest


@pytest.mark.parametrize("listed", [True, False], ids=["before-the-status", "before-the-crl"])
def test_p14_what_a_replica_that_died_has_not_made_another_makes(
    two: Two, listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after a revocation's commit: within three seconds a status of another names the CRL."""
    two.one.joined("pump-1")
    two.advance(5)
    publish(two.one, max_nodes=7)  # the next status of this one waits, and it never comes to that
    if not listed:
        monkeypatch.setattr(two.one.authority.publisher.crl_maker, "make", Deferred)
    begin_to_revoke(two.one)
    before = shown(two.two).body.crl.number
    for _ in range(15):
        two.two.clock.advance(0.1)
    assert shown(two.two).body.crl.number == before, "its maker is left time"
    for _ in range(15):
        two.two.clock.advance(0.1)
    assert shown(two.two).body.crl.number == before + 1
    crl = parse_document(two.two.ask("GET", "/crl").body, Crl)
    assert crl.body.number == before + 1 and len(crl.body.revoked_nodes) == 1


def test_a_crl_made_here_of_what_another_revoked_has_its_members_judged_again(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though no look sees that one was owed, or a CRL that is newer than what is shown here."""
    member = two.one.joined("pump-1")
    two.advance(5)
    assert two.two.ask(*heartbeat(two.two, member, 0)).status == 200
    monkeypatch.setattr(two.one.authority.publisher.crl_maker, "make", Deferred)
    begin_to_revoke(two.one)
    maker = two.two.authority.publisher.crl_maker
    maker.owe()
    maker.again()
    two.advance(1)
    assert two.two.ask(*heartbeat(two.two, member, 0)).slug == "cert-revoked"


@pytest.mark.parametrize("tenths", [24, 25, 26, 27])
def test_p14_it_is_made_in_time_also_right_after_a_status(
    two: Two, monkeypatch: pytest.MonkeyPatch, tenths: int
) -> None:
    """Whenever one was made here meanwhile, though statuses are spaced: within three seconds."""
    two.one.joined("pump-1")
    two.advance(5)
    monkeypatch.setattr(two.two.authority.follower, "_random", lambda: 1.0)
    monkeypatch.setattr(two.one.authority.publisher.crl_maker, "make", Deferred)
    begin_to_revoke(two.one)
    before = shown(two.two).body.crl.number
    for tenth in range(1, 30):
        two.two.clock.advance(0.1)
        if tenth == tenths:
            publish(two.two, max_nodes=7)
    assert shown(two.two).body.crl.number == before + 1


def test_nothing_is_made_twice_while_its_maker_lives(two: Two) -> None:
    """The status that follows a change is one, and standing still makes none."""
    publish(two.one, max_nodes=7)
    number = shown(two.one).body.number
    for _ in range(120):
        two.advance(0.25)
    assert shown(two.one).body.number == shown(two.two).body.number == number


def test_p15_two_replicas_that_find_the_same_half_over_make_one(two: Two) -> None:
    """CRL, policy and status: whoever comes second finds it done, under the order."""
    before = two.one.authority.publisher.shown
    writers = [each.authority.store._writer for each in (two.one, two.two)]
    in_place = writers[0].threadpool
    for writer in writers:
        writer.threadpool = HeldThreads()
    two.advance(46 * 86_400)
    for _ in range(3):
        for writer in writers:
            writer.threadpool.go()
    for writer in writers:
        writer.threadpool = in_place
    two.advance(SOON)
    after = two.one.authority.publisher.shown
    assert (after.crl, after.policy) == (before.crl + 1, before.policy + 1)
    assert after == two.two.authority.publisher.shown
    rows = two.one.admin("GET", "/admin/audit?limit=500").json["entries"]
    assert [row["row"]["action"] for row in rows].count("policy-reissue") == 1


def test_p15_a_start_signs_a_status_only_where_there_is_cause(two: Two) -> None:
    """One beside others goes by theirs, while it is young and names what is in force."""
    number = shown(two.one).body.number
    two.two.restart()
    assert shown(two.two).body.number == number
    two.advance(limits.STATUS_SECONDS * 3 / 4)
    two.one.stop()
    two.two.stop()
    two.two.clock.advance(limits.STATUS_SECONDS)
    two.two.start()
    assert shown(two.two).body.number > number
    two.one.clock.advance(two.two.clock.seconds() - two.one.clock.seconds())
    two.one.start()


def test_p16_who_was_revoked_at_one_is_refused_at_the_other(two: Two) -> None:
    """A renewal at once; a heartbeat, which no database is asked for, within half a second."""
    member = two.one.joined("pump-1")
    two.two.clock.advance(SOON)
    assert two.two.ask(*heartbeat(two.two, member, 1)).status == 200
    revoke(two.one, "pump-1")
    assert two.two.renew(member).slug == "cert-revoked"
    two.two.clock.advance(SOON)
    assert two.two.ask(*heartbeat(two.two, member, 1)).slug == "cert-revoked"


def test_p17_a_policy_of_one_judges_the_next_join_at_the_other(two: Two) -> None:
    """How long certificates live, and how many nodes there may be; with no pause."""
    life = {"default": 7200, "max": 7200, "renew_grace": 86_400}
    first, second = two.one.invite("pump-1"), two.one.invite("pump-2")
    publish(two.one, certificate=life)
    assert two.two.join(first).status == 201
    assert first.certificate is not None
    assert first.certificate.body.not_after - first.certificate.body.not_before == 7200
    publish(two.one, max_nodes=1)
    assert two.two.join(second).slug == "network-full"


def test_p19_rules_that_one_took_are_asked_at_the_other_soon(two: Two) -> None:
    """Without a request being refused for having met them first; a host without the file reloads as ever."""
    second = two.one.keys.signing()
    body = {"key": b64url_encode(second.public), "role": "administer", "name": "B"}
    assert two.one.admin("POST", "/admin/operators", body).status == 201
    two.one.joined("pump-1")
    rules = {"required": 2, "operations": [*WHO_VOTES, "POST /admin/revocations"]}
    (two.one.path / APPROVALS_FILE).write_text(json.dumps(rules))
    reload(two.one)
    two.two.clock.advance(SOON)
    assert not (two.two.path / APPROVALS_FILE).exists()
    reload(two.two)
    assert two.two.admin("POST", "/admin/revocations", {"node": "pump-1"}).status == 202
    (two.two.path / APPROVALS_FILE).write_text("{}")
    with pytest.raises(GmeshError):
        reload(two.two)


def test_a_genesis_that_one_took_is_served_and_kept_by_the_other(two: Two) -> None:
    """At once where somebody asks for it; its files are in both directories."""
    second = successor(two.one, two.one.keys.root)
    answer = two.one.admin("POST", "/admin/genesis", {"genesis": second.as_dict()})
    assert answer.status == 201, answer.body
    assert two.two.ask("GET", "/genesis/2").body == second.encode()
    for each in (two.one, two.two):
        assert (each.path / "genesis.json").read_bytes() == second.encode()
        assert (each.path / "genesis.1.json").read_bytes() == two.one.genesis.encode()
    assert two.two.authority.issuer.genesis.body.version == 2


def test_a_genesis_that_could_not_be_written_is_written_when_it_can_be(two: Two, logged: list[str]) -> None:
    """One line says so meanwhile, and it is served all the same."""
    second = successor(two.one, two.one.keys.root)
    path = two.two.path / "genesis.json"
    path.unlink()
    path.mkdir()
    assert two.one.admin("POST", "/admin/genesis", {"genesis": second.as_dict()}).status == 201
    for _ in range(8):
        two.two.clock.advance(0.25)
    assert two.two.ask("GET", "/genesis/2").body == second.encode()
    assert len([line for line in logged if "genesis.json" in line]) == 1, logged
    path.rmdir()
    two.advance(SOON)
    assert path.read_bytes() == second.encode()


def lines(network: Network) -> list[bytes]:
    return (network.path / "audit.jsonl").read_bytes().splitlines()


def test_p28_every_replica_has_the_whole_audit_in_a_file(two: Two) -> None:
    """In order, whoever wrote which row, and equal."""
    for number in range(3):
        two.one.joined(f"pump-{number}")
        publish(two.two, max_nodes=50 + number)
    two.advance(SOON)
    size = two.one.admin("GET", "/admin/audit").json["size"]
    assert size > 9 and lines(two.one) == lines(two.two)
    rows = [(row.seq, row.entry, row.digest) for row in audit_rows(two.two.path / "audit.jsonl")]
    assert verify_chain(rows)[0] == size


def test_p28_a_file_that_could_not_be_written_is_caught_up_with(two: Two, logged: list[str]) -> None:
    """Whole, once there is room again; one line says so meanwhile, and everything else goes on."""
    path = two.two.path / "audit.jsonl"
    path.rename(two.two.path / "kept")
    path.mkdir()
    version = publish(two.one, max_nodes=7)
    for _ in range(8):
        two.two.clock.advance(0.25)
    assert parse_document(two.two.ask("GET", "/policy").body, Policy).body.version == version
    assert len([line for line in logged if "audit.jsonl" in line]) == 1, logged
    path.rmdir()
    (two.two.path / "kept").rename(path)
    with path.open("ab") as stream:
        stream.write(b'{"seq":')
    two.advance(SOON)
    assert lines(two.one) == lines(two.two)


def change(network: Network, statement: str, *values: object) -> None:
    """Somebody else writes into the database."""
    with closing(network.authority.store.engine.connect()) as connection:
        connection.cursor().execute(statement, values)


@pytest.mark.parametrize(
    ("statement", "values", "reason"),
    [
        ("UPDATE audit SET entry = ? WHERE seq = (SELECT max(seq) FROM audit)", [b"{}"], "audit-broken"),
        ("UPDATE audit SET hash = ? WHERE seq = (SELECT max(seq) - 1 FROM audit)", [bytes(32)], "older"),
        ("DELETE FROM audit WHERE seq >= (SELECT max(seq) - 1 FROM audit)", [], "older-database"),
    ],
    ids=["changed", "another", "gone"],
)
def test_p28_a_database_with_another_audit_is_reported_by_every_replica(
    two: Two, logged: list[str], statement: str, values: list[bytes], reason: str
) -> None:
    """Each says so once, and decides nothing any more."""
    two.advance(SOON)
    publish(two.one, max_nodes=7)
    change(two.one, statement, *values)
    for _ in range(4):
        two.advance(SOON)
    assert len([line for line in logged if line.startswith(reason)]) == 2, logged
    for each in (two.one, two.two):
        assert each.ask("GET", "/readyz").status == 503
        assert each.ask("GET", "/status").status == 200


def test_p28_it_is_reported_also_where_a_file_cannot_be_written(two: Two, logged: list[str]) -> None:
    """What is wrong with the database counts for more."""
    path = two.two.path / "genesis.json"
    path.unlink()
    path.mkdir()
    second = successor(two.one, two.one.keys.root)
    assert two.one.admin("POST", "/admin/genesis", {"genesis": second.as_dict()}).status == 201
    two.advance(SOON)
    change(two.one, "DELETE FROM audit WHERE seq >= (SELECT max(seq) - 1 FROM audit)")
    for _ in range(4):
        two.two.clock.advance(SOON)
    assert len([line for line in logged if line.startswith("older-database")]) == 1, logged
    assert two.two.ask("GET", "/readyz").status == 503


def test_a_document_that_cannot_be_read_keeps_back_no_other(two: Two, logged: list[str]) -> None:
    """A policy, say: CRLs are followed, one line says why it is not, and clients are sent elsewhere soon."""
    two.one.joined("pump-1")
    two.advance(SOON)
    held = two.two.ask("GET", "/policy").body
    version = publish(two.one, max_nodes=7)
    change(two.one, "UPDATE policy SET document = ? WHERE version = ?", b"{}", version)
    crl = revoke(two.one, "pump-1")
    for _ in range(limits.FOLLOW_STALE_SECONDS - 1):
        two.two.clock.advance(1)
    assert parse_document(two.two.ask("GET", "/crl").body, Crl).body.number == crl
    assert two.two.ask("GET", "/policy").body == held
    assert two.two.ask("GET", "/readyz").status == 200
    two.two.clock.advance(2)
    assert two.two.ask("GET", "/readyz").status == 503
    (told,) = [line for line in logged if line.startswith("unreadable") or "is away" in line]
    assert "the policy" in told
    publish(two.one, max_nodes=8)
    two.two.clock.advance(2)
    assert two.two.ask("GET", "/readyz").status == 200


def test_what_one_found_to_be_another_history_stops_all(two: Two, logged: list[str]) -> None:
    """It is a mark of the database, which both go by."""
    change(
        two.one,
        "INSERT INTO meta (name, value) VALUES ('another_history_at', 1) ON CONFLICT (name)"
        " DO UPDATE SET value = 1",
    )
    two.advance(SOON)
    for each in (two.one, two.two):
        assert each.ask("GET", "/readyz").slug == "another-history"


def test_metrics_say_how_old_what_is_shown_may_be(two: Two) -> None:
    """And whether looks are answered."""
    collector = AuthorityCollector(two.two.authority, two.two.limiter, [], two.two.wall)

    def measured() -> tuple[float, float]:
        found = {sample.name: sample.value for metric in collector.collect() for sample in metric.samples}
        return found["gmesh_authority_database_up"], found["gmesh_authority_follow_age_seconds"]

    two.two.clock.advance(SOON)
    assert measured() == (1, 0)
    reader: Any = two.two.authority.store._reader
    in_place, reader.threadpool = reader.threadpool, Broken()
    two.two.clock.advance(7)
    assert measured() == (0, 7)
    reader.threadpool = in_place
    two.two.clock.advance(SOON)
    assert measured() == (1, 0)


def test_a_daemon_alone_looks_at_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file of its own there is nobody to follow, and no document waits for the database."""
    monkeypatch.setattr(Network, "postgres", None)
    network = Network(tmp_path / "alone", RateLimits())
    reader: Any = network.authority.store._reader
    assert network.authority.follower is None
    in_place, reader.threadpool = reader.threadpool, HeldThreads()
    for path, _ in _DOCUMENTS:
        assert network.ask("GET", path).status == 200
    reader.threadpool = in_place
    network.stop()
