# SPDX-License-Identifier: MIT
"""Tests of L{gmesh.mesh.flooding}, C{fetch} and C{pulls}: only what differs moves; what is lost is found."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mesh.network_doubles import TestWorld
from mesh.records import equal, kinds, records
from twisted.internet.task import Clock

from gmesh.mesh.fetch import Asked, Fetcher
from gmesh.mesh.limits import ASK_AGAIN, ASK_ELSEWHERE, ASK_STALL, MAX_WANTED, RESYNC_INTERVAL
from gmesh.routing.record import decode_record
from gmesh.wire.frames import Kind
from gmesh.wire.messages import CertAnswer, RecordKey, SyncList, SyncWant


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
    c.updates.advertise(((9, b"x"),))
    world.run(2)
    assert a.engine.store.get((c.handle, 0)) is not None


def test_loss_is_healed_by_comparing_digests(world: TestWorld) -> None:
    """A record that a neighbour withheld arrives by the periodic comparison."""
    a, b, _c = world.line("a", "b", "c")
    world.run(5)
    b.withholds = lambda kind, frame: kind == Kind.LSA
    a.updates.advertise(((9, b"secret"),))
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
    a.updates.advertise(((9, b"x"),))
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


class Several:
    """Fetchers of neighbours that share what is asked for; C{asked}: (neighbour, batch)."""

    def __init__(self, *names: str) -> None:
        self.clock = Clock()
        self.held: set[int] = set()
        self.asked: list[tuple[str, list[int]]] = []
        self.shared: Asked[int] = Asked(self.clock, lambda key, number: key not in self.held)
        self.fetchers = [Fetcher(self.clock, self._recorder(name), 3, self.shared) for name in names]

    def _recorder(self, name: str) -> Callable[[list[int]], None]:
        return lambda batch: self.asked.append((name, batch))

    def want(self, *keys: int) -> None:
        """All offer all of these."""
        for fetcher in self.fetchers:
            for key in keys:
                fetcher.want(key, 1)
        self.clock.advance(0)

    def arrives(self, key: int) -> None:
        """From wherever."""
        self.held.add(key)
        self.shared.settled(key)


def test_neighbours_share_what_is_wanted() -> None:
    """Each thing is asked of one neighbour; who is through takes of what is left."""
    several = Several("a", "b")
    several.want(*range(7))
    assert several.asked == [("a", [0, 1, 2]), ("b", [3, 4, 5])]
    for key in (3, 4, 5):
        several.arrives(key)
    assert several.asked[2:] == [("b", [6])]
    for key in (0, 1, 2, 6):
        several.arrives(key)
    several.clock.advance(ASK_ELSEWHERE + 0.01)
    assert len(several.asked) == 3 and all(fetcher.idle for fetcher in several.fetchers)
    assert several.clock.getDelayedCalls() == [] and len(several.shared) == 0


def test_silence_delays_once_however_many_are_silent() -> None:
    """After half a second without the answer all others that offered it are asked at once."""
    several = Several("a", "b", "c", "d")
    several.want(0)
    assert several.asked == [("a", [0])]
    several.clock.advance(ASK_ELSEWHERE / 2)
    assert len(several.asked) == 1
    several.clock.advance(ASK_ELSEWHERE / 2 + 0.01)
    assert several.asked[1:] == [("b", [0]), ("c", [0]), ("d", [0])]
    several.clock.advance(ASK_AGAIN + 1)
    several.shared.forget_old()
    assert len(several.shared) == 0


def test_who_leaves_holds_up_nothing() -> None:
    """What was asked of a neighbour that is gone is asked of the next at once."""
    several = Several("a", "b")
    several.want(0)
    several.fetchers[0].stop()
    several.clock.advance(0)
    assert several.asked == [("a", [0]), ("b", [0])]
    several.fetchers[1].stop()
    assert several.clock.getDelayedCalls() == [] and len(several.shared) == 0


def test_what_was_asked_is_remembered_within_bounds() -> None:
    """A neighbour that names and answers what is of no use does not grow the table without end."""
    several = Several("a")
    for key in range(MAX_WANTED + 100):
        several.fetchers[0].want(key)
        several.clock.advance(0)
        several.fetchers[0].came(key)
    assert len(several.asked) == MAX_WANTED + 100 and len(several.shared) == MAX_WANTED
    several.fetchers[0].stop()


def test_a_newer_one_is_asked_for_anew() -> None:
    """That an older one was asked for without answer does not hide the next."""
    several = Several("a")
    several.want(0)
    several.clock.advance(ASK_STALL)
    several.want(0)
    assert len(several.asked) == 1
    several.fetchers[0].want(0, 2)
    several.clock.advance(0)
    assert several.asked[1:] == [("a", [0])]
    several.fetchers[0].stop()


@pytest.mark.parametrize("liars", [0, 1, 2])
def test_a_newcomer_is_sent_everything_once(world: TestWorld, liars: int) -> None:
    """With three neighbours, too; those who answer nothing cost it half a second for either kind."""
    line = world.line(*(f"n{number}" for number in range(8)))
    world.run(10)
    new, near = world.add("new"), [line[number] for number in (0, 4, 7)]
    for each in near[:liars]:
        each.withholds = lambda kind, frame: kind in (Kind.LSA, Kind.CERT)
    for each in near:
        world.connect(new, each)
    world.run(2 * ASK_ELSEWHERE + 0.2)
    assert new.engine.store.handles() == sorted(node.handle for node in world.nodes.values())
    if liars:
        return
    sent = [frame for each in near for kind, frame in each.links["new"].sent if kind == Kind.CERT]
    assert sum(len(CertAnswer.decode(memoryview(frame)[3:]).certificates) for frame in sent) == len(line) - 3
    wanted = [frame for each in near for kind, frame in new.links[each.name].sent if kind == Kind.SYNC_WANT]
    keys = [key.origin for frame in wanted for key in SyncWant.decode(memoryview(frame)[3:]).entries]
    assert sorted(keys) == sorted(node.handle for node in line)
    network = new.engine.database.network_id
    told = [decode_record(data, network) for each in near for data in records(new.links[each.name])]
    back = [record for record in told if record.handle in keys]
    assert len(back) <= 2 * len(near)


def test_wants_are_answered_from_the_database(world: TestWorld) -> None:
    """SYNC_WANT is answered with the record; what is not held is not answered."""
    a, b = world.line("a", "b")
    world.run(5)
    b.links["a"].sent.clear()
    want = SyncWant((RecordKey(a.handle, 0), RecordKey(b"n" * 8, 0)))
    b.links["a"].receive(Kind.SYNC_WANT, b"\0\0\0" + want.encode())
    world.run(0.1)
    assert len(records(b.links["a"])) == 1
