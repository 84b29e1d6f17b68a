# SPDX-License-Identifier: MIT
"""Tests of C{routing.database}, C{store}, C{sync} and C{waiting}: what is believed, what is kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing.records import NETWORK, WALL, make_key, make_member, make_record

from gmesh.errors import FrameRefused
from gmesh.routing.database import LinkStateDatabase, OfferOutcome
from gmesh.routing.known import told_addresses
from gmesh.routing.limits import EXPIRY_GRACE, MAX_FUTURE, MAX_LIFETIME, MAX_PARKED_PER_SOURCE
from gmesh.routing.record import decode_record, handle_of, make_capabilities, signing_input
from gmesh.routing.store import Member, record_hash
from gmesh.routing.sync import buckets_that_differ, missing, summaries
from gmesh.routing.waiting import WaitingRecords
from gmesh.testing.engine_stubs import StubSigner, stub_verify


class Setting:
    """A database and everything it asks."""

    def __init__(self, **others: object) -> None:
        self.members: dict[tuple[bytes, int], Member] = {}
        self.revoked: set[str] = set()
        self.verified = 0
        self.alarms: list[tuple[str, bytes]] = []
        self.changes: list[bytes] = []
        for name in "abcde":
            self.admit(make_member(name))
        self.admit(make_member("anchor", ["anchor"]))
        self.database = LinkStateDatabase(
            NETWORK,
            make_key("own"),
            lambda handle, serial: self.members.get((handle, serial)),
            lambda serial, node_id: node_id in self.revoked,
            self._verify,
            self.changes.append,
            lambda slug, handle: self.alarms.append((slug, handle)),
            **others,  # type: ignore[arg-type]  # max_nodes
        )

    def admit(self, member: Member) -> None:
        """Hold a certificate."""
        self.members[handle_of(member.node_key), member.serial] = member

    def _verify(self, public: bytes, signature: bytes, data: bytes) -> bool:
        self.verified += 1
        return stub_verify(public, signature, data)

    def offer(self, data: bytes, now: float = 0.0, wall: float = WALL) -> OfferOutcome:
        """The outcome alone."""
        return self.database.offer(data, now, wall).outcome

    def sequence(self, name: str) -> int | None:
        """What is held of a node."""
        entry = self.database.store.get((handle_of(make_key(name)), 0))
        return entry.record.sequence if entry else None


def test_accepts_and_replaces() -> None:
    """A record of a member is stored, a newer one takes its place, each change is told."""
    s = Setting()
    assert s.offer(make_record("a", {"b": 1})) is OfferOutcome.ACCEPTED
    assert s.offer(make_record("a", {"b": 2}, sequence=2)) is OfferOutcome.ACCEPTED
    assert s.sequence("a") == 2
    assert s.changes == [handle_of(make_key("a"))] * 2


def test_duplicate_costs_no_verification() -> None:
    """The same bytes again are dropped before any cryptography."""
    s = Setting()
    data = make_record("a")
    s.offer(data)
    assert s.offer(data) is OfferOutcome.DUPLICATE
    assert s.verified == 1


def test_old_is_refused_unverified() -> None:
    """A lower sequence is refused before any cryptography."""
    s = Setting()
    s.offer(make_record("a", sequence=5))
    assert s.offer(make_record("a", sequence=4)) is OfferOutcome.OLD
    assert s.verified == 1 and s.sequence("a") == 5


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (make_record("a", issued_at=WALL + 2701), OfferOutcome.FUTURE),
        (make_record("a", issued_at=WALL - 3600), OfferOutcome.EXPIRED),
        (make_record("stranger"), OfferOutcome.CERTIFICATE_MISSING),
        (make_record("a", serial=2), OfferOutcome.CERTIFICATE_MISSING),
        (make_record("a", fragment=1), OfferOutcome.NOT_ALLOWED),
        (make_record("anchor", fragment=1), OfferOutcome.ACCEPTED),
        (make_record("a", issued_at=WALL + 2699), OfferOutcome.ACCEPTED),
        (make_record("a")[:-1] + b"\0", OfferOutcome.BAD_SIGNATURE),
    ],
)
def test_outcomes(data: bytes, outcome: OfferOutcome) -> None:
    """Each check refuses with its own outcome and stores nothing."""
    s = Setting()
    assert s.offer(data) is outcome
    assert len(s.database.store) == (outcome is OfferOutcome.ACCEPTED)
    assert s.verified == (outcome in (OfferOutcome.ACCEPTED, OfferOutcome.BAD_SIGNATURE))


def test_revoked_origin() -> None:
    """A revoked node's record is refused even when its certificate is no longer held."""
    s = Setting()
    s.revoked.add(make_member("a").node_id)
    assert s.offer(make_record("a")) is OfferOutcome.REVOKED
    s.revoked.add(make_member("stranger").node_id)
    assert s.offer(make_record("stranger")) is OfferOutcome.REVOKED


def test_field_r4_key_of_another_node() -> None:
    """A record whose key is not the certified one of its handle is refused."""
    s = Setting()
    impostor = replace(make_member("b"), node_key=make_key("a"))
    s.members[handle_of(make_key("b")), 1] = impostor
    assert s.offer(make_record("b")) is OfferOutcome.NOT_ALLOWED


def test_field_r4_full() -> None:
    """New origins are refused beyond max_nodes; known ones may still change."""
    s = Setting(max_nodes=1)
    s.offer(make_record("a"))
    assert s.offer(make_record("b")) is OfferOutcome.FULL
    assert s.offer(make_record("a", sequence=2)) is OfferOutcome.ACCEPTED


def test_malformed() -> None:
    """What is no record at all is an error of the link."""
    with pytest.raises(FrameRefused):
        Setting().offer(b"x" * 200)


def test_rate() -> None:
    """Five at once, then one a second, as the receiver counts; forgeries use up nothing."""
    s = Setting()
    for sequence in range(1, 5):
        assert s.offer(make_record("a", sequence=sequence)) is OfferOutcome.ACCEPTED
    for _ in range(10):
        assert s.offer(make_record("a", sequence=99)[:-1] + b"\0") is OfferOutcome.BAD_SIGNATURE
    assert s.offer(make_record("a", sequence=5)) is OfferOutcome.ACCEPTED
    assert s.offer(make_record("a", sequence=6)) is OfferOutcome.RATE_LIMITED
    key = (handle_of(make_key("a")), 0)
    assert s.database.ready_at(key, 0.0) == 1.0
    assert s.offer(make_record("a", sequence=6), now=1.0) is OfferOutcome.ACCEPTED
    assert s.offer(make_record("b"), now=1.0) is OfferOutcome.ACCEPTED


@given(st.permutations([0, 1, 2, 3]))
def test_equivocation_settles_alike(order: list[int]) -> None:
    """Of several bodies with one sequence every node keeps the one with the lowest hash."""
    s = Setting()
    bodies = [make_record("a", {"b": cost + 1}) for cost in range(4)]
    outcomes = [s.offer(bodies[index]) for index in order]
    lowest = min(bodies, key=record_hash)
    entry = s.database.store.get((handle_of(make_key("a")), 0))
    assert entry is not None and entry.data == lowest
    assert outcomes[0] is OfferOutcome.ACCEPTED
    assert ("equivocation", handle_of(make_key("a"))) in s.alarms


def test_forged_equivocation() -> None:
    """A forged body of the same sequence is no equivocation."""
    s = Setting()
    s.offer(make_record("a"))
    assert s.offer(make_record("a", {"b": 3})[:-1] + b"\0") is OfferOutcome.BAD_SIGNATURE
    assert s.alarms == []


def test_own_record_from_elsewhere() -> None:
    """A valid own record not below ours tells us to go above it, whatever its time; a forged one does not."""
    s = Setting()
    assert s.offer(make_record("own", sequence=9, issued_at=WALL + 10**6)) is OfferOutcome.OWN_NEWER
    assert s.offer(make_record("own", sequence=9)[:-1] + b"\0") is OfferOutcome.BAD_SIGNATURE
    assert s.alarms == [("own-record", handle_of(make_key("own")))]
    data = make_record("own", sequence=10)
    s.database.install_own(decode_record(data, NETWORK), data, make_member("own"), 0.0)
    assert s.offer(data) is OfferOutcome.DUPLICATE
    assert s.offer(make_record("own", sequence=9)) is OfferOutcome.OLD
    assert s.offer(make_record("own", {"a": 1}, sequence=10)) is OfferOutcome.OWN_NEWER


def test_expiry_is_by_our_own_timer() -> None:
    """A record lives issued_at + lifetime + 600 s on the monotonic clock, whatever the wall clock does."""
    s = Setting()
    s.offer(make_record("a"), now=50.0, wall=WALL + 100)
    s.database.expire(50.0 + 3500 + 600 - 1, WALL + 10**6)
    assert s.sequence("a") == 1
    s.database.expire(50.0 + 3500 + 600, WALL)
    assert s.sequence("a") is None


def test_a_record_from_the_future_lives_no_longer() -> None:
    """Being ahead by what is tolerated makes a record live no longer than the longest lifetime."""
    s = Setting()
    s.offer(make_record("a", issued_at=WALL + MAX_FUTURE, lifetime=MAX_LIFETIME))
    s.database.expire(MAX_LIFETIME + EXPIRY_GRACE - 1, WALL)
    assert s.sequence("a") == 1
    s.database.expire(MAX_LIFETIME + EXPIRY_GRACE, WALL)
    assert s.sequence("a") is None


def test_addresses_are_told_in_the_first_fragment() -> None:
    """Capabilities count in fragment 0 only, and for those who have the role that is asked for."""
    s = Setting()
    first, second, other = (make_capabilities(addresses=[f"192.0.2.{number}:1"]) for number in range(3))
    assert s.offer(make_record("anchor", capabilities=first)) is OfferOutcome.ACCEPTED
    assert s.offer(make_record("anchor", fragment=1, capabilities=second)) is OfferOutcome.ACCEPTED
    assert s.offer(make_record("a", capabilities=other)) is OfferOutcome.ACCEPTED
    anchor = handle_of(make_key("anchor"))
    assert told_addresses(s.database.store, "anchor") == [(anchor, "192.0.2.0:1")]


def test_tombstone() -> None:
    """An expired or revoked record does not come back; a newer one does; the tombstone ends."""
    s = Setting()
    s.offer(make_record("a", sequence=5))
    assert s.database.revoke(handle_of(make_key("a")), 0.0)
    assert not s.database.revoke(handle_of(make_key("a")), 0.0)
    assert s.offer(make_record("a", sequence=5)) is OfferOutcome.OLD
    assert s.database.store.tombstones == 1
    assert s.offer(make_record("a", sequence=6)) is OfferOutcome.ACCEPTED
    assert s.database.store.tombstones == 0
    s.database.revoke(handle_of(make_key("a")), 10.0)
    s.database.expire(10.0 + 7200, WALL)
    assert s.database.store.tombstones == 0


def test_tombstones_are_bounded() -> None:
    """The oldest tombstone goes when there are twice as many as nodes may be."""
    s = Setting(max_nodes=1)
    for name in "abcd":
        s.offer(make_record(name))
        s.database.revoke(handle_of(make_key(name)), 0.0)
    assert s.database.store.tombstones == 2


def test_certificate_end() -> None:
    """Records go when their certificate has ended for longer than the leeway."""
    s = Setting()
    s.admit(replace(make_member("a"), not_after=int(WALL) + 10))
    s.offer(make_record("a"))
    s.database.expire(1.0, WALL + 310)
    assert s.sequence("a") == 1
    s.database.expire(1.0, WALL + 311)
    assert s.sequence("a") is None


def test_sweep_revoked() -> None:
    """A new revocation set removes the records it names and no other."""
    s = Setting()
    s.offer(make_record("a"))
    s.offer(make_record("b"))
    s.revoked.add(make_member("a").node_id)
    assert s.database.sweep_revoked(0.0) == [handle_of(make_key("a"))]
    assert s.sequence("a") is None and s.sequence("b") == 1


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 4), st.integers(1, 3)), max_size=30))
def test_digest_against_naive_twin(steps: list[tuple[str, int, int]]) -> None:
    """The digest kept in step equals the XOR computed afresh over all records."""
    s = Setting()
    for number, (name, sequence, cost) in enumerate(steps):
        s.offer(make_record(name, {"x": cost}, sequence=sequence), now=float(number))
        if cost == 3:
            s.database.revoke(handle_of(make_key(name)), float(number))
    buckets = [0] * 256
    for (handle, _), entry in s.database.store.entries():
        buckets[handle[0]] ^= int.from_bytes(record_hash(entry.data)[:8], "big")
    assert s.database.store.digest() == b"".join(value.to_bytes(8, "big") for value in buckets)
    assert len(s.database.store.digest()) == 2048


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 3), st.integers(1, 2)), max_size=12),
    st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 3), st.integers(1, 2)), max_size=12),
)
def test_sync_makes_equal(left: list[tuple[str, int, int]], right: list[tuple[str, int, int]]) -> None:
    """After each side has fetched what it misses from the listed differences both databases are equal."""
    one, other = Setting(), Setting()
    for setting, steps in ((one, left), (other, right)):
        for number, (name, sequence, cost) in enumerate(steps):
            setting.offer(make_record(name, {"x": cost}, sequence=sequence), now=float(number))
    differing = buckets_that_differ(one.database.store.digest(), other.database.store.digest())
    lists = [summaries(setting.database.store, differing) for setting in (one, other)]
    moved = 0
    for setting, source, lines in ((one, other, lists[1]), (other, one, lists[0])):
        for key in missing(setting.database.store, lines):
            entry = source.database.store.get(key)
            assert entry is not None
            assert setting.offer(entry.data, now=100.0) is OfferOutcome.ACCEPTED
            moved += 1
    assert one.database.store.digest() == other.database.store.digest()
    assert moved <= 5


def test_waiting_for_certificates() -> None:
    """Parked records come back with their certificate, newest of each key, in bounds, for a time."""
    waiting = WaitingRecords()
    assert waiting.park("link", (b"h" * 8, 0), 7, 1, b"old", 0.0)
    assert waiting.park("link", (b"h" * 8, 0), 7, 2, b"new", 0.0)
    assert waiting.park("link", (b"h" * 8, 0), 7, 1, b"old", 0.0)
    assert waiting.park("other", (b"h" * 8, 0), 7, 1, b"old", 0.0)
    assert waiting.release(b"h" * 8, 8) == []
    assert waiting.release(b"h" * 8, 7) == [("link", b"new"), ("other", b"old")]
    for number in range(MAX_PARKED_PER_SOURCE):
        assert waiting.park("link", (number.to_bytes(8, "big"), 0), 1, 1, b"", 0.0)
    assert not waiting.park("link", (b"h" * 8, 0), 1, 1, b"", 0.0)
    assert waiting.park("other", (b"h" * 8, 0), 1, 1, b"", 0.0)
    waiting.drop_source("link")
    assert len(waiting) == 1
    waiting.due(60.0)
    assert len(waiting) == 0


def test_waiting_for_the_rate() -> None:
    """Deferred records are due at their time; one source cannot displace another's."""
    waiting = WaitingRecords()
    waiting.defer("liar", (b"h" * 8, 0), 99, b"forged", 5.0)
    waiting.defer("friend", (b"h" * 8, 0), 3, b"true", 5.0)
    waiting.defer("friend", (b"h" * 8, 0), 2, b"older", 5.0)
    assert waiting.next_due() == 5.0
    assert waiting.due(4.9) == []
    assert waiting.due(5.0) == [("liar", b"forged"), ("friend", b"true")]
    assert waiting.next_due() is None


def test_signature_covers_context() -> None:
    """The signed bytes begin with the context and a NUL."""
    data = make_record("a")
    assert StubSigner(make_key("a")).sign(b"gmesh-lsa-v1\0" + data[:-64]) == data[-64:]
    assert signing_input(b"x") == b"gmesh-lsa-v1\0x"
