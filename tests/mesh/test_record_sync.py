# SPDX-License-Identifier: MIT
"""Tests of L{gmesh.mesh.flooding}, C{fetch} and C{pulls}: only what differs moves; what is lost is found."""

from __future__ import annotations

from mesh.network_doubles import TestWorld
from mesh.records import equal, kinds, records
from twisted.internet.task import Clock

from gmesh.mesh.fetch import Fetcher
from gmesh.mesh.network_limits import ASK_AGAIN, ASK_STALL, MAX_WANTED, RESYNC_INTERVAL
from gmesh.wire.frames import Kind
from gmesh.wire.messages import RecordKey, SyncList, SyncWant


def test_sync_on_connect_moves_only_what_differs(world: TestWorld) -> None:
    """Two halves that meet exchange what the other lacks, and on a repeat nothing."""
    left = world.line("a", "b")
    right = world.line("c", "d")
    world.run(5)
    here, there = world.connect(left[1], right[0])
    world.run(5)
    assert equal(world)
    assert len(records(here)) < 8 and len(records(there)) < 8
    world.cut(left[1], right[0])
    world.run(0.001)
    world.connect(left[1], right[0])
    world.run(10)
    assert equal(world)


def test_equal_databases_exchange_no_list(world: TestWorld) -> None:
    """A digest that agrees costs nothing beyond the HELLO."""
    a, _b, c = world.line("a", "b", "c")
    world.run(5)
    here, there = world.connect(a, c)
    assert kinds(here) == [] and kinds(there) == []
    world.run(5)
    assert equal(world)


def test_certificate_is_fetched_once(world: TestWorld) -> None:
    """A record of an unknown node waits for its certificate, which is asked for once."""
    a, _b, c = world.line("a", "b", "c")
    world.run(5)
    asked = kinds(a.links["b"]).count(Kind.CERT_REQ)
    assert asked == 1
    assert a.engine.store.get((c.handle, 0)) is not None


def test_withheld_certificate_is_asked_for_again(world: TestWorld) -> None:
    """An unanswered request is repeated after 30 s when the record comes again, and blocks nothing else."""
    a, b, c = (world.add(name) for name in "abc")
    b.withholds = lambda kind, frame: kind == Kind.CERT
    world.connect(a, b)
    world.connect(b, c)
    world.run(ASK_AGAIN - 5)
    assert a.engine.store.get((c.handle, 0)) is None
    assert kinds(a.links["b"]).count(Kind.CERT_REQ) == 1
    b.withholds = None
    world.run(10)
    c.keeper.advertise(((9, b"x"),))
    world.run(2)
    assert a.engine.store.get((c.handle, 0)) is not None


def test_loss_is_healed_by_comparing_digests(world: TestWorld) -> None:
    """A record that a neighbour withheld arrives by the periodic comparison."""
    a, b, _c = world.line("a", "b", "c")
    world.run(5)
    b.withholds = lambda kind, frame: kind == Kind.LSA
    a.keeper.advertise(((9, b"secret"),))
    world.run(5)
    b.withholds = None
    assert not equal(world)
    world.run(2 * RESYNC_INTERVAL + 20)
    assert equal(world)


def test_digests_are_compared_at_a_bounded_rate(world: TestWorld) -> None:
    """A neighbour that floods digests is answered a few times and ignored."""
    a, b = world.line("a", "b")
    world.run(5)
    b.links["a"].sent.clear()
    a.keeper.advertise(((9, b"x"),))
    body = (1).to_bytes(2, "big") + bytes([a.handle[0]]) + bytes(8)
    for _ in range(20):
        b.links["a"].receive(Kind.SYNC_DIGEST, b"\0\0\0" + body)
    assert kinds(b.links["a"]).count(Kind.SYNC_LIST) == 3
    assert b.counters["question-ignored"] == 17
    (frame, *_) = (frame for kind, frame in b.links["a"].sent if kind == Kind.SYNC_LIST)
    assert SyncList.decode(frame[3:]).entries[0].origin == a.handle


def test_fetcher_batches_and_goes_on() -> None:
    """Keys are asked for in batches, each once, the next batch when the last came or stalled."""
    clock = Clock()
    asked: list[list[int]] = []
    fetcher: Fetcher[int] = Fetcher(clock, asked.append, 3)
    for number in range(7):
        assert fetcher.want(number)
    clock.advance(0)
    assert asked == [[0, 1, 2]]
    for number in (0, 1, 1, 2):
        fetcher.came(number)
    assert asked[1:] == [[3, 4, 5]]
    fetcher.want(3)
    clock.advance(ASK_STALL)
    assert asked[2:] == [[6]]
    fetcher.came(6)
    fetcher.want(4)
    clock.advance(0)
    assert len(asked) == 3
    clock.advance(ASK_AGAIN)
    fetcher.want(4)
    clock.advance(0)
    assert asked[3:] == [[4]]
    fetcher.stop()
    fetcher.want(9)
    assert clock.getDelayedCalls() == [] and fetcher.idle


def test_a_batch_that_trickles_in_does_not_stall() -> None:
    """Each answer is waited for anew; one that stays away holds up what comes after it for 5 s only."""
    clock, asked = Clock(), list[list[int]]()
    fetcher: Fetcher[int] = Fetcher(clock, asked.append, 3)
    for key in range(6):
        fetcher.want(key)
    clock.advance(0)
    for key in range(2):
        clock.advance(4)
        fetcher.came(key)
    clock.advance(4)
    assert asked == [[0, 1, 2]]
    clock.advance(1)
    assert asked == [[0, 1, 2], [3, 4, 5]]
    fetcher.stop()


def test_only_so_much_is_wanted_of_a_neighbour() -> None:
    """A neighbour that names what does not exist fills its own bounded list."""
    clock, asked = Clock(), list[list[int]]()
    fetcher: Fetcher[int] = Fetcher(clock, asked.append, 3)
    assert all(fetcher.want(key) for key in range(MAX_WANTED))
    assert not fetcher.want(-1)
    clock.advance(0)
    assert fetcher.want(-1) and asked == [[0, 1, 2]]
    fetcher.stop()


def test_wants_are_answered_from_the_database(world: TestWorld) -> None:
    """SYNC_WANT is answered with the record; what is not held is not answered."""
    a, b = world.line("a", "b")
    world.run(5)
    b.links["a"].sent.clear()
    want = SyncWant((RecordKey(a.handle, 0), RecordKey(b"n" * 8, 0)))
    b.links["a"].receive(Kind.SYNC_WANT, b"\0\0\0" + want.encode())
    world.run(0.1)
    assert len(records(b.links["a"])) == 1
