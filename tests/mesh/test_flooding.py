# SPDX-License-Identifier: MIT
"""Tests of L{gmesh.mesh.flooding}, C{channel}, C{fetch} and C{route_keeper}: how records spread."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import networkx as nx
import pytest
from mesh.network_doubles import DoubleLink, TestNode, TestWorld, forge
from twisted.internet.task import Clock

from gmesh.mesh.channel import Outbox
from gmesh.mesh.fetch import Fetcher
from gmesh.mesh.network_limits import ASK_AGAIN, ASK_STALL, EAGER_DEGREE, FLUSH_BACKLOG, RESYNC_INTERVAL
from gmesh.routing.database import Outcome
from gmesh.routing.record import NodeRecord, RecordFlag, decode_record, signing_input
from gmesh.wire.frames import Kind
from gmesh.wire.messages import CloseReason, Lsa, RecordKey, SyncList, SyncWant


@pytest.fixture
def world() -> Iterator[TestWorld]:
    """A world that leaves nothing behind."""
    made = TestWorld()
    yield made
    made.stop()


def kinds(link: DoubleLink) -> list[int]:
    """What was sent over a link."""
    return [kind for kind, _ in link.sent]


def records(link: DoubleLink) -> list[bytes]:
    """The node records sent over a link."""
    return [
        record for kind, frame in link.sent if kind == Kind.LSA for record in Lsa.decode(frame[3:]).records
    ]


def sign(node: TestNode, sequence: int, links: tuple[tuple[bytes, int], ...] = (), **others: object) -> bytes:
    """A record of C{node} made by its key."""
    fields = {
        "network_id": bytes.fromhex(node.world.issuer.network_id),
        "node_key": node.peer.node_key,
        "serial": node.peer.serial,
        "fragment": 0,
        "sequence": sequence,
        "issued_at": int(node.world.wall()),
        "lifetime": 3600,
        "flags": RecordFlag.RELAY,
        "links": links,
        **others,
    }
    unsigned = NodeRecord(**fields).encode_unsigned()  # type: ignore[arg-type]  # by name
    return unsigned + node.enrolled.node_key.sign(signing_input(unsigned))


def equal(world: TestWorld) -> bool:
    """Invariant 3."""
    return len({node.engine.store.digest() for node in world.nodes.values()}) == 1


@pytest.mark.parametrize(
    "graph",
    [nx.path_graph(5), nx.cycle_graph(5), nx.star_graph(5), nx.complete_graph(5)],
    ids=["line", "ring", "star", "complete"],
)
def test_everybody_learns_everything(world: TestWorld, graph: nx.Graph) -> None:
    """From nothing: equal databases, every name known everywhere, paths between all."""
    nodes = [world.add(f"n{number}") for number in graph]
    for one, other in graph.edges:
        world.connect(nodes[one], nodes[other])
    world.run(5)
    assert equal(world)
    for node in nodes:
        assert [peer.name for peer in node.book.peers()] == [
            other.name for other in sorted(nodes, key=lambda other: other.handle)
        ]
        assert len(node.engine.table(world.clock.seconds())) == len(nodes) - 1
        assert node.sequences[-1] == node.engine.sequence


def test_each_record_is_verified_once(world: TestWorld) -> None:
    """Duplicates over other ways cost no signature check."""
    nodes = [world.add(f"n{number}") for number in range(5)]
    for one in nodes:
        for other in nodes:
            if one.name < other.name:
                world.connect(one, other)
    world.run(5)
    accepted = sum(node.counters["record-accepted"] for node in nodes)
    assert world.verified == accepted


def test_never_back_to_the_sender(world: TestWorld) -> None:
    """A record is not returned to whom it came from, nor sent to who has shown to hold it."""
    a, b, c = world.line("a", "b", "c")
    world.run(5)
    held = len(records(b.links["a"]))
    data = sign(a, a.engine.sequence + 1)
    b.links["a"].receive(Kind.LSA, b"\0\0\0" + Lsa((data,)).encode())
    world.run(1)
    assert data in records(b.links["c"])
    assert len(records(b.links["a"])) == held
    assert data not in records(c.links["b"])


def test_changes_are_joined(world: TestWorld) -> None:
    """The first leaves at once; those of the next 20 ms in one frame, of one key only the newest."""
    a, b, _c = world.line("a", "b", "c")
    world.run(5)
    before = kinds(b.links["c"]).count(Kind.LSA)
    sequence = a.engine.sequence
    for number in (1, 2, 3, 4):
        b.links["a"].receive(Kind.LSA, b"\0\0\0" + Lsa((sign(a, sequence + number),)).encode())
        world.run(0.001)
        assert kinds(b.links["c"]).count(Kind.LSA) == before + 1
    world.run(0.018)
    assert kinds(b.links["c"]).count(Kind.LSA) == before + 2
    assert decode_record(records(b.links["c"])[-1], b.engine.database.network_id).sequence == sequence + 4


def test_newer_record_answers_an_old_one(world: TestWorld) -> None:
    """Who sends an old record is sent the newer one."""
    _a, b, c = world.line("a", "b", "c")
    world.run(5)
    old = sign(c, 1)
    before = len(records(b.links["a"]))
    b.links["a"].receive(Kind.LSA, b"\0\0\0" + Lsa((old,)).encode())
    world.run(0.1)
    assert len(records(b.links["a"])) == before + 1


def test_many_neighbours_are_told_lazily(world: TestWorld) -> None:
    """Beyond eight neighbours the rest get IHAVE and pull what they lack; all end up equal."""
    hub = world.add("hub", "anchor")
    spokes = [world.add(f"s{number}") for number in range(12)]
    for spoke in spokes:
        world.connect(hub, spoke)
    for one, other in pairwise(spokes):
        world.connect(one, other)
    world.run(8)
    assert equal(world)
    for spoke in spokes:
        hub.links[spoke.name].sent.clear()
        spoke.withholds = lambda kind, frame: kind == Kind.LSA
    hub.keeper.advertise(((9, b"news"),))
    world.run(2)
    assert equal(world)
    eager = [spoke for spoke in spokes if Kind.IHAVE not in kinds(hub.links[spoke.name])]
    assert len(eager) == EAGER_DEGREE
    assert all(Kind.LSA in kinds(hub.links[spoke.name]) for spoke in eager)


def test_leaves_are_not_told_lazily(world: TestWorld) -> None:
    """A neighbour whose only link is ours is always sent the record itself."""
    hub = world.add("hub", "anchor")
    clients = [world.add(f"c{number}", "client") for number in range(12)]
    for client in clients:
        world.connect(hub, client)
    world.run(8)
    for client in clients:
        hub.links[client.name].sent.clear()
    hub.keeper.advertise(((9, b"news"),))
    world.run(2)
    assert equal(world)
    assert all(Kind.IHAVE not in kinds(hub.links[client.name]) for client in clients)


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


def test_forged_records_cost_the_link(world: TestWorld) -> None:
    """More than fifty records that do not verify within a minute end the link; none is passed on."""
    a, b, _c = world.line("a", "b", "c")
    world.run(5)
    forged = [forge(sign(a, a.engine.sequence + number)) for number in range(1, 53)]
    for data in forged:
        if b.links["a"].up:
            b.links["a"].receive(Kind.LSA, b"\0\0\0" + Lsa((data,)).encode())
    world.run(1)
    assert b.links["a"].closed == [CloseReason.PROTOCOL]
    assert b.counters["record-bad-signature"] == 51
    assert not set(forged) & set(records(b.links["c"]))


def test_malformed_record_costs_the_link(world: TestWorld) -> None:
    """What is no record at all ends the link at once."""
    _a, b = world.line("a", "b")
    b.links["a"].receive(Kind.LSA, b"\0\0\0" + Lsa((b"x" * 200,)).encode())
    assert b.refusals == ["bad-record-version"]


def test_fast_changes_are_deferred_not_lost(world: TestWorld) -> None:
    """Beyond the origin's rate the newest record waits and is taken when the rate allows it."""
    a, b, c = world.line("a", "b", "c")
    world.run(60)
    sequence = a.engine.sequence + 100
    for number in range(20):
        b.links["a"].receive(Kind.LSA, b"\0\0\0" + Lsa((sign(a, sequence + number),)).encode())
    a.keeper.stop()
    world.run(0.2)
    held = c.engine.store.get((a.handle, 0))
    assert held is not None and held.record.sequence < sequence + 19
    world.run(3)
    held = c.engine.store.get((a.handle, 0))
    assert held is not None and held.record.sequence == sequence + 19


def test_own_record_of_an_earlier_life_is_outbid(world: TestWorld) -> None:
    """A node that restarts without its sequence hears its old record and goes above it."""
    a, _b, c = world.line("a", "b", "c")
    world.run(5)
    data = sign(a, a.engine.sequence + 2**30)
    a.links["b"].receive(Kind.LSA, b"\0\0\0" + Lsa((data,)).encode())
    world.run(2)
    held = c.engine.store.get((a.handle, 0))
    assert held is not None and held.record.sequence == a.engine.sequence > 2**30


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


def test_revocation_in_one_turn(world: TestWorld) -> None:
    """Applying the CRL drops record, paths and what waits to be sent, before control returns."""
    nodes = world.line("a", "b", "c", "d")
    world.run(5)
    a, _b, c, _ = nodes
    now = world.clock.seconds()
    a.trust.offer(world.issuer.revoke(c.enrolled), world.wall())
    assert a.engine.store.get((c.handle, 0)) is None
    assert a.book.find_handle(c.handle) is None and a.book.revoked(c.handle)
    assert a.engine.path(c.handle, now) is None and a.engine.path(nodes[3].handle, now) is None
    data = sign(c, c.engine.sequence + 1)
    assert a.engine.offer(data, now, world.wall()).outcome is Outcome.REVOKED


def test_duplicate_link_costs_no_record(world: TestWorld) -> None:
    """When a second link to a node replaces the first, nothing is re-signed; when none comes, it is."""
    a, b = world.line("a", "b")
    world.run(40)
    before = a.engine.sequence
    world.cut(a, b, "duplicate")
    world.connect(a, b)
    world.run(5)
    assert a.engine.sequence == before
    world.cut(a, b, "duplicate")
    world.run(1.1)
    assert a.engine.sequence > before


def test_suspect_link_is_dearer(world: TestWorld) -> None:
    """While a PONG is missing the link costs four times as much, for everybody."""
    a, b, c = world.line("a", "b", "c")
    world.run(40)
    link = b.links["c"]
    link.suspect = True
    b.keeper.link_changed(link)
    world.run(1)
    costs = {path[-1]: cost for _, path, cost in a.engine.table(world.clock.seconds())}
    assert costs[c.handle] == 96 + 4 * 96
    link.suspect = False
    b.keeper.link_changed(link)
    world.run(2)
    assert a.engine.table(world.clock.seconds())[0][2] in (96, 192)


def test_round_trip_reaches_the_cost(world: TestWorld) -> None:
    """The round trip that a link measures becomes part of its cost."""
    a, b = world.line("a", "b")
    a.links["b"].rtt = 0.120
    world.run(10)
    assert b.engine.table(world.clock.seconds())[0][2] == 246


def test_drain(world: TestWorld) -> None:
    """Before a shutdown others route around us within half a second."""
    a, b, c, d = (world.add(name) for name in "abcd")
    for one, other in ((a, b), (b, d), (a, c), (c, d)):
        world.connect(one, other)
    world.run(5)
    first = a.engine.path(d.handle, world.clock.seconds())
    assert first is not None
    relay = b if first[1] == b.handle else c
    done = relay.keeper.drain()
    world.run(0.6)
    assert done.called
    path = a.engine.path(d.handle, world.clock.seconds())
    assert path is not None and path[1] not in (relay.handle,)


def test_renewed_certificate_is_named(world: TestWorld) -> None:
    """After a renewal records name the new serial, and everybody fetches the new certificate."""
    a, _b, c = world.line("a", "b", "c")
    world.run(5)
    renewed = world.issuer.renew(a.enrolled)
    a.enrolled = renewed
    a.book.add(renewed.certificate)
    a.keeper.renewed()
    a.control.announce_certificate(renewed.certificate)
    world.run(5)
    peer = c.book.find_name("a")
    assert peer is not None and peer.serial == renewed.certificate.body.serial
    held = c.engine.store.get((a.handle, 0))
    assert held is not None and held.record.serial == peer.serial


def test_expired_certificate_ends_its_records(world: TestWorld) -> None:
    """A node that does not renew is out of database and book after leeway."""
    a, b = world.line("a", "b")
    late = TestNode(world, world.issuer.enrol("late", "relay", lifetime=100))
    world.nodes["late"] = late
    world.connect(b, late)
    world.run(5)
    assert a.book.find_name("late") is not None
    world.run(410)
    assert a.book.find_name("late") is None
    assert a.engine.store.get((late.handle, 0)) is None


def test_outbox_is_bounded_by_its_keys() -> None:
    """An outbox holds one record a key, sends the newest, forgets what the other end has."""
    outbox = Outbox()
    for sequence in range(100):
        outbox.put((b"a" * 8, 0), sequence, b"%d" % sequence)
    assert outbox.take(10**6) == [(b"99",)]
    outbox.put((b"a" * 8, 0), 5, b"x")
    outbox.seen((b"a" * 8, 0), 4)
    outbox.put((b"b" * 8, 0), 5, b"y")
    outbox.seen((b"b" * 8, 0), 5)
    outbox.name((b"c" * 8, 0), 5)
    outbox.seen((b"c" * 8, 0), 6)
    outbox.put((b"d" * 8, 0), 1, b"z")
    outbox.drop(b"d" * 8)
    assert outbox.take(10**6) == [(b"x",)] and outbox.lazy == {}


def test_outbox_takes_in_pieces() -> None:
    """A large backlog leaves a bounded amount at a time, in frames of bounded size."""
    outbox = Outbox()
    for number in range(300):
        outbox.put((number.to_bytes(8, "big"), 0), 1, bytes(1000))
    frames = outbox.take(64 * 1024)
    assert sum(map(len, frames)) == 66 and all(sum(map(len, frame)) <= 16 * 1024 for frame in frames)
    assert len(outbox.eager) == 234


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


def test_wants_are_answered_from_the_database(world: TestWorld) -> None:
    """SYNC_WANT is answered with the record; what is not held is not answered."""
    a, b = world.line("a", "b")
    world.run(5)
    b.links["a"].sent.clear()
    want = SyncWant((RecordKey(a.handle, 0), RecordKey(b"n" * 8, 0)))
    b.links["a"].receive(Kind.SYNC_WANT, b"\0\0\0" + want.encode())
    world.run(0.1)
    assert len(records(b.links["a"])) == 1


def test_a_link_that_lags_gets_no_more_records_until_it_has_caught_up(world: TestWorld) -> None:
    """What waits in the outbox is replaced by newer records; what is queued on the link is not."""
    a, b = world.line("a", "b")
    world.run(3)
    link = a.links["b"]
    link.control_backlog = FLUSH_BACKLOG
    before = len(link.sent)
    c = world.add("c")
    world.connect(a, c)
    world.run(1)
    assert not [kind for kind, _ in link.sent[before:] if kind == Kind.LSA]
    assert b.engine.path(c.handle, world.clock.seconds()) is None
    link.control_backlog = 0
    world.run(1)
    assert b.engine.path(c.handle, world.clock.seconds()) is not None
