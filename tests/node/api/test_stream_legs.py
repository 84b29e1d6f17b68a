# SPDX-License-Identifier: MIT
"""A program's end of a stream on the socket of the local API: bytes, halves, pauses, and how it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from node.api.stream_programs import LocalNodes, accept, connect
from streams.rigs import MIB, Pump, Recorder
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from gmesh.client.stream_frames import FIN, FrameKind, Signal, data_head, reset_frame, stop_frame
from gmesh.node.api.framed_leg import FramedLeg, FramedStream
from gmesh.node.api.leg_room import LegRoom
from gmesh.stream_errors import StreamCode, StreamLost

DATA, FINAL, STOP, RESET = FrameKind.DATA, FrameKind.FIN, FrameKind.STOP, FrameKind.RESET
DONE = Signal(RESET, StreamCode.DONE)


@pytest_twisted.async_yield_fixture
async def nodes(tmp_path: Path) -> AsyncIterator[LocalNodes]:
    """Nodes a and b, and their sockets."""
    made = LocalNodes(tmp_path)
    await made.start()
    yield made
    await made.close()


class Framing:
    """What a producer writes, in frames."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport

    def write(self, data: bytes) -> None:
        self.transport.write(framed(data))


def framed(data: bytes) -> bytes:
    """One DATA."""
    return data_head(len(data)) + data


@pytest_twisted.ensureDeferred
async def test_a_stream_through_two_sockets(nodes: LocalNodes) -> None:
    """Each side is told who the other is, and who it is itself; then both halves end well."""
    near, far = await nodes.pair()
    assert near.statuses == [101]
    assert far.statuses == [100, 101]
    assert near.header("Gmesh-Peer")["name"] == "b"
    assert near.header("Gmesh-Host") == {
        "name": "a",
        "node_id": nodes.a.address("web").node_id,
        "roles": [],
        "serial": 1,
        "service": "web",
    }
    assert far.header("Gmesh-Peer")["name"] == "a"
    assert far.header("Gmesh-Peer")["stream"] == nodes.b.open_streams()[0].stream
    near.transport.write(framed(b"question") + FIN)
    await nodes.until(lambda: FINAL in far.kinds)
    far.transport.write(framed(b"answer") + FIN)
    await nodes.until(lambda: near.lost and far.lost)
    assert far.frames == [b"question", Signal(FINAL), DONE]
    assert near.frames == [b"answer", Signal(FINAL), DONE]


@pytest_twisted.ensureDeferred
async def test_the_far_end_may_end_its_half_first(nodes: LocalNodes) -> None:
    """And reads on."""
    near, far = await nodes.pair()
    far.transport.write(FIN)
    await nodes.until(lambda: FINAL in near.kinds)
    near.transport.write(framed(b"x" * 65536) * 40 + FIN)
    await nodes.until(lambda: near.lost and far.lost)
    assert len(far.data) == 40 * 65536
    assert far.frames[-1] == near.frames[-1] == DONE


@pytest_twisted.ensureDeferred
async def test_to_close_both_halves_is_fin_and_stop(nodes: LocalNodes) -> None:
    """The program need not wait: what it wrote arrives whole."""
    near, far = await nodes.pair()
    near.transport.write(framed(b"y" * 65536) * 40 + FIN + stop_frame())
    near.transport.loseConnection()
    await nodes.until(lambda: FINAL in far.kinds)
    assert len(far.data) == 40 * 65536
    assert STOP in far.kinds
    far.transport.write(FIN)
    await nodes.until(lambda: far.lost)
    assert far.frames[-1] == DONE


@pytest.mark.parametrize("near_goes", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_program_that_goes_has_aborted(nodes: LocalNodes, near_goes: bool) -> None:
    """It closed its socket, or died, before it ended both halves: never a clean end for the other."""
    near, far = await nodes.pair()
    going, staying = (near, far) if near_goes else (far, near)
    going.transport.write(framed(b"half of it") + FIN)
    await nodes.until(lambda: staying.data)
    going.transport.loseConnection()
    await nodes.until(lambda: staying.lost)
    last = staying.frames[-1]
    assert isinstance(last, Signal)
    assert (last.kind, last.code) == (RESET, StreamCode.ABORTED)
    assert "went away" in last.detail


@pytest_twisted.ensureDeferred
async def test_a_reset_of_the_program_goes_on(nodes: LocalNodes) -> None:
    """With its code and text; and its own socket ends with a RESET too."""
    near, far = await nodes.pair()
    near.transport.write(framed(b"1") + reset_frame(StreamCode.BUSY, "the disk is full"))
    await nodes.until(lambda: near.lost and far.lost)
    assert far.frames[-1] == Signal(RESET, StreamCode.BUSY, "the disk is full")
    last = near.frames[-1]
    assert isinstance(last, Signal)
    assert last.kind is RESET
    assert last.code is not StreamCode.DONE


@pytest_twisted.ensureDeferred
async def test_a_reset_that_says_done_is_no_end(nodes: LocalNodes) -> None:
    """RESET(done) is the daemon's word alone: from a program it is an abort."""
    near, far = await nodes.pair()
    near.transport.write(reset_frame(StreamCode.DONE))
    await nodes.until(lambda: far.lost)
    last = far.frames[-1]
    assert isinstance(last, Signal)
    assert last.code is StreamCode.ABORTED
    recorder = Recorder(nodes)
    nodes.b.listen("inside", lambda offer: offer.accept(recorder))
    near = await nodes.program(nodes.a, connect("b", "inside").encode() + reset_frame(StreamCode.DONE))
    await nodes.until(lambda: recorder.lost and near.lost)
    assert recorder.lost is not None
    assert isinstance(recorder.lost.value, StreamLost)
    assert recorder.lost.value.reason == "aborted"


@pytest.mark.parametrize("code", [code for code in StreamCode if code is not StreamCode.DONE])
@pytest_twisted.ensureDeferred
async def test_what_breaks_a_stream_is_told_to_both_programs(nodes: LocalNodes, code: StreamCode) -> None:
    """A revocation, a policy, a stop of the daemon: by its code, after what came before."""
    near, far = await nodes.pair()
    near.transport.write(framed(b"so far"))
    await nodes.until(lambda: far.data)
    nodes.b.break_all(code.slug, "because")
    await nodes.until(lambda: near.lost and far.lost)
    for program in (near, far):
        assert program.frames[-1] == Signal(RESET, code, "because")


@pytest_twisted.ensureDeferred
async def test_a_reader_that_stops_is_told(nodes: LocalNodes) -> None:
    """The writer hears STOP, and what it writes then goes nowhere; the other half goes on."""
    near, far = await nodes.pair()
    far.transport.write(stop_frame())
    await nodes.until(lambda: STOP in near.kinds)
    near.transport.write(framed(b"z" * 65536) * 64)
    far.transport.write(framed(b"listen") + FIN)
    await nodes.until(lambda: FINAL in near.kinds)
    assert near.data == b"listen"
    near.transport.write(FIN)
    await nodes.until(lambda: near.lost and far.lost)
    assert far.data == b""


@pytest_twisted.ensureDeferred
async def test_a_slow_program_pauses_the_far_one(nodes: LocalNodes) -> None:
    """What is held for it has an end, and nothing is lost."""
    near, far = await nodes.pair()
    far.transport.pauseProducing()
    pump = Pump(Framing(near.transport), nodes)
    near.transport.registerProducer(pump, True)
    pump.fill()
    for turn in range(1, 101):
        far.transport.write(framed(b"."))
        await nodes.until(lambda turn=turn: len(near.data) == turn)
    held = pump.produced
    assert held < 4 * MIB, "nobody waits for the slow program"
    far.transport.resumeProducing()
    await nodes.until(lambda: pump.produced > held + 8 * MIB)
    pump.stopped = True
    near.transport.unregisterProducer()
    near.transport.write(FIN)
    await nodes.until(lambda: len(far.body) > pump.produced and FINAL in far.kinds)
    assert far.data == pump.expected()


@pytest_twisted.ensureDeferred
async def test_so_many_programs_may_hold_more_and_give_it_back(nodes: LocalNodes) -> None:
    """Who moves much in a turn has a wide connection while there is room, and no longer than it lasts."""
    for room in nodes.rooms:
        room.left = 1
    wide = []
    for _ in range(2):
        near, far = await nodes.pair()
        near.transport.write(framed(b"x" * 65536) * 16 + FIN)
        await nodes.until(lambda far=far: FINAL in far.kinds)
        wide.append((near, far))
        assert [room.left for room in nodes.rooms] == [0, 0]
        assert len(far.data) == 16 * 65536
    for near, far in wide:
        far.transport.write(FIN)
        await nodes.until(lambda near=near, far=far: near.lost and far.lost)
    assert [room.left for room in nodes.rooms] == [1, 1]


class HalfCloseable(StringTransport):
    """As a socket."""

    def loseWriteConnection(self) -> None:
        self.disconnecting = True


def test_what_comes_in_a_turn_shares_frames() -> None:
    """Large frames of a fast stream, in order and before what ends it, however it was cut."""
    clock, stream, program = Clock(), StringTransport(), HalfCloseable()
    legs: list[FramedLeg] = []
    protocol = FramedStream(lambda leg, stream: legs.append(leg), LegRoom(), clock)
    protocol.makeConnection(stream)
    legs[0].makeConnection(program)
    for data in (b"x" * 40_000, b"y" * 20_000):
        protocol.dataReceived(data)
    clock.advance(0)
    assert program.value() == framed(b"x" * 40_000 + b"y" * 20_000)
    program.clear()
    protocol.dataReceived(b"z" * 40_000)
    protocol.dataReceived(b"z" * 40_000)
    protocol.readConnectionLost()
    assert program.value() == framed(b"z" * 40_000) * 2 + FIN
    program.clear()
    protocol.dataReceived(b"last")
    protocol.connectionLost(Failure(ConnectionDone()))
    assert program.value() == framed(b"last") + reset_frame(StreamCode.DONE)
    legs[0].connectionLost(Failure(ConnectionDone()))
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize(
    "sent", [b"\x07\x00\x00\x00", data_head(1) + b"x" + FIN + FIN, b"\x00\xff\xff\xff", b"\x02\x00\x00\x00"]
)
@pytest_twisted.ensureDeferred
async def test_a_program_that_breaks_the_framing_breaks_its_stream(nodes: LocalNodes, sent: bytes) -> None:
    """It hears why; the far end sees an abort."""
    near, far = await nodes.pair()
    near.transport.write(sent + b"more")
    await nodes.until(lambda: near.lost and far.lost)
    last, broken = near.frames[-1], far.frames[-1]
    assert isinstance(last, Signal)
    assert (last.kind, last.code) == (RESET, StreamCode.PROTOCOL)
    assert isinstance(broken, Signal)
    assert (broken.kind, broken.code) == (RESET, StreamCode.ABORTED)


@pytest_twisted.ensureDeferred
async def test_what_comes_with_the_head_is_of_the_stream(nodes: LocalNodes) -> None:
    """Also more of it than is kept: the rest waits in the socket."""
    far = await nodes.program(nodes.b, accept())
    await nodes.until(lambda: far.statuses == [100])
    sent = [bytes([number]) * 65536 for number in range(32)]
    near = await nodes.program(nodes.a, connect("b").encode() + b"".join(map(framed, sent)) + FIN)
    await nodes.until(lambda: FINAL in far.kinds)
    assert far.data == b"".join(sent)
    far.transport.write(FIN)
    await nodes.until(lambda: near.lost)


RAW = "CONNECT b:web HTTP/1.1\r\nHost: b:web\r\n\r\n"


@pytest_twisted.ensureDeferred
async def test_connect_gives_raw_bytes(nodes: LocalNodes) -> None:
    """With half-close each way."""
    near, far = await nodes.pair(RAW)
    assert near.heads[0][0] == "HTTP/1.1 200 Connected"
    assert near.header("Gmesh-Peer")["name"] == "b"
    near.transport.write(b"question")
    near.transport.loseWriteConnection()
    await nodes.until(lambda: FINAL in far.kinds)
    assert far.data == b"question"
    far.transport.write(framed(b"answer") + FIN)
    await nodes.until(lambda: near.ended and far.lost)
    assert near.body == b"answer"
    assert far.frames[-1] == DONE


@pytest_twisted.ensureDeferred
async def test_an_end_with_the_head_of_connect_is_a_half_close(nodes: LocalNodes) -> None:
    """As C{printf q | nc -N} does, before there is a stream."""
    far = await nodes.program(nodes.b, accept())
    await nodes.until(lambda: far.statuses == [100])
    near = await nodes.program(nodes.a, RAW + "q")
    near.transport.loseWriteConnection()
    await nodes.until(lambda: FINAL in far.kinds)
    far.transport.write(framed(b"a") + FIN)
    await nodes.until(lambda: near.ended)
    assert (far.data, near.body) == (b"q", b"a")


@pytest_twisted.ensureDeferred
async def test_a_broken_stream_breaks_a_raw_connection(nodes: LocalNodes) -> None:
    """It is closed in both directions; whether that is an end a unix socket cannot say."""
    near, far = await nodes.pair(RAW)
    far.transport.abortConnection()
    await nodes.until(lambda: near.ended)
    near.transport.write(b"x")
    await nodes.until(lambda: near.lost)
    assert not nodes.a.open_streams()


@pytest_twisted.ensureDeferred
async def test_a_raw_program_that_dies_has_aborted(nodes: LocalNodes) -> None:
    """As soon as something is written to it: until then it may have closed one half."""
    near, far = await nodes.pair(RAW)
    near.transport.abortConnection()
    far.transport.write(framed(b"are you there?") * 1000)
    await nodes.until(lambda: far.lost)
    last = far.frames[-1]
    assert isinstance(last, Signal)
    assert (last.kind, last.code) == (RESET, StreamCode.ABORTED)


@pytest_twisted.ensureDeferred
async def test_a_program_and_a_protocol_of_the_node(nodes: LocalNodes) -> None:
    """A stream does not care what either end is."""
    recorder = Recorder(nodes)
    nodes.b.listen("inside", lambda offer: offer.accept(recorder))
    near = await nodes.program(nodes.a, connect("b", "inside"))
    await nodes.until(lambda: near.heads)
    near.transport.write(framed(b"in"))
    await nodes.until(lambda: recorder.data)
    near.transport.loseConnection()
    await nodes.until(lambda: recorder.lost)
    assert recorder.lost is not None
    assert isinstance(recorder.lost.value, StreamLost)
