# SPDX-License-Identifier: MIT
"""What a node believes is on disk before anybody acts on it, and what happens when it cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from gmesh.errors import ConfigurationError, StoreError
from gmesh.node.composition import Environment
from gmesh.node.identity_store import IdentityStore
from gmesh.node.local_member import LocalMember
from gmesh.node.runtime import NodeRuntime
from gmesh.testing.issuer import Enrolled, Issuer
from gmesh.trust.ceremony import next_genesis
from gmesh.trust.documents import Document, add_signature
from gmesh.trust.keys import NoiseKey


class FullDisk(IdentityStore):
    """A state directory on a disk that can be full."""

    full = False

    def _check(self) -> None:
        if self.full:
            raise StoreError("unwritable", "No space left on device")

    def save_document(self, document: Document[Any]) -> None:
        self._check()
        super().save_document(document)

    def save_floors(self, floors: dict[str, Any]) -> None:
        self._check()
        super().save_floors(floors)


@pytest.fixture
def store(directory: Path) -> FullDisk:
    return FullDisk(directory)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def member(store: FullDisk, clock: Clock, wall: Any) -> Iterator[LocalMember]:
    made = LocalMember(store.load(), store, clock, wall)
    yield made
    made.stop()
    assert clock.getDelayedCalls() == []


def test_floors_and_documents_are_stored_before_anybody_acts(
    issuer: Issuer, store: FullDisk, clock: Clock, wall: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a node does next finds the new document on disk already."""
    environment = Environment(
        clock, wall, Random(1), Random(1).randbytes, lambda *target: pytest.fail("nobody is dialled")
    )
    runtime = NodeRuntime(store.load(), store, environment)
    seen: list[tuple[str, bool, bool]] = []

    def look(kind: str) -> None:
        stored = (store.directory / f"{kind}.json").read_bytes()
        floor = issuer.authority.key_id in (store.directory / "floors.json").read_text()
        seen.append((kind, stored == getattr(issuer, kind).encode(), floor))

    monkeypatch.setattr(runtime._updates, "trust_changed", look)
    for document in issuer.documents:
        runtime.member.trust.offer(document, wall())
    assert seen == [("crl", True, True), ("policy", True, True), ("status", True, True)]


def test_a_restart_believes_the_same_and_nothing_older(
    member: LocalMember, issuer: Issuer, store: FullDisk, clock: Clock, wall: Any
) -> None:
    """The cache boots the node; a rolled back file is refused and the node starts without it."""
    old = issuer.crl
    issuer.revoke(issuer.enrol("b", "client"))
    for document in issuer.documents:
        member.trust.offer(document, wall())
    again = LocalMember(store.load(), store, clock, wall)
    assert again.numbers() == member.numbers()
    (store.directory / "crl.json").write_bytes(old.encode())
    with capturedLogs() as lines:
        rolled = LocalMember(store.load(), store, clock, wall)
    assert rolled.trust.crl is None
    assert [event["kind"] for event in lines] == ["crl"]


def test_a_full_disk_does_not_keep_a_revocation_from_cutting(
    member: LocalMember, issuer: Issuer, store: FullDisk, wall: Any
) -> None:
    """The CRL is in force, the log says that it is not stored."""
    store.full = True
    victim = issuer.enrol("b", "client")
    issuer.revoke(victim)
    with capturedLogs() as lines:
        member.trust.offer(issuer.crl, wall())
    assert member.trust.revoked(victim.certificate.body.serial, victim.node_key.key_id)
    assert [event["cause"] for event in lines] == ["No space left on device"]


def test_field_l2_a_renewed_certificate_is_used_only_once_stored(
    issuer: Issuer, store: FullDisk, node: Enrolled, clock: Clock, wall: Any
) -> None:
    """On a full disk the old one stays; then the new one is on disk when others hear of it."""
    stored: list[bytes] = []
    member = LocalMember(
        store.load(),
        store,
        clock,
        wall,
        certificate_changed=lambda rekeyed: stored.append(
            (store.directory / "certificate.json").read_bytes()
        ),
    )
    renewed = issuer.renew(node).certificate
    store.full = True
    with pytest.raises(StoreError):
        member.adopt_certificate(renewed)
    assert member.certificate == node.certificate
    store.full = False
    member.adopt_certificate(renewed)
    assert stored == [renewed.encode()]
    assert member.peer.serial == renewed.body.serial
    member.stop()


def test_numbers_rise_over_restarts_even_when_the_clock_goes_back(
    member: LocalMember, store: FullDisk, clock: Clock, wall: Any
) -> None:
    """Handshake numbers are unique for ever; written behind within seconds."""
    first = member.next_handshake_number()
    assert first == int(wall()) << 20
    assert member.next_handshake_number() == first + 1
    member.record_sequence_used(77)
    clock.advance(5)
    wall.now -= 86400
    again = LocalMember(store.load(), store, clock, wall)
    assert again.next_handshake_number() == first + 2
    assert again.state.record_sequence == 77
    again.stop()


def test_the_newest_status_is_a_floor_for_the_clock(
    member: LocalMember, issuer: Issuer, store: FullDisk, clock: Clock, wall: Any
) -> None:
    """After a boot with a clock in the past, time begins where the authority last was."""
    issued = wall.now
    member.trust.offer(issuer.status, wall())
    clock.advance(5)
    wall.now = 1000.0
    assert member.wall() == issued + 5, "and goes on from there"
    assert member.clock_behind() == issued + 5 - 1000
    again = LocalMember(store.load(), store, clock, wall)
    assert again.wall() == issued
    wall.now = issued + 50
    assert again.wall() == issued + 50


def test_foreign_genesis_and_useless_floors(directory: Path, clock: Clock, wall: Any, issuer: Issuer) -> None:
    """A genesis of another root is one clear error; unreadable floors start anew with a line."""
    store = IdentityStore(directory)
    (directory / "floors.json").write_text('{"genesis": "x"}')
    with capturedLogs() as lines:
        LocalMember(store.load(), store, clock, wall)
    assert "floors.json cannot be used" in lines[0]["log_format"]
    (directory / "floors.json").write_text('{"genesis": 2}')
    with pytest.raises(ConfigurationError, match=r"restore genesis\.json"):
        LocalMember(store.load(), store, clock, wall)


def test_revoked_is_told_once_by_name(member: LocalMember, issuer: Issuer, node: Enrolled, wall: Any) -> None:
    """A node that reads of its own revocation says so."""
    issuer.revoke(node)
    with capturedLogs() as lines:
        member.trust.offer(issuer.crl, wall())
    assert [event["cause"] for event in lines] == ["the certificate of a, serial 1, is revoked"]


def test_b1_where_the_authority_is_follows_the_genesis(
    issuer: Issuer, member: LocalMember, wall: Any
) -> None:
    """The URLs of a newer genesis are known at once; what it no longer names comes last."""
    member.own_urls = ("http://authority.example", "http://local.example")
    assert member.authority_urls() == ("http://authority.example", "http://local.example")
    change = {"authority_urls": ["http://new.example"]}
    second = add_signature(next_genesis(issuer.genesis, int(wall()), change), issuer.root)
    assert member.trust.offer(second, wall())
    assert member.authority_urls() == (
        "http://local.example",
        "http://new.example",
        "http://authority.example",
    )


def test_b21_a_certificate_that_join_has_put_there_is_used(
    issuer: Issuer, node: Enrolled, member: LocalMember
) -> None:
    """A newer one of the same node; not an older one, which is what a backup brings back."""
    renewed = issuer.renew(node).certificate
    member.follow_certificate(renewed)
    assert member.certificate == renewed
    member.follow_certificate(node.certificate)
    assert member.certificate == renewed


def test_b21_a_certificate_that_makes_another_node_takes_a_restart(
    issuer: Issuer, node: Enrolled, member: LocalMember, another_noise_key: NoiseKey
) -> None:
    """Another name, other roles, a Noise key that the daemon has not read: said, and nothing changes."""
    for key, name, role in (
        (node.noise_key, "renamed", "anchor"),
        (node.noise_key, "a", "relay"),
        (another_noise_key, "a", "anchor"),
    ):
        certificate = issuer.certify(node.node_key, key, name, (role,))
        with pytest.raises(ConfigurationError, match=rf"for {name} \({role}\) takes a restart"):
            member.follow_certificate(certificate)
        assert member.certificate == node.certificate
