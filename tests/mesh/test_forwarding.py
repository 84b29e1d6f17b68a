# SPDX-License-Identifier: MIT
"""Tests of C{mesh.forwarding} and C{mesh.data}: what a relay passes on, where, and what it refuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random
from typing import Any

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh.network_doubles import DoubleLink, TestNode, TestWorld, forge
from zope.interface.verify import verifyObject

from gmesh.errors import FrameRefused, SendRefused
from gmesh.interfaces import IFrameReceiver, IFrameReceiverFactory
from gmesh.mesh.data_protocol import DataFactory
from gmesh.mesh.limits import (
    DROPPED_HEARD,
    MAX_NOTICE_FLOWS,
    MAX_VERDICTS,
    NOTICES_EACH,
    NOTICES_SENT,
    SOURCE_BURST,
    SOURCE_RATE,
    UNREACH_HEARD,
)
from gmesh.routing.limits import MAX_HOPS
from gmesh.wire.frames import Kind
from gmesh.wire.limits import MAX_HANDLES
from gmesh.wire.messages import Dropped, Unreach
from gmesh.wire.paths import AT_COUNT, AT_HOP, PathHeader, TrafficClass, pack_path_frame, read_path

DATA = Kind.E2E_DATA


@pytest.fixture
def world() -> Iterator[TestWorld]:
    """A world that leaves nothing behind."""
    made = TestWorld()
    yield made
    made.stop()


def inject(node: TestNode, neighbour: TestNode, path: list[bytes], hop: int = 1, **header: int) -> None:
    """Have C{node} receive a frame with any header from a neighbour."""
    kind = header.pop("kind", DATA)
    frame = pack_path_frame(kind, PathHeader(tuple(path), 7, 1, hop, **header), b"x")
    node.links[neighbour.name].receive(kind, frame)


def data_sent(node: TestNode, to: TestNode) -> list[PathHeader]:
    """The headers of data frames that C{node} has put on a link."""
    frames = [frame for kind, frame in node.links[to.name].sent if kind == DATA]
    return [read_path(frame, 0, len(frame))[0] for frame in frames]


def test_seams(world: TestWorld) -> None:
    """Factory and protocol provide their interfaces."""
    one, _ = world.line("a", "b")
    factory = DataFactory(one.forwarding)
    assert verifyObject(IFrameReceiverFactory, factory)
    assert verifyObject(IFrameReceiver, factory.build_receiver(one.links["b"].neighbour))


def test_line_delivers(world: TestWorld) -> None:
    """A frame crosses relays unchanged but for the hop index, and is handed over with its header."""
    nodes = world.line("a", "b", "c", "d")
    world.run(2)
    assert nodes[0].send_to(nodes[3], b"payload", index=9, counter=5)
    world.run(1)
    ((kind, header, body),) = nodes[3].delivered
    assert (kind, body) == (DATA, b"payload")
    assert header == PathHeader(tuple(node.handle for node in nodes), 9, 5, 3)
    assert [header.hop for header in data_sent(nodes[1], nodes[2])] == [2]


def test_verdict_is_remembered_until_something_changes(world: TestWorld) -> None:
    """The checks run once for a header, again after links or trust changed."""
    nodes = world.line("a", "b", "c")
    world.run(2)
    asked = []
    judge = nodes[1].forwarding.judge

    def counting(*arguments: object) -> object:
        asked.append(arguments)
        return judge(*arguments)  # type: ignore[arg-type]  # passed through

    nodes[1].forwarding.judge = counting  # type: ignore[method-assign, assignment]  # a spy
    for counter in range(20):
        nodes[0].send_to(nodes[2], counter=counter)
    world.run(1)
    assert len(asked) == 1 and len(nodes[2].delivered) == 20
    nodes[1].forwarding.forget_verdicts()
    nodes[0].send_to(nodes[2])
    world.run(1)
    assert len(asked) == 2


def test_verdicts_are_bounded(world: TestWorld) -> None:
    """Any number of headers leaves at most so many verdicts."""
    one, two, three = world.line("a", "b", "c")
    protocol = DataFactory(two.forwarding).build_receiver(two.links["a"].neighbour)
    for number in range(MAX_VERDICTS + 5):
        path = (number.to_bytes(8, "big"), one.handle, two.handle, three.handle)
        frame = pack_path_frame(DATA, PathHeader(path, 1, 1, 2), b"")
        protocol.frame_received(DATA, memoryview(bytearray(frame)), 0, len(frame))
    assert len(protocol._verdicts) <= MAX_VERDICTS


@pytest.mark.parametrize(
    ("path", "hop", "cause"),
    [
        ("xbc", 1, "forward-wrong-ingress"),
        ("xabc", 1, "forward-wrong-ingress"),
        ("axc", 1, "forward-not-ours"),
        ("abcb", 1, "forward-repeated-hop"),
        ("abca", 1, "forward-repeated-hop"),
        ("abxx", 1, "forward-repeated-hop"),
    ],
)
def test_refused_headers(world: TestWorld, path: str, hop: int, cause: str) -> None:
    """A header that lies about its way is dropped and counted; the link stays."""
    nodes = {node.name: node for node in world.line("a", "b", "c")}
    handles = [nodes[name].handle if name in nodes else b"x" * 8 for name in path]
    inject(nodes["b"], nodes["a"], handles, hop)
    assert nodes["b"].counters[cause] == 1
    assert data_sent(nodes["b"], nodes["c"]) == []
    assert nodes["b"].refusals == []


def test_c6_a_destination_that_no_record_names(world: TestWorld) -> None:
    """A frame to a made-up handle leaves the first relay nowhere; it is counted, and its source is told."""
    a, b, c, d = world.line("a", "b", "c", "d")
    world.run(2)
    made_up = b"made up."
    for counter in range(3):
        assert a.send_to(d, path=(a.handle, b.handle, c.handle, made_up), counter=counter)
    world.run(1)
    assert b.counters["forward-unknown-destination"] == 3 and data_sent(b, c) == []
    assert b.counters["unreach-sent"] == a.counters["unreach-heard"] == 3
    assert a.send_to(d)
    world.run(1)
    assert len(d.delivered) == 1


def test_too_long(world: TestWorld) -> None:
    """More hops than the policy allows are refused by every relay."""
    one, two, three = world.line("a", "b", "c")
    last = world.add("d")
    world.connect(two, last)
    filler = [*(bytes([number]) * 8 for number in range(1, MAX_HOPS - 2)), last.handle]
    inject(two, one, [one.handle, two.handle, three.handle, *filler])
    assert two.counters["forward-too-long"] == 0 and len(data_sent(two, three)) == 1
    inject(two, one, [one.handle, two.handle, three.handle, b"z" * 8, *filler])
    assert two.counters["forward-too-long"] == 1 and len(data_sent(two, three)) == 1


def test_client_does_not_relay(world: TestWorld) -> None:
    """A node without the role is no interior hop, whatever a header says; it still receives."""
    one, client, three = world.add("a"), world.add("b", "client"), world.add("c")
    world.connect(one, client)
    world.connect(client, three)
    inject(client, one, [one.handle, client.handle, three.handle])
    assert client.counters["forward-no-relay"] == 1
    inject(client, one, [one.handle, client.handle])
    assert len(client.delivered) == 1


def test_transit_may_be_denied(world: TestWorld) -> None:
    """What a source may not send through us is dropped."""
    one, two, three = world.line("a", "b", "c")
    two.forwarding._may_transit = lambda source: source != one.handle
    inject(two, one, [one.handle, two.handle, three.handle])
    assert two.counters["forward-transit-denied"] == 1


@pytest.mark.parametrize("position", [0, 2, 3])
def test_revoked_in_the_path(world: TestWorld, position: int) -> None:
    """From the moment the CRL is applied no header with the revoked node, at any place, is obeyed."""
    one, two, three = world.line("a", "b", "c")
    gone = world.add("gone")
    two.directory.add(gone.enrolled.certificate)
    path = [b"s" * 8, one.handle, two.handle, three.handle]
    if position == 0:
        path[0] = gone.handle
    elif position == 2:
        path.insert(3, gone.handle)
    else:
        path[3] = gone.handle
        two.forwarding.links[gone.handle] = two.links["c"]
    inject(two, one, path, 2)
    assert two.counters["forward-revoked"] == 0
    two.trust.offer(world.issuer.revoke(gone.enrolled), world.wall())
    inject(two, one, path, 2)
    assert two.counters["forward-revoked"] == 1


@pytest.mark.parametrize(
    "frame",
    [
        b"\0\4\x42\0\1\0\2",
        b"\0\x10\x42\0\1\0\xff" + bytes(12),
        b"\0\x1c\x42\0\0\0\2" + bytes(24) + b"\0" * 4,
        b"\0\x20\x42\x09\1\0\2" + bytes(28),
    ],
)
def test_malformed_header_costs_the_link(world: TestWorld, frame: bytes) -> None:
    """A header that breaks the format was let pass by the neighbour: the link ends."""
    _one, two = world.line("a", "b")
    two.links["a"].receive(DATA, frame)
    assert two.refusals == ["malformed"]
    assert two.links["a"].closed


@given(st.binary(max_size=80))
def test_any_bytes(frame: bytes) -> None:
    """Arbitrary bytes are refused with one error or counted, never passed on by chance."""
    world = FUZZ
    receiver = DataFactory(world.nodes["b"].forwarding).build_receiver(world.nodes["b"].links["a"].neighbour)
    whole = b"\0\0\x42" + frame
    with suppress(FrameRefused):
        receiver.frame_received(DATA, memoryview(bytearray(whole)), 0, len(whole))
    assert data_sent(world.nodes["b"], world.nodes["c"]) == []


FUZZ = TestWorld()
FUZZ.line("a", "b", "c")


def test_header_must_not_reach_into_the_next_frame(world: TestWorld) -> None:
    """A path that would end in the frame behind it is refused even if a like header was obeyed before."""
    one, two, three = world.line("a", "b", "c")
    good = pack_path_frame(DATA, PathHeader((one.handle, two.handle, three.handle), 1, 1), b"")
    receiver = DataFactory(two.forwarding).build_receiver(two.links["a"].neighbour)
    record = memoryview(bytearray(good + good))
    receiver.frame_received(DATA, record, 0, len(good))
    record = memoryview(bytearray(good + good))
    with pytest.raises(FrameRefused):
        receiver.frame_received(DATA, record, 0, len(good) - 1)


@pytest.mark.parametrize("again", [1, 2])
def test_a_relay_changes_nothing_but_the_hop(world: TestWorld, again: int) -> None:
    """The first frame of a flow, which is judged, and the next one, whose verdict is remembered."""
    a, b, c = world.line("a", "b", "c")
    world.run(2)
    path = (a.handle, b.handle, c.handle)
    frame = bytearray(pack_path_frame(DATA, PathHeader(path, 7, 9, 1, TrafficClass.BULK), b"payload"))
    for _ in range(again):
        world.visits.clear()
        b.links["a"].receive(DATA, bytes(frame))
        world.run(1)
    frame[AT_HOP] = 2
    assert ("c", bytes(frame)) in world.visits


@pytest.mark.parametrize("count", [0, 1, MAX_HANDLES + 1, 255])
def test_a_path_of_a_length_that_none_may_have(world: TestWorld, count: int) -> None:
    """It is refused, however long its frame."""
    _, two, _ = world.line("a", "b", "c")
    receiver = DataFactory(two.forwarding).build_receiver(two.links["a"].neighbour)
    frame = bytearray(pack_path_frame(DATA, PathHeader((b"x" * 8, b"y" * 8)), bytes(4000)))
    frame[AT_COUNT] = count
    with pytest.raises(FrameRefused):
        receiver.frame_received(DATA, memoryview(frame), 0, len(frame))


def test_field_r5_splice_around_a_lost_link(world: TestWorld) -> None:
    """A relay whose next link is gone sends the frame another way that avoids whom it has visited."""
    a, b, c, d = (world.add(name) for name in "abcd")
    for one, other in ((a, b), (b, c), (c, d), (b, d)):
        world.connect(one, other)
    world.run(2)
    path = (a.handle, b.handle, d.handle)
    world.cut(b, d)
    assert a.send_to(d, path=path)
    world.run(1)
    ((_, header, _),) = d.delivered
    assert header.path == (a.handle, b.handle, c.handle, d.handle)
    assert (header.splices, header.hop) == (1, 3)
    assert b.counters["spliced"] == 1


def test_no_splice_back_over_the_visited(world: TestWorld) -> None:
    """When the only other way leads back, the frame is dropped and the source told, with proof."""
    a, b, c, d = (world.add(name) for name in "abcd")
    for one, other in ((a, b), (b, c), (a, d), (c, d)):
        world.connect(one, other)
    world.run(2)
    assert a.engine.path(c.handle, world.clock.seconds()) is not None
    world.cut(b, c)
    assert a.send_to(c, path=(a.handle, b.handle, c.handle), index=3, counter=8)
    world.run(1)
    ((header, reason),) = a.undelivered
    assert (reason, header.receiver_index, header.counter) == ("unreachable", 3, 8)
    assert header.path == (b.handle, a.handle)
    assert a.send_to(c)
    world.run(1)
    assert [header.path for _, header, _ in c.delivered] == [(a.handle, d.handle, c.handle)]


def test_splices_are_counted(world: TestWorld) -> None:
    """After three splices a frame is not spliced again."""
    a, b, c, d = (world.add(name) for name in "abcd")
    for one, other in ((a, b), (b, c), (c, d)):
        world.connect(one, other)
    world.run(2)
    for splices, expected in ((2, 1), (3, 1)):
        inject(b, a, [a.handle, b.handle, d.handle], splices=splices)
        world.run(0.5)
        assert len(d.delivered) == expected


def test_unreach_with_somebody_elses_record_is_ignored(world: TestWorld) -> None:
    """A relay can prove its own links only: other, forged and contradicting records prove nothing."""
    a, b, c = world.line("a", "b", "c")
    world.run(2)

    def unreach(sender: TestNode, next_hop: bytes, record: bytes) -> None:
        body = Unreach(c.handle, next_hop, record).encode()
        frame = pack_path_frame(Kind.UNREACH, PathHeader((sender.handle, a.handle), 7, 1), body)
        a.links["b"].receive(Kind.UNREACH, frame)

    own = b.engine.store.get((b.handle, 0))
    other = c.engine.store.get((c.handle, 0))
    assert own is not None and other is not None
    unreach(b, c.handle, own.data)
    unreach(b, c.handle, other.data)
    unreach(b, c.handle, forge(own.data))
    unreach(b, c.handle, b"nonsense")
    assert a.undelivered == []
    assert a.counters["unreach-unproven"] == 3 and a.counters["notice-malformed"] == 1
    assert a.refusals == []
    assert a.engine.path(c.handle, world.clock.seconds()) is not None
    unreach(b, b"nobody!!", own.data)
    assert len(a.undelivered) == 1


class Judged:
    """How often C{a} judges the records of notices, which come by its link to b."""

    def __init__(self, a: TestNode, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._a, self._prove = a, a.flooding.prove
        own = a.engine.store.get((a.links["b"].peer.handle, 0))
        assert own is not None
        self._forged = forge(own.data)
        monkeypatch.setattr(a.flooding, "prove", self._judge)

    def _judge(self, data: bytes) -> object:
        self.count += 1
        return self._prove(data)

    def hear(self, source: bytes, times: int = 1, destination: bytes = b"far node") -> None:
        """UNREACH, and as many DROPPED."""
        between = self._a.links["b"].peer.handle
        header = PathHeader((source, between, self._a.handle), 7, 1, 2)
        unreach = Unreach(destination, b"nobody!!", self._forged).encode()
        for kind, body in ((Kind.UNREACH, unreach), (Kind.DROPPED, Dropped(destination, 1).encode())):
            frame = pack_path_frame(kind, header, body)
            for _ in range(times):
                self._a.links["b"].receive(kind, frame)


def test_c4_a_notice_about_no_frame_of_ours_is_not_looked_at(
    world: TestWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No signature is checked for it, nobody hears of it, and it takes nothing of what others may send."""
    a, _ = world.line("a", "b")
    world.run(2)
    told: list[object] = []
    a.forwarding.serve(
        lambda *frame: None,
        lambda header, destination, reason: told.append(reason),
        lambda header, destination: destination == b"far node",
    )
    judged = Judged(a, monkeypatch)
    judged.hear(b"somebody", 1000, b"elsewher")
    assert (judged.count, told) == (0, []) and a.counters["notice-stray"] == 2000
    judged.hear(b"somebody")
    assert (judged.count, told) == (1, ["dropped"])


def test_c4_so_many_notices_of_one_source_and_one_neighbour_are_looked_at(
    world: TestWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as an honest relay sends, whoever signs with nothing; more come with time."""
    a, _ = world.line("a", "b")
    world.run(2)
    judged = Judged(a, monkeypatch)
    judged.hear(b"somebody", 1000)
    assert judged.count == len(a.undelivered) == NOTICES_EACH.burst
    for number in range(2000):
        judged.hear(number.to_bytes(8, "big"))
    assert judged.count == UNREACH_HEARD.burst and len(a.undelivered) == DROPPED_HEARD.burst
    world.run(1)
    judged.hear(b"somebody", 1000)
    assert judged.count == UNREACH_HEARD.burst + NOTICES_EACH.burst
    assert a.counters["unreach-unproven"] == judged.count and a.refusals == []


def test_what_an_honest_relay_says_of_full_queues_is_heard(world: TestWorld) -> None:
    """Of as many flows of one node as it tells of behind one neighbour."""
    a, b, c = world.line("a", "b", "c")
    world.run(2)
    for number in range(2 * NOTICES_SENT.burst):
        path = (a.handle, b.handle, c.handle, number.to_bytes(8, "big"))
        b.forwarding.dropped(b"", pack_path_frame(DATA, PathHeader(path, 1, 1, 2), b""))
    world.run(0.5)
    told = b.counters["dropped-sent"]
    assert told == NOTICES_SENT.burst == len(a.undelivered) and a.counters["notice-rate"] == 0


def test_a_neighbour_with_many_flows_takes_no_notices_of_others(world: TestWorld) -> None:
    """What a made of them is a's own: d hears that its frame was dropped."""
    a, b, c, d = (world.add(name) for name in "abcd")
    for one in (a, c, d):
        world.connect(b, one)
    world.run(2)
    for number in range(2 * MAX_NOTICE_FLOWS):
        path = (number.to_bytes(8, "big"), a.handle, b.handle, c.handle)
        b.forwarding.dropped(b"", pack_path_frame(DATA, PathHeader(path, 1, 1, 3), b""))
    assert b.counters["dropped-sent"] == NOTICES_SENT.burst
    b.forwarding.dropped(b"", pack_path_frame(DATA, PathHeader((d.handle, b.handle, c.handle), 1, 9, 2), b""))
    world.run(0.5)
    assert [header.counter for header, _ in d.undelivered] == [9]


def test_notices_are_rate_limited_per_source(world: TestWorld) -> None:
    """At most ten UNREACH a second go to one source."""
    a, b, c = world.line("a", "b", "c")
    world.run(2)
    world.cut(b, c)
    for counter in range(50):
        a.send_to(c, path=(a.handle, b.handle, c.handle), counter=counter)
    world.run(0.5)
    assert b.counters["unreach-sent"] == 10
    world.run(10)
    a.send_to(c, path=(a.handle, b.handle, c.handle))
    world.run(0.5)
    assert b.counters["unreach-sent"] == 11


def test_field_r7_full_queue_is_told(world: TestWorld) -> None:
    """A frame that a relay's next queue did not take costs a DROPPED to its source: flow and counter."""
    a, b, c = world.line("a", "b", "c")
    world.run(2)
    b.links["c"].takes_data = False
    a.send_to(c, index=4, counter=11)
    world.run(0.5)
    ((header, reason),) = a.undelivered
    assert (reason, header.receiver_index, header.counter) == ("dropped", 4, 11)
    assert b.counters["dropped-sent"] == 1


def test_queue_that_drops_later_is_told_too(world: TestWorld) -> None:
    """What a queue took and then dropped is reported like what it refused; our own directly."""
    a, b, c = world.line("a", "b", "c")
    world.run(2)
    frame = pack_path_frame(DATA, PathHeader((a.handle, b.handle, c.handle), 4, 11, 2), b"")
    b.forwarding.dropped(a.handle + c.handle, frame)
    own = pack_path_frame(DATA, PathHeader((b.handle, c.handle), 5, 12, 1), b"")
    b.forwarding.dropped(b.handle + c.handle, own)
    notice = pack_path_frame(Kind.DROPPED, PathHeader((a.handle, b.handle, c.handle), 1, 1, 2), b"")
    b.forwarding.dropped(a.handle + c.handle, notice)
    world.run(0.5)
    assert [(header.counter, reason) for header, reason in a.undelivered] == [(11, "dropped")]
    assert [(header.counter, reason) for header, reason in b.undelivered] == [(12, "dropped")]


def test_what_is_remembered_for_notices_is_bounded(world: TestWorld) -> None:
    """Made-up sources fill a bounded table, which empties when they are quiet; then others are told again."""
    a, b, c = world.line("a", "b", "c")
    world.run(2)
    for number in range(MAX_NOTICE_FLOWS + 50):
        path = (number.to_bytes(8, "big"), a.handle, b.handle, c.handle)
        b.forwarding.dropped(b"", pack_path_frame(DATA, PathHeader(path, 1, 1, 3), b""))
    assert b.counters["dropped-sent"] == MAX_NOTICE_FLOWS
    assert len(b.forwarding._notices) <= MAX_NOTICE_FLOWS and len(b.forwarding._lost) <= MAX_NOTICE_FLOWS
    world.run(2)
    b.forwarding.housekeeping()
    assert not b.forwarding._notices and not b.forwarding._lost
    b.forwarding.dropped(b"", pack_path_frame(DATA, PathHeader((a.handle, b.handle, c.handle), 1, 1, 2), b""))
    assert b.counters["dropped-sent"] == MAX_NOTICE_FLOWS + 1


def test_dropped_is_a_hint(world: TestWorld) -> None:
    """A malformed DROPPED is counted, a good one handed on; neither costs the link."""
    a, b = world.line("a", "b")
    for payload in (b"", Dropped(b"d" * 8, 3).encode()):
        frame = pack_path_frame(Kind.DROPPED, PathHeader((b.handle, a.handle), 1, 2), payload)
        a.links["b"].receive(Kind.DROPPED, frame)
    assert a.counters["notice-malformed"] == 1 and len(a.undelivered) == 1
    assert a.refusals == []


@pytest.mark.parametrize("error", [SendRefused("odd", "what a far end wrote"), OverflowError("too large")])
@pytest.mark.parametrize("kind", [DATA, Kind.E2E_INIT, Kind.DROPPED])
def test_what_fails_at_the_end_of_a_path_costs_the_frame_alone(
    world: TestWorld, kind: Kind, error: Exception, flush_logged_errors: Callable[..., list[Any]]
) -> None:
    """The neighbour that handed it on has no part in it: counted, and logged ever more rarely."""
    a, b = world.line("a", "b")

    def fails(*arguments: object) -> None:
        raise error

    a.forwarding.serve(fails, fails, fails)
    frame = pack_path_frame(kind, PathHeader((b.handle, a.handle), 1, 2), Dropped(b"d" * 8, 3).encode())
    for _ in range(100):
        a.links["b"].receive(kind, frame)
    assert a.refusals == []
    assert a.counters["deliver-failed"] == 100
    assert 0 < len(flush_logged_errors(type(error))) < 10


def flood(world: TestWorld, source: TestNode, path: tuple[bytes, ...], seconds: float) -> int:
    """Frames that are sent along C{path} in so many seconds, more than any first relay lets pass."""
    frame = pack_path_frame(DATA, PathHeader(path, 7, 1), bytes(16_000))
    passes = 2 * (2 * SOURCE_BURST + SOURCE_RATE * seconds) / len(frame) / (len(path) - 2)
    rounds = 20
    for _ in range(rounds):
        for _ in range(int(passes / rounds)):
            source.links["b"].other.receive(DATA, frame)
        world.run(seconds / rounds)
    return len(frame)


def test_what_a_source_makes_others_carry_is_bounded(world: TestWorld) -> None:
    """Of a long path the first relay passes on so many bytes a second, each counted for every hop of it."""
    a, b, c, d = world.line("a", "b", "c", "d")
    world.run(2)
    path = (a.handle, b.handle, c.handle, *(bytes([n]) * 8 for n in range(1, 30)), d.handle)
    passed: list[int] = []
    b.links["c"].send_data = lambda head, flow, rest: passed.append(len(head) + len(rest)) or True  # type: ignore[method-assign]  # no need to queue it
    size = flood(world, a, path, 0.5)
    carried = sum(passed) * (len(path) - 2)
    bound = 2 * SOURCE_BURST + SOURCE_RATE * 0.5
    assert 0.9 * bound < carried <= bound + size * len(path)
    assert b.counters["forward-source-rate"] > 0
    assert 0 < b.counters["dropped-sent"] <= NOTICES_EACH.burst + NOTICES_EACH.rate * 0.5 + 1


def test_only_the_first_relay_counts(world: TestWorld) -> None:
    """Behind the first relay a frame is passed on whatever its source has sent: carrying is not punished."""
    a, b, c, d = world.line("a", "b", "c", "d")
    world.run(2)
    path = (a.handle, b.handle, c.handle, d.handle)
    frame = pack_path_frame(DATA, PathHeader(path, 7, 1, 2), bytes(16_000))
    c.links["d"].send_data = lambda head, flow, rest: True  # type: ignore[method-assign]  # no need to queue it
    for _ in range(int(2 * SOURCE_BURST / len(frame)) + 1000):
        c.links["b"].receive(DATA, frame)
    assert "forward-source-rate" not in c.counters


def test_own_link_gone(world: TestWorld) -> None:
    """A source learns at once that its own link is gone."""
    a, b, c = world.line("a", "b", "c")
    world.run(2)
    path = (a.handle, b.handle, c.handle)
    world.cut(a, b)
    assert not a.send_to(c, path=path)
    assert a.counters["own-link-gone"] == 1


def check_visits(world: TestWorld, limit: int = MAX_HOPS) -> None:
    """Invariant 1: no frame visits a node twice, nor more nodes than the hop limit."""
    visits: Counter[tuple[str, bytes, int, int]] = Counter()
    hops: Counter[tuple[bytes, int, int]] = Counter()
    for name, frame in world.visits:
        header, _ = read_path(frame, 0, len(frame))
        visits[name, header.source, header.counter, frame[2]] += 1
        hops[header.source, header.counter, frame[2]] += 1
    assert all(count == 1 for count in visits.values())
    assert all(count <= limit for count in hops.values())


@settings(max_examples=6)
@given(st.integers(0, 2**16))
def test_field_r2_no_frame_visits_a_node_twice(seed: int) -> None:
    """While links fall and return and databases disagree, each frame visits each node at most once."""
    random = Random(seed)
    world = TestWorld(seed)
    graph = nx.connected_watts_strogatz_graph(8, 4, 0.5, seed=seed)
    nodes = [world.add(f"n{number}") for number in graph]
    for one, other in graph.edges:
        world.connect(nodes[one], nodes[other], random.uniform(0.002, 0.04))
    world.run(3)
    counter = 0
    for _ in range(25):
        one, other = random.sample(nodes, 2)
        if other.name in one.links and random.random() < 0.6:
            world.cut(one, other)
        elif other.name not in one.links and random.random() < 0.6:
            world.connect(one, other, random.uniform(0.002, 0.04))
        for _ in range(4):
            source, target = random.sample(nodes, 2)
            counter += 1
            source.send_to(target, counter=counter)
        world.run(random.uniform(0, 0.1))
    world.run(1)
    check_visits(world)
    delivered = [header.counter for node in nodes for _, header, _ in node.delivered]
    assert len(delivered) == len(set(delivered)) and len(delivered) > counter // 3
    world.stop()


def test_liar_who_rewrites_paths(world: TestWorld) -> None:
    """A relay that rewrites what it passes on still cannot make an honest node handle one frame twice."""
    a, liar, b, c = (world.add(name) for name in ("a", "liar", "b", "c"))
    for one, other in ((a, liar), (liar, b), (b, c), (c, liar)):
        world.connect(one, other)
    world.run(2)
    link: DoubleLink = b.links["liar"]
    ring = (liar.handle, b.handle, c.handle, liar.handle)
    for path, hop in (
        ((a.handle, *ring), 2),
        ((a.handle, liar.handle, b.handle, c.handle, b.handle), 2),
        ((b.handle, liar.handle, b.handle), 2),
    ):
        link.receive(DATA, pack_path_frame(DATA, PathHeader(path, 1, 1, hop), b""))
    assert b.counters["forward-repeated-hop"] == 3
    assert data_sent(b, c) == []
