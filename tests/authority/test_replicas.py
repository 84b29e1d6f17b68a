# SPDX-License-Identifier: MIT
"""
Two daemons that serve from one database, in one process: what one did, the other knows.

Where the database is SQLite's, its file is linked into the second state directory.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from authority.database import statements
from authority.network import WHO_VOTES, Network
from authority.postgres_server import DatedEngine, PostgresServer
from authority.test_reload import reload

from gmesh.authority import limits
from gmesh.authority.approval_rules import APPROVALS_FILE
from gmesh.authority.rate_limit import RateLimits
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.signed_requests import NODE_TAG

Request = tuple[str, str, dict[str, str], bytes]


class Replica(Network):
    """One of several."""

    shared = True


class Two:
    """
    The first and the second, on one time.

    @param rules: C{approvals.json} of each; None for no file.
    """

    def __init__(self, path: Path, rules: tuple[Any, Any] = (None, None)) -> None:
        Network(path / "one", RateLimits()).stop()
        shutil.copytree(path / "one", path / "two", ignore=shutil.ignore_patterns("authority.*sqlite*"))
        shutil.copy(path / "one/authority.key", path / "two/authority.key")
        if Network.postgres is None:
            (path / "two/authority.sqlite").symlink_to(path / "one/authority.sqlite")
        else:
            Network.postgres.share(path / "one", path / "two")
        for name, value in zip(("one", "two"), rules, strict=True):
            if value is not None:
                (path / name / APPROVALS_FILE).write_text(json.dumps(value))
        self.one = Replica(path / "one", RateLimits())
        self.two = Replica(path / "two", RateLimits())

    def advance(self, seconds: float) -> None:
        for each in (self.one, self.two):
            each.clock.advance(seconds)

    def close(self) -> None:
        for each in (self.two, self.one):
            each.stop()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    """Without rules of approval."""
    made = Two(tmp_path)
    yield made
    made.close()


def read_by(network: Network, member: Any, what: str) -> Request:
    """A signed read of an operator or a member."""
    if what == "operator":
        return "GET", "/admin/nodes", network.signed(network.keys.admin, "GET", "/admin/nodes"), b""
    headers = network.signed(member.node, "GET", "/commands?since=0", tag=NODE_TAG)
    return "GET", "/commands?since=0", headers, b""


def changing(network: Network, member: Any, what: str) -> Request:
    """A request that changes something."""
    if what == "join":
        headers, body = network.join_request(network.invite("pump-2"))
        return "POST", "/join", headers, body
    if what == "renew":
        value = {"certificate": member.certificate.as_dict(), "noise_key": b64url_encode(member.noise.public)}
        body = json.dumps(value).encode()
        return "POST", "/renew", network.signed(member.node, "POST", "/renew", body, NODE_TAG), body
    body = json.dumps({"node": "pump-1"}).encode()
    headers = network.signed(network.keys.admin, "POST", "/admin/revocations", body)
    return "POST", "/admin/revocations", headers, body


@pytest.mark.parametrize("what", ["operator", "member", "join", "renew", "revocation"])
def test_p2_what_one_replica_answered_is_refused_at_the_other(two: Two, what: str) -> None:
    """At once, after a restart, and after its nonce was pruned: replayed or stale, at each."""
    member = two.one.joined("pump-1")
    make = read_by if what in ("operator", "member") else changing
    request = make(two.one, member, what)
    assert two.one.ask(*request).status in (200, 201)
    assert two.two.ask(*request).slug == "replayed"
    assert two.one.ask(*request).slug == "replayed"
    two.two.stop()
    two.two.start()
    assert two.two.ask(*request).slug == "replayed"
    two.advance(limits.NONCE_KEPT_SECONDS + limits.PRUNE_SECONDS)
    two.advance(limits.PRUNE_SECONDS)
    left: list[int] = []
    two.one.authority.store.read(lambda reader: left.append(reader.value("SELECT count(*) FROM read_nonce")))
    assert left == [0]
    assert [each.ask(*request).slug for each in (two.one, two.two)] == ["stale", "stale"]


def test_a_server_that_crashes_forgets_no_read(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A nonce is on the disk before the read is answered; a heartbeat need not be."""
    monkeypatch.setattr(Network, "postgres", postgres)
    two = Two(tmp_path)
    member = two.one.joined("pump-1")
    asynchronous = []
    for asked in (read_by(two.one, member, "member"), heartbeat(two.one, member, 1)):
        with statements() as ran:
            assert two.one.ask(*asked).status == 200
            two.one.clock.advance(limits.PRESENCE_NEWS_SECONDS)
        begun = {
            table: ran[place - 1]
            for place, text in enumerate(ran)
            for table in ("read_nonce", "presence")
            if text.startswith(f"INSERT INTO {table} ")
        }
        asynchronous += [(table, "synchronous_commit = off" in begin) for table, begin in begun.items()]
    assert asynchronous == [("read_nonce", False), ("presence", True)]
    two.close()


def test_a_replica_whose_clock_is_wrong_forgets_no_read_of_the_others(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What one answered is refused there, although it is old by the clock of the other."""
    monkeypatch.setattr(Network, "postgres", postgres)
    two = Two(tmp_path)
    request = read_by(two.one, None, "operator")
    assert two.one.ask(*request).status == 200
    two.two.stop()
    two.two.engine = DatedEngine(postgres.of(two.one.path)[0], two.one.wall)
    two.two.start()
    two.two.offset += 2 * limits.NONCE_KEPT_SECONDS
    two.two.clock.advance(limits.PRUNE_SECONDS)
    assert two.one.ask(*request).slug == "replayed"
    two.close()


def test_a_clock_that_was_wrong_for_long_counts_nowhere_once_it_is_right(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The database's time was right all the while: neither this replica nor the others hold it against it."""
    monkeypatch.setattr(Network, "postgres", postgres)
    two = Two(tmp_path)
    two.two.stop()
    two.two.engine = DatedEngine(postgres.of(two.one.path)[0], two.one.wall)
    two.two.start()
    two.two.offset += 7200
    for seconds in (limits.REPLICA_REPORT_SECONDS, limits.CLOCK_SETTLE_SECONDS + 1, 15):
        two.advance(seconds)
    assert two.two.admin("GET", "/admin/nodes").status == 200  # by its own time, which it believes by now
    assert two.two.ask("GET", "/readyz").slug == "clock-suspect"
    two.two.offset -= 7200
    two.advance(limits.REPLICA_REPORT_SECONDS)
    for each in (two.two, two.one):
        assert each.ask("GET", "/readyz").status == 200
        assert each.admin("GET", "/admin/nodes").status == 200
    two.one.joined("pump-1")
    two.close()


def heartbeat(network: Network, member: Any, crl: int) -> Request:
    """One that says it has this CRL."""
    value = {
        "certificate": member.certificate.as_dict(),
        "sent_ms": int(network.wall() * 1000),
        "numbers": {"crl": crl},
    }
    body = json.dumps(value).encode()
    return "POST", "/heartbeat", network.signed(member.node, "POST", "/heartbeat", body, NODE_TAG), body


def shown(network: Network) -> tuple[int, int]:
    """When the one node was last seen, and its CRL."""
    key = network.keys.admin
    answer = network.ask("GET", "/admin/nodes", network.signed(key, "GET", "/admin/nodes"))
    (node,) = answer.json["nodes"]
    return node["last_seen"], node["numbers"]["crl"]


def test_p2_a_heartbeat_played_again_at_the_other_has_no_effect(two: Two) -> None:
    """Neither on when the node was last seen nor on its numbers, before it is written and after."""
    member = two.one.joined("pump-1")
    two.two._counter = 10**6  # nonces of its own
    old = heartbeat(two.one, member, 1)
    assert two.one.ask(*old).status == 200
    two.advance(2)
    new = heartbeat(two.one, member, 2)
    assert two.one.ask(*new).status == 200
    expected = (two.one.now, 2)
    two.advance(2)
    assert shown(two.one) == shown(two.two) == expected
    for request in (old, new):
        assert two.two.ask(*request).status == 200
        assert shown(two.two) == expected
        two.advance(limits.PRESENCE_FLUSH_SECONDS)
        assert shown(two.one) == shown(two.two) == expected
    assert two.one.ask(*new).slug == "replayed"


def test_p29_changed_numbers_are_known_at_the_other_within_a_second(two: Two) -> None:
    """What C{revoke --wait} asks for there; a heartbeat that says the same again waits half a minute."""
    member = two.one.joined("pump-1")
    two.two._counter = 10**6
    assert two.one.ask(*heartbeat(two.one, member, 1)).status == 200
    two.advance(limits.PRESENCE_NEWS_SECONDS)
    assert shown(two.two) == (two.one.now - 1, 1)
    two.advance(1)
    assert two.one.ask(*heartbeat(two.one, member, 2)).status == 200
    two.advance(limits.PRESENCE_NEWS_SECONDS)
    changed = (two.one.now - 1, 2)
    assert shown(two.two) == changed
    two.advance(1)
    assert two.one.ask(*heartbeat(two.one, member, 2)).status == 200
    again = two.one.now
    two.advance(limits.PRESENCE_NEWS_SECONDS)
    assert shown(two.two) == changed and shown(two.one) == (again, 2)
    two.advance(limits.PRESENCE_FLUSH_SECONDS)
    assert shown(two.two) == (again, 2)


RULES = {"required": 2, "operations": [*WHO_VOTES, "POST /admin/revocations"]}


@pytest.mark.parametrize("other", [None, {"required": 1, "operations": []}], ids=["none", "weaker"])
def test_p19_a_replica_without_the_rules_goes_by_those_of_the_database(tmp_path: Path, other: Any) -> None:
    """It starts, and what takes two operators takes two there."""
    begun = Network(tmp_path / "one", RateLimits())
    second = begun.keys.signing()
    body = {"key": b64url_encode(second.public), "role": "administer", "name": "B"}
    assert begun.admin("POST", "/admin/operators", body).status == 201
    begun.stop()
    two = Two(tmp_path, (RULES, other))
    two.one._counter, two.two._counter = 10**6, 10**7
    assert two.one.join(two.one.invite("pump-1")).status == 201
    key = two.two.keys.admin
    asked = json.dumps({"node": "pump-1"}).encode()

    def revoke(by: Any) -> Any:
        headers = two.two.signed(by, "POST", "/admin/revocations", asked)
        return two.two.ask("POST", "/admin/revocations", headers, asked)

    assert revoke(key).status == 202
    assert revoke(second).status == 201
    two.close()


def test_p19_rules_that_another_replica_took_hold_from_the_next_decision(two: Two) -> None:
    """What was judged by the old ones is refused, and the same request again waits for a second operator."""
    second = two.one.keys.signing()
    body = {"key": b64url_encode(second.public), "role": "administer", "name": "B"}
    assert two.one.admin("POST", "/admin/operators", body).status == 201
    two.one.joined("pump-1")
    two.two._counter = 10**6
    (two.one.path / APPROVALS_FILE).write_text(json.dumps(RULES))
    reload(two.one)
    assert two.one.authority.approvals.rules.required == 2
    asked = {"node": "pump-1"}
    assert two.two.admin("POST", "/admin/revocations", asked).slug == "conflict"
    assert two.two.admin("POST", "/admin/revocations", asked).status == 202
