# SPDX-License-Identifier: MIT
"""What a transport promises: the same over a stream, over TCP and over a unix socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import pytest
import pytest_twisted
from client.program_rig import ProgramRig
from streams.rigs import MIB, RIGS, Careful, HalfCloser, OnClock, Pump, Recorder, Rig
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.protocols.basic import FileSender

LARGE = bytes(range(256)) * (3 * 4096)
"""3 MiB: more than any buffer on the way."""
ALL: dict[str, type[Rig]] = RIGS | {"programs": ProgramRig}


@pytest_twisted.async_yield_fixture(params=list(ALL))
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    """Something that joins two programs."""
    made = ALL[request.param]()
    yield made
    await made.close()


def stream_only(rig: Rig) -> None:
    """Skip what sockets do not promise."""
    if not rig.own:
        pytest.skip("a socket promises no such thing")


@pytest_twisted.ensureDeferred
async def test_what_is_written_arrives_whole_and_in_order_both_ways(rig: Rig) -> None:
    """In pieces of any size."""
    near, far = Recorder(rig), Recorder(rig)
    await rig.connect(near, far)
    for begin in range(0, len(LARGE), 99_999):
        near.transport.write(LARGE[begin : begin + 99_999])
    far.transport.writeSequence([LARGE[::-1], b"", b"!"])
    await rig.until(lambda: len(far.data) == len(LARGE) and len(near.data) == len(LARGE) + 1)
    assert far.data == LARGE
    assert near.data == LARGE[::-1] + b"!"


@pytest_twisted.ensureDeferred
async def test_the_dialler_ends_its_half_and_reads_on(rig: Rig) -> None:
    """As C{printf q | nc} does: the answer comes after the question has ended."""
    near, far = HalfCloser(rig), HalfCloser(rig)
    await rig.connect(near, far)
    near.transport.write(b"question")
    near.transport.loseWriteConnection()
    await rig.until(lambda: "read ended" in far.events)
    assert far.data == b"question"
    assert "write ended" in near.events
    far.transport.write(b"answer")
    await rig.until(lambda: near.data == b"answer")
    far.transport.loseWriteConnection()
    await rig.until(lambda: near.lost and far.lost)
    assert near.clean
    assert far.clean
    assert near.events == ["made", "write ended", "data", "read ended", "lost"]


@pytest_twisted.ensureDeferred
async def test_the_far_end_ends_its_half_and_reads_on(rig: Rig) -> None:
    """The dialler goes on writing."""
    near, far = HalfCloser(rig), HalfCloser(rig)
    await rig.connect(near, far)
    far.transport.loseWriteConnection()
    await rig.until(lambda: "read ended" in near.events)
    near.transport.write(LARGE)
    await rig.until(lambda: len(far.data) == len(LARGE))
    near.transport.loseConnection()
    await rig.until(lambda: near.lost and far.lost)
    assert near.clean
    assert far.clean


@pytest_twisted.ensureDeferred
async def test_both_end_their_halves_at_once(rig: Rig) -> None:
    """Neither waits for the other."""
    near, far = HalfCloser(rig), HalfCloser(rig)
    await rig.connect(near, far)
    near.transport.write(b"1")
    far.transport.write(b"2")
    near.transport.loseWriteConnection()
    far.transport.loseWriteConnection()
    await rig.until(lambda: near.lost and far.lost)
    assert (near.data, far.data) == (b"2", b"1")
    assert near.clean
    assert far.clean


@pytest_twisted.ensureDeferred
async def test_an_end_closes_what_knows_no_half_closes(rig: Rig) -> None:
    """A plain protocol is told once, when all is over."""
    near, far = Recorder(rig), Recorder(rig)
    await rig.connect(near, far)
    near.transport.write(b"bye")
    near.transport.loseConnection()
    await rig.until(lambda: near.lost and far.lost)
    assert far.data == b"bye"
    assert near.clean
    assert far.clean
    assert far.events == ["made", "data", "lost"]


@pytest_twisted.ensureDeferred
async def test_all_that_was_written_arrives_before_the_end(rig: Rig) -> None:
    """C{loseConnection} sends what no buffer on the way could hold."""
    near, far = Recorder(rig), Recorder(rig)
    await rig.connect(near, far)
    near.transport.write(LARGE)
    near.transport.loseConnection()
    await rig.until(lambda: far.lost)
    assert far.data == LARGE
    assert far.clean
    await rig.until(lambda: near.lost)
    assert near.clean


@pytest_twisted.ensureDeferred
async def test_an_end_waits_for_a_paused_reader(rig: Rig) -> None:
    """It is told after the data, not before."""
    near, far = HalfCloser(rig), HalfCloser(rig)
    await rig.connect(near, far)
    far.transport.pauseProducing()
    near.transport.write(LARGE)
    near.transport.loseWriteConnection()
    far.transport.write(b"still here")
    await rig.until(lambda: near.data)
    assert "read ended" not in far.events
    far.transport.resumeProducing()
    await rig.until(lambda: "read ended" in far.events)
    assert far.data == LARGE


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_pauses_a_push_producer(rig: Rig) -> None:
    """It writes only so much ahead, and all of it arrives once it is read."""
    near, far = Recorder(rig), Recorder(rig)
    await rig.connect(near, far)
    far.transport.pauseProducing()
    pump = Pump(near.transport, rig)
    near.transport.registerProducer(pump, True)
    pump.fill()
    await rig.until(lambda: pump.paused)
    far.transport.write(b"one turn more")
    await rig.until(lambda: near.data)
    held = pump.produced
    far.transport.resumeProducing()
    await rig.until(lambda: pump.produced > held + 8 * MIB)
    pump.stopped = True
    near.transport.unregisterProducer()
    near.transport.loseConnection()
    await rig.until(lambda: far.lost)
    assert pump.pauses > 1
    assert far.data == pump.expected()


@pytest_twisted.ensureDeferred
async def test_a_file_is_sent_by_a_pull_producer(rig: Rig) -> None:
    """Twisted's own sender, which is one."""
    near, far = Recorder(rig), Recorder(rig)
    await rig.connect(near, far)
    done: list[object] = []
    FileSender().beginFileTransfer(BytesIO(LARGE), near.transport).addCallback(done.append)
    await rig.until(lambda: len(far.data) == len(LARGE))
    assert far.data == LARGE
    near.transport.loseConnection()
    await rig.until(lambda: far.lost)
    assert len(done) == 1


@pytest_twisted.ensureDeferred
async def test_closing_waits_for_a_producer(rig: Rig) -> None:
    """As on TCP: what it has still to write is written first."""
    near, far = Recorder(rig), Recorder(rig)
    await rig.connect(near, far)
    FileSender().beginFileTransfer(BytesIO(LARGE), near.transport)
    near.transport.loseConnection()
    await rig.until(lambda: far.lost)
    assert far.data == LARGE
    assert far.clean


@pytest_twisted.ensureDeferred
async def test_a_producer_hears_that_its_consumer_is_gone(rig: Rig) -> None:
    """The one that was registered, and one that comes too late."""
    near, far = Recorder(rig), Recorder(rig)
    await rig.connect(near, far)
    early, late = Pump(near.transport, rig), Pump(near.transport, rig)
    near.transport.registerProducer(early, True)
    with pytest.raises(RuntimeError):
        near.transport.registerProducer(late, True)
    near.transport.abortConnection()
    await rig.until(lambda: near.lost)
    assert early.stopped
    near.transport.registerProducer(late, True)
    assert late.stopped


@pytest_twisted.ensureDeferred
async def test_what_was_aborted_is_never_a_clean_end(rig: Rig) -> None:
    """Neither here nor, where a connection can say so, at the far end."""
    near, far = Recorder(rig), Recorder(rig)
    await rig.connect(near, far)
    near.transport.write(b"half of it")
    await rig.until(lambda: far.data)
    near.transport.abortConnection()
    near.transport.abortConnection()
    assert near.lost is None, "told in the next turn"
    await rig.until(lambda: near.lost and far.lost)
    assert near.lost is not None
    assert near.lost.check(ConnectionAborted)
    assert far.lost is not None
    assert far.clean is not rig.says_broken
    assert not rig.says_broken or far.lost.check(ConnectionLost)


@pytest_twisted.ensureDeferred
async def test_an_abort_while_reading(rig: Rig) -> None:
    """From within C{dataReceived}: nothing more is read."""

    class Aborting(Recorder):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            self.transport.abortConnection()

    near, far = Recorder(rig), Aborting(rig)
    await rig.connect(near, far)
    near.transport.write(LARGE)
    await rig.until(lambda: near.lost and far.lost)
    assert far.events == ["made", "data", "lost"]
    assert not near.clean
    assert far.lost is not None
    assert far.lost.check(ConnectionAborted)


@pytest_twisted.ensureDeferred
async def test_closing_twice_and_writing_after_it(rig: Rig) -> None:
    """Does no harm, and what was written after the end goes nowhere."""
    near, far = Recorder(rig), Recorder(rig)
    await rig.connect(near, far)
    near.transport.write(b"all")
    near.transport.loseConnection()
    near.transport.loseConnection()
    await rig.until(lambda: near.lost and far.lost)
    near.transport.write(b"more")
    near.transport.loseConnection()
    near.transport.abortConnection()
    assert far.data == b"all"
    assert near.clean


@pytest_twisted.ensureDeferred
async def test_a_protocol_that_fails_breaks_its_own_stream(rig: Rig, flush_logged_errors: Any) -> None:
    """The fault is logged, and neither end is clean."""
    stream_only(rig)

    class Failing(Recorder):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            raise ZeroDivisionError

    near, far = Recorder(rig), Failing(rig)
    await rig.connect(near, far)
    near.transport.write(b"1")
    await rig.until(lambda: near.lost and far.lost)
    assert len(flush_logged_errors(ZeroDivisionError)) == 1
    assert not far.clean
    assert not near.clean


@pytest_twisted.ensureDeferred
async def test_a_reader_that_stops_is_told_to_the_writer(rig: Rig) -> None:
    """Without it a writer would wait for ever once the credit ends; it still reads."""
    stream_only(rig)
    near, far = Careful(rig), HalfCloser(rig)
    await rig.connect(near, far)
    near.transport.write(LARGE)
    far.transport.stop_reading()
    await rig.until(lambda: "write stopped" in near.events)
    far.transport.write(b"but listen")
    far.transport.loseWriteConnection()
    await rig.until(lambda: near.data == b"but listen" and "read ended" in near.events)
    near.transport.loseConnection()
    await rig.until(lambda: near.lost and far.lost)
    assert not near.clean, "what was not read did not arrive"


@pytest_twisted.ensureDeferred
async def test_both_ends_are_named(rig: Rig) -> None:
    """By what the authority certified."""
    stream_only(rig)
    near, far = Recorder(rig), Recorder(rig)
    await rig.connect(near, far)
    assert str(near.transport.getPeer()) == "b:web"
    assert str(far.transport.getPeer()) == "a:web"
    assert near.transport.getPeer().host == "b"


@pytest_twisted.ensureDeferred
async def test_bytes_are_counted(rig: Rig) -> None:
    """What the far end has, and what was handed over here."""
    stream_only(rig)
    if not isinstance(rig, OnClock):
        pytest.skip("a program's end counts nothing")
    near, far = Recorder(rig), Recorder(rig)
    await rig.connect(near, far)
    near.transport.write(b"12345")
    stream: Any = near.transport
    await rig.until(lambda: stream.sent == 5)
    assert (stream.opened, far.transport.opened) == (True, False)
    assert far.transport.received == 5
    assert stream.state == "open"


@pytest_twisted.ensureDeferred
async def test_a_stream_ends_by_itself_once_both_halves_have(rig: Rig) -> None:
    """No program has to remember to close it."""
    stream_only(rig)
    near, far = HalfCloser(rig), HalfCloser(rig)
    near.closes = far.closes = False
    await rig.connect(near, far)
    near.transport.loseWriteConnection()
    far.transport.loseWriteConnection()
    await rig.until(lambda: near.lost and far.lost)
    assert near.clean
    assert far.clean


@pytest_twisted.ensureDeferred
async def test_ends_are_told_once(rig: Rig) -> None:
    """C{ConnectionDone} means that both ends have everything."""
    near, far = HalfCloser(rig), Recorder(rig)
    await rig.connect(near, far)
    near.transport.write(b"x")
    near.transport.loseWriteConnection()
    await rig.until(lambda: near.lost and far.lost)
    assert near.lost is not None
    assert near.lost.check(ConnectionDone)
    assert near.events[-2:] == ["read ended", "lost"]
