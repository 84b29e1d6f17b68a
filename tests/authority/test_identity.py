# SPDX-License-Identifier: MIT
"""A shared database that is not the one it was: a standby took over, or an older one was put in its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from authority.network import Network
from authority.postgres_server import PostgresServer
from authority.state_files import POLICY_TEXT
from authority.test_backups import body
from authority.test_follow import SOON, publish
from authority.test_replicas import Two
from twisted.python.failure import Failure

from gmesh.authority.audit import chain_hash
from gmesh.authority.store.transaction import SERIALS_PER_EPOCH
from gmesh.errors import StoreError
from gmesh.trust.documents import Crl, Policy, Status


def sql(network: Network, *statements: str) -> Any:
    """Words of whoever looks after the database. @return: the first row of the last."""
    with psycopg.connect(network.engine._dsn, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchone() if cursor.description else None


def promote(network: Network, synchronous: int) -> None:
    """As if what was noted were of the server before."""
    sql(
        network,
        "UPDATE meta SET value = value - 1 WHERE name = 'timeline'",
        f"UPDATE meta SET value = {synchronous} WHERE name = 'synchronous'",
    )


def audited(network: Network, action: str) -> list[dict[str, Any]]:
    rows = network.admin("GET", "/admin/audit?limit=500").json["entries"]
    return [entry["row"] for entry in rows if entry["row"]["action"] == action]


def test_the_server_is_noted_and_found_the_same(shared: Network) -> None:
    """Number, timeline and whether a standby is waited for, as PostgreSQL's own functions give them."""
    (system,) = sql(shared, "SELECT system_identifier FROM pg_control_system()")
    shared.joined("pump-1")
    with psycopg.connect(shared.engine._dsn) as connection:
        noted = dict(connection.execute("SELECT name, value FROM meta").fetchall())
    assert (noted["system"], noted["timeline"], noted["synchronous"], noted["epoch"]) == (system, 1, 0, 0)


def test_p7_after_a_synchronous_promotion_all_goes_on(shared: Network) -> None:
    """Same epoch; no row about it but the daemon's log."""
    shared.joined("pump-1")
    promote(shared, synchronous=1)
    assert shared.joined("pump-2").certificate.body.serial < SERIALS_PER_EPOCH
    assert audited(shared, "promotion") == []


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_p9_after_another_promotion_a_new_epoch_begins_first(shared: Network, running: bool) -> None:
    """Everything that is issued lies above all that can have been; open invites and votes are withdrawn."""
    member = shared.joined("pump-1")
    shared.admin("POST", "/admin/revocations", {"node": "pump-1"})
    invite = shared.invite("pump-2")
    if not running:
        shared.stop()
    promote(shared, synchronous=0)
    shared.clock.advance(2)
    if not running:
        shared.start()
    assert shared.join(invite).slug == "stale"  # it may have been obeyed by the server before
    shared.clock.advance(2)
    assert shared.join(invite).slug == "enrolment-refused"
    shared.clock.advance(2)
    status = body(shared, "status", Status)
    crl, policy = body(shared, "crl", Crl), body(shared, "policy", Policy)
    assert min(status.number, crl.number, policy.version) > SERIALS_PER_EPOCH
    assert (status.crl.number, status.policy.version) == (crl.number, policy.version)
    assert [each[0] for each in crl.revoked_nodes] == [member.node.key_id]
    assert shared.joined("pump-3").certificate.body.serial > SERIALS_PER_EPOCH
    (row,) = audited(shared, "promotion")
    assert (row["target"], row["previous_epoch"], row["invites_withdrawn"]) == ("1", 0, 1)
    shared.clock.advance(2)
    assert (
        shared.joined("pump-4").certificate.body.serial == shared.joined("pump-5").certificate.body.serial - 1
    )


def test_a_member_whose_join_was_lost_comes_back(shared: Network) -> None:
    """By its certificate, which the authority's key signed."""
    shared.joined("pump-1")
    counters = sql(shared, "SELECT n FROM counter WHERE name = 'serial'")
    lost = shared.joined("pump-2")
    shared.stop()
    (shared.path / "audit.jsonl").unlink()  # or this host would know, and refuse
    serial = lost.certificate.body.serial
    sql(
        shared,
        f"DELETE FROM certificate WHERE serial = {serial}",
        "DELETE FROM node WHERE name = 'pump-2'",
        f"UPDATE counter SET n = {counters[0]} WHERE name = 'serial'",
    )
    promote(shared, synchronous=0)
    shared.clock.advance(2)
    shared.start()
    shared.clock.advance(2)
    assert shared.renew(lost).status == 201


def test_p27_a_database_of_another_server_is_refused(shared: Network) -> None:
    """Running or at the start, with one line that says what to do."""
    shared.joined("pump-1")
    sql(shared, "UPDATE meta SET value = value + 1 WHERE name = 'system'")
    refused = shared.admin("POST", "/admin/revocations", {"node": "pump-1"})
    assert (refused.status, refused.slug) == (503, "older-database")
    shared.stop()
    with pytest.raises(StoreError, match="gmesh database adopt") as caught:
        shared.start()
    assert caught.value.reason == "older-database" and "\n" not in caught.value.detail
    sql(shared, "UPDATE meta SET value = value - 1 WHERE name = 'system'")
    shared.start()


def test_p8_rows_of_other_daemons_are_no_sign_of_anything_lost(shared: Network) -> None:
    """The newest row that was seen need not be one that this daemon wrote."""
    shared.joined("pump-1")
    seq, previous = sql(shared, "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
    entry = b'{"action":"join","outcome":"refused"}'
    with psycopg.connect(shared.engine._dsn) as connection:
        row = (seq + 1, entry, chain_hash(seq + 1, previous, entry))
        connection.execute("INSERT INTO audit VALUES (%s, %s, %s)", row)
    shared.clock.advance(1)
    promote(shared, synchronous=1)
    shared.joined("pump-2")


def test_p8_what_this_daemon_wrote_must_be_there(shared: Network) -> None:
    """Rows that are gone, or others in their place: nothing is issued, not even a new epoch."""
    shared.joined("pump-1")
    shared.clock.advance(1)  # it follows itself, and has written its audit.jsonl
    (last,) = sql(shared, "SELECT max(seq) FROM audit")
    (row,) = sql(shared, f"DELETE FROM audit WHERE seq = {last} RETURNING entry")
    promote(shared, synchronous=0)
    assert shared.admin("POST", "/admin/revocations", {"node": "pump-1"}).slug == "older-database"
    with psycopg.connect(shared.engine._dsn) as connection:
        connection.execute("INSERT INTO audit VALUES (%s, %s, %s)", (last, row, bytes(32)))
    assert shared.admin("POST", "/admin/revocations", {"node": "pump-1"}).slug == "older-database"
    assert sql(shared, "SELECT value FROM meta WHERE name = 'epoch'") == (0,)
    shared.stop()
    with pytest.raises(StoreError, match=f"lacks row {last} of") as caught:
        shared.start()
    assert caught.value.reason == "older-database"
    (shared.path / "audit.jsonl").unlink()
    sql(
        shared,
        f"DELETE FROM audit WHERE seq = {last}",
        "DELETE FROM meta WHERE name = 'older_database_at'",  # or it would be for people to decide
    )
    shared.clock.advance(2)
    shared.start()


def test_an_audit_tells_of_the_epoch_that_a_promotion_began(shared: Network, tmp_path: Path) -> None:
    """Heads of nodes from before and after are told apart."""
    from gmesh.authority.audit_file import survey

    shared.joined("pump-1")
    assert survey(shared.path / "audit.jsonl", []).epoch == 0
    promote(shared, synchronous=0)
    shared.ask("GET", "/readyz")
    shared.clock.advance(2)
    shared.joined("pump-2")
    shared.stop()
    found = survey(shared.path / "audit.jsonl", [])
    assert (found.epoch, found.broken) == (1, "")
    assert json.loads((shared.path / "audit.jsonl").read_text().splitlines()[-1])["seq"] == found.size
    shared.start()


@pytest.fixture
def two(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Two]:
    """Two daemons on PostgreSQL, each with nonces of its own."""
    monkeypatch.setattr(Network, "postgres", postgres)
    made = Two(tmp_path)
    made.two._counter = 10**6
    yield made
    made.close()


@pytest.mark.parametrize("how", ["look", "decision"])
def test_p8_what_one_has_seen_and_is_gone_stops_all(two: Two, how: str) -> None:
    """Though the other one saw less: it decides nothing either, and serves what it holds."""
    two.advance(5)
    publish(two.one, max_nodes=7)
    if how == "look":
        two.one.clock.advance(SOON)  # it has followed itself, and the other one has not looked
    sql(two.one, "DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)")
    if how == "look":
        two.one.clock.advance(SOON)
    for each in (two.one, two.two):
        answer = each.admin("POST", "/admin/policies", {"text": {**POLICY_TEXT, "max_nodes": 8}})
        assert answer.slug == "older-database" and "gmesh database adopt" in answer.json["detail"]
        assert each.ask("GET", "/readyz").slug == "older-database"
        assert each.ask("GET", "/status").status == 200


class NoRoom:
    """A thread pool whose work meets a full disk."""

    def callInThreadWithCallback(self, done: Any, function: Any, *arguments: Any) -> None:
        done(False, Failure(psycopg.errors.DiskFull("no space left on device")))


def test_p8_others_are_told_though_the_first_try_failed(two: Two) -> None:
    """The mark is tried again with each look, by the daemon that decides nothing any more."""
    two.advance(5)
    publish(two.one, max_nodes=7)
    two.one.clock.advance(SOON)
    sql(two.one, "DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)")
    writer: Any = two.one.authority.store._writer
    in_place, writer.threadpool = writer.threadpool, NoRoom()
    two.one.clock.advance(SOON)
    writer.threadpool = in_place
    two.two.clock.advance(SOON)
    assert two.one.ask("GET", "/readyz").slug == "older-database"
    assert two.two.ask("GET", "/readyz").status == 200
    two.advance(SOON)
    assert two.two.ask("GET", "/readyz").slug == "older-database"


def test_p8_others_are_told_though_nothing_is_asked_of_them(two: Two, logged: list[str]) -> None:
    """They find the mark with their next look, and each says so once."""
    two.advance(5)
    publish(two.one, max_nodes=7)
    two.one.clock.advance(SOON)
    sql(two.one, "DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)")
    for _ in range(3):
        for each in (two.one, two.two):
            each.clock.advance(SOON)
    own, others = [line for line in logged if line.startswith("older-database")]
    assert "lacks row" in own and "another daemon has seen" in others
    assert not two.two.authority.seems_ready()
