# SPDX-License-Identifier: MIT
"""How records are compared and moved: only what differs; what is lost is found."""

from __future__ import annotations

import pytest
from mesh.network_doubles import TestWorld
from mesh.records import equal, kinds, records

from gmesh.mesh.limits import ASK_AGAIN, ASK_ELSEWHERE, RESYNC_INTERVAL
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
