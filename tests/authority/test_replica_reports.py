# SPDX-License-Identifier: MIT
"""The daemons of one database are told apart, and each must be able to sign."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from authority.network import Network
from authority.postgres_server import DatedEngine, PostgresServer
from authority.test_reload import reload, successor
from authority.test_replicas import Replica, Two

from gmesh import __version__
from gmesh.authority import limits
from gmesh.authority.rate_limit import RateLimits
from gmesh.trust.documents import AuthorityKey, Status, parse_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import SigningKey


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    """Each on a host with a name of its own."""
    made = Two(tmp_path)
    made.two._counter = 10**6
    for network, name in ((made.one, "one.example"), (made.two, "two.example")):
        store = network.authority.store
        assert store.replica is not None
        store.replica = msgspec.structs.replace(store.replica, name=name, boot=name)
        store.note(lambda notes: notes.execute("DELETE FROM replica WHERE boot NOT LIKE '%.example'"))
        network.authority.replicas.report()
    yield made
    made.close()


def listed(network: Network) -> dict[str, Any]:
    """What an operator sees there, by name."""
    answer = network.admin("GET", "/admin/replicas").json
    assert answer["next"] is None
    return {row["name"]: row for row in answer["replicas"]}


def test_every_daemon_of_a_database_is_listed_by_each(two: Two) -> None:
    """With its version, since when, when it was last heard of, its keys, what it serves."""
    two.advance(5)
    for network in (two.one, two.two):
        rows = listed(network)
        assert sorted(rows) == ["one.example", "two.example"]
        for row in rows.values():
            assert (row["version"], row["ready"]) == (__version__, True)
            assert row["keys"] == [network.keys.authority.key_id]
            assert row["since"] <= row["seen"] <= network.now
            assert row["numbers"]["genesis"] == 1 and row["numbers"]["status"] >= 1
    assert listed(two.one)["one.example"]["seen"] == two.one.now


def test_a_list_of_daemons_comes_in_pages(two: Two) -> None:
    """As every list, without one left out or twice."""
    found, after = [], ""
    while after is not None:
        answer = two.one.admin("GET", f"/admin/replicas?limit=1&after={after}").json
        found += [row["name"] for row in answer["replicas"]]
        after = answer["next"]
    assert sorted(found) == ["one.example", "two.example"]


def test_one_that_died_is_not_ready_and_one_that_stopped_is_gone(two: Two) -> None:
    """After half a minute of silence; what nobody heard of for a day is forgotten."""
    for _ in range(4):
        two.one.clock.advance(10)
    rows = listed(two.one)
    assert rows["one.example"]["ready"] and not rows["two.example"]["ready"]
    for _ in range(2):
        two.one.clock.advance(limits.REPLICA_KEPT_SECONDS)
    assert sorted(listed(two.one)) == ["one.example"]
    two.two.clock.advance(two.one.clock.seconds() - two.two.clock.seconds())
    two.two.stop()
    assert sorted(listed(two.one)) == ["one.example"]
    two.two.start()


class Behind(Replica):
    """On a host whose clock is behind that of the database, by less than what is refused."""

    BEHIND = limits.CLOCK_DIFFERENCE_SECONDS - 2

    def _make_engine(self) -> Any:
        direct: Any = super()._make_engine()
        return DatedEngine(direct._dsn, lambda: self.wall() + self.BEHIND)


@pytest.fixture
def slow(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Behind]:
    monkeypatch.setattr(Network, "postgres", postgres)
    network = Behind(tmp_path / "authority", RateLimits())
    network.clock.advance(limits.REPLICA_REPORT_SECONDS)
    yield network
    network.stop()


def test_a_daemon_is_heard_of_by_the_time_of_the_database(slow: Behind) -> None:
    """By which the others judge whether it lives, whatever the clock of its host says."""
    with psycopg.connect(slow.engine._dsn) as connection:
        found = connection.execute("SELECT seen_at FROM replica").fetchall()
    assert found == [(slow.now + Behind.BEHIND,)]


def test_who_lives_is_judged_by_the_time_of_the_database(slow: Behind) -> None:
    """Whatever the clock of the host says that is asked; its own row has that time too."""
    there = slow.now + Behind.BEHIND
    ages = {"lives": limits.REPLICA_LIVE_SECONDS - 1, "gone": limits.REPLICA_LIVE_SECONDS + 1}
    with psycopg.connect(slow.engine._dsn) as connection:
        for name, age in ages.items():
            connection.execute(
                "INSERT INTO replica (boot, name, version, schema, keys, rules, started_at, seen_at, turn,"
                " numbers, ready) VALUES (%s, %s, '1', 1, '', 1, 0, %s, 0, '{}', 1)",
                (name, name, there - age),
            )
    rows = listed(slow)
    assert (rows["lives"]["ready"], rows["gone"]["ready"]) == (True, False)
    (own,) = [row for name, row in rows.items() if name not in ages]
    assert own["seen"] == there


def test_a_daemon_that_decides_nothing_is_not_ready(two: Two) -> None:
    """Wherever it is asked for."""
    two.two.authority.drain()
    two.advance(limits.REPLICA_REPORT_SECONDS)
    for network in (two.one, two.two):
        rows = listed(network)
        assert rows["one.example"]["ready"] and not rows["two.example"]["ready"]


def test_a_daemon_alone_lists_itself(network: Network) -> None:
    """Though nothing of it is written."""
    (row,) = network.admin("GET", "/admin/replicas").json["replicas"]
    assert row["ready"] and row["keys"] == [network.keys.authority.key_id]


def give_key(network: Network, new: SigningKey) -> None:
    """Put it into the state directory there, and reload."""
    path = network.path / "next.key"
    path.touch(0o600)
    path.write_bytes(new.to_pem())
    reload(network)


def signers(network: Network) -> set[str]:
    document = parse_document(network.ask("GET", "/status").body, Status)
    return {name for name, _ in document.signatures}


def test_p20_a_genesis_waits_for_every_daemon_that_could_not_sign_under_it(two: Two) -> None:
    """It is refused by name; once the key is there it is taken, and both sign with that."""
    new = two.one.keys.signing()
    (old,) = two.one.genesis.body.authority
    entry = AuthorityKey(key=b64url_encode(new.public), valid_from=old.valid_from, valid_to=old.valid_to)
    second = successor(two.one, two.one.keys.root, authority=(entry,))
    give_key(two.one, new)
    answer = two.one.admin("POST", "/admin/genesis", {"genesis": second.as_dict()})
    assert answer.slug == "conflict" and "two.example" in answer.json["detail"]
    assert "one.example" not in answer.json["detail"]
    give_key(two.two, new)
    answer = two.one.admin("POST", "/admin/genesis", {"genesis": second.as_dict()})
    assert answer.status == 201, answer.body
    two.advance(limits.LOOK_SECONDS)
    two.advance(limits.LOOK_SECONDS)
    assert signers(two.one) == signers(two.two) == {new.key_id}


def test_p20_a_genesis_out_of_a_file_waits_likewise(two: Two) -> None:
    """A reload that brings one leaves all as it was; one that is gone for half a minute keeps nobody."""
    new = two.one.keys.signing()
    (old,) = two.one.genesis.body.authority
    entry = AuthorityKey(key=b64url_encode(new.public), valid_from=old.valid_from, valid_to=old.valid_to)
    second = successor(two.one, two.one.keys.root, authority=(entry,))
    (two.one.path / "genesis.1.json").write_bytes(two.one.genesis.encode())
    (two.one.path / "genesis.json").write_bytes(second.encode())
    with pytest.raises(Exception, match=r"two\.example"):
        give_key(two.one, new)
    assert two.one.ask("GET", "/genesis/2").status == 404
    for _ in range(4):
        two.one.clock.advance(10)
    reload(two.one)
    assert two.one.ask("GET", "/genesis/2").status == 200
    give_key(two.two, new)
