# SPDX-License-Identifier: MIT
"""L{gmesh.client.leg}: which frames a program's calls become, and what frames are for a program."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from client.fake_daemon import HOST, UPGRADED, FakeDaemon, Seat
from streams.rigs import Careful, HalfCloser, OnReactor, Recorder
from twisted.internet import reactor
from twisted.internet.endpoints import connectProtocol
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from zope.interface import implementer
from zope.interface.verify import verifyObject

from gmesh.addresses import MeshAddress
from gmesh.client.endpoints import MeshClientEndpoint
from gmesh.stream_errors import StreamLost

FIN = bytes.fromhex("01 000000")
STOP_DONE = bytes.fromhex("02 000002 0000")
DONE = bytes.fromhex("03 000002 0000")
REVOKED = bytes.fromhex("03 000006 0009") + b"gone"


def data(text: bytes) -> bytes:
    """A frame of the stream."""
    return b"\0" + len(text).to_bytes(3, "big") + text


async def joined(daemon: FakeDaemon, protocol: Recorder) -> Seat:
    """A program in the middle of a stream, and the daemon's end of it."""
    endpoint = MeshClientEndpoint(reactor, "pump-07", "web", daemon.path)
    connecting = connectProtocol(endpoint, protocol)
    seat = await daemon.asked(len(daemon.seats))
    seat.say(UPGRADED)
    seat.received = b"\r\n\r\n"
    await connecting
    return seat


class TellingRig(OnReactor):
    """Tells the test when the program was told something."""

    def __init__(self, daemon: FakeDaemon) -> None:
        super().__init__()
        self.tell = daemon.tell


@pytest.fixture
def rig(daemon: FakeDaemon) -> OnReactor:
    """Where the test waits for either."""
    return TellingRig(daemon)


@pytest_twisted.ensureDeferred
async def test_it_is_a_transport_of_twisted(daemon: FakeDaemon, rig: OnReactor) -> None:
    """And names both ends."""
    program = Recorder(rig)
    await joined(daemon, program)
    transport: Any = program.transport
    for each in (ITransport, IConsumer, IPushProducer):
        assert verifyObject(each, transport)
    roles = ("client", "service:web")
    assert transport.getPeer() == MeshAddress("pump-07", "07" * 16, roles, 7, "web")
    assert transport.getHost() == MeshAddress("desk", HOST["node_id"], ("client",), 3, "web")
    transport.abortConnection()
    await daemon.until(lambda: program.lost)


@pytest_twisted.ensureDeferred
async def test_writes_are_frames_of_64_kib_at_most(daemon: FakeDaemon, rig: OnReactor) -> None:
    program = Recorder(rig)
    seat = await joined(daemon, program)
    large = bytes(range(256)) * 300
    program.transport.write(b"a")
    program.transport.write(b"")
    program.transport.writeSequence([b"b", b"", b"c"])
    program.transport.write(large)
    program.transport.writeSequence([large, b"end"])
    expected = (
        data(b"a")
        + data(b"bc")
        + data(large[:65_536])
        + data(large[65_536:])
        + data(large[:65_536])
        + data(large[65_536:] + b"end")
    )
    await daemon.until(lambda: len(seat.body) >= len(expected))
    assert seat.body == expected
    program.transport.abortConnection()
    await daemon.until(lambda: program.lost)


@pytest.mark.parametrize("text", ["text", 1, None, bytearray(b"1")])
@pytest_twisted.ensureDeferred
async def test_only_bytes_are_written(daemon: FakeDaemon, rig: OnReactor, text: Any) -> None:
    program = Recorder(rig)
    await joined(daemon, program)
    with pytest.raises(TypeError, match="Data must be bytes"):
        program.transport.write(text)
    with pytest.raises(TypeError, match="Data must be bytes"):
        program.transport.writeSequence([b"1", text])
    program.transport.abortConnection()
    await daemon.until(lambda: program.lost)


@pytest_twisted.ensureDeferred
async def test_closing_is_fin_and_stop_and_done_ends_it(daemon: FakeDaemon, rig: OnReactor) -> None:
    """Until the daemon says that all was acknowledged it is not over."""
    program = Recorder(rig)
    seat = await joined(daemon, program)
    program.transport.write(b"bye")
    program.transport.loseConnection()
    program.transport.loseConnection()
    program.transport.write(b"too late")
    program.transport.loseWriteConnection()
    await daemon.until(lambda: len(seat.body) >= len(data(b"bye") + FIN + STOP_DONE))
    assert seat.body == data(b"bye") + FIN + STOP_DONE
    seat.say(data(b"unheard"), FIN)
    assert program.lost is None
    seat.say(DONE)
    seat.close()
    await daemon.until(lambda: program.lost)
    assert program.clean
    assert program.data == b""


@pytest_twisted.ensureDeferred
async def test_half_closes_are_fin_each_way(daemon: FakeDaemon, rig: OnReactor) -> None:
    program = HalfCloser(rig)
    program.closes = False
    seat = await joined(daemon, program)
    program.transport.loseWriteConnection()
    await daemon.until(lambda: seat.body == FIN and "write ended" in program.events)
    seat.say(data(b"answer"), FIN)
    await daemon.until(lambda: "read ended" in program.events)
    assert program.data == b"answer"
    seat.say(DONE)
    await daemon.until(lambda: program.lost)
    assert program.clean
    assert seat.body == FIN


@pytest_twisted.ensureDeferred
async def test_fin_closes_a_program_that_knows_no_half_closes(daemon: FakeDaemon, rig: OnReactor) -> None:
    """What it has written goes before."""
    program = Recorder(rig)
    seat = await joined(daemon, program)
    program.transport.write(b"last")
    seat.say(FIN)
    await daemon.until(lambda: seat.body.endswith(FIN))
    assert seat.body == data(b"last") + FIN
    seat.say(DONE)
    await daemon.until(lambda: program.lost)
    assert program.clean


@pytest.mark.parametrize("sent", [b"", data(b"half"), FIN, data(b"half") + FIN, b"\0\0\0\x09half"])
@pytest.mark.parametrize("closing", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_daemon_that_is_gone_is_never_a_clean_end(
    daemon: FakeDaemon, rig: OnReactor, sent: bytes, closing: bool
) -> None:
    """Whatever both ends have said before, but for done."""
    program = Recorder(rig)
    seat = await joined(daemon, program)
    if closing:
        program.transport.loseConnection()
        await daemon.until(lambda: seat.body == FIN + STOP_DONE)
    seat.say(sent)
    seat.close()
    await daemon.until(lambda: program.lost)
    assert program.lost is not None
    error = program.lost.value
    assert isinstance(error, StreamLost)
    assert error.reason == "stopped"


@pytest_twisted.ensureDeferred
async def test_a_reset_says_why(daemon: FakeDaemon, rig: OnReactor) -> None:
    """What came before it is heard."""
    program = Recorder(rig)
    seat = await joined(daemon, program)
    seat.say(data(b"half"), REVOKED)
    await daemon.until(lambda: program.lost)
    assert program.data == b"half"
    assert program.lost is not None
    error = program.lost.value
    assert isinstance(error, StreamLost)
    assert isinstance(error, ConnectionLost)
    assert (error.reason, error.detail) == ("revoked", "gone")


@pytest_twisted.ensureDeferred
async def test_an_abort_hangs_up(daemon: FakeDaemon, rig: OnReactor) -> None:
    program = Recorder(rig)
    seat = await joined(daemon, program)
    program.transport.abortConnection()
    program.transport.abortConnection()
    program.transport.write(b"too late")
    assert program.lost is None
    await daemon.until(lambda: program.lost and seat.closed)
    assert program.lost is not None
    assert program.lost.check(ConnectionAborted)
    assert seat.body == b""


@pytest_twisted.ensureDeferred
async def test_a_program_may_say_why_it_breaks_a_stream(daemon: FakeDaemon, rig: OnReactor) -> None:
    program = Recorder(rig)
    seat = await joined(daemon, program)
    program.transport.reset("busy", "not now")
    await daemon.until(lambda: program.lost and seat.closed)
    assert seat.body == bytes.fromhex("03 000009 0003") + b"not now"
    assert program.lost is not None
    assert program.lost.check(StreamLost)


@pytest_twisted.ensureDeferred
async def test_a_reset_does_not_wait_for_a_daemon_that_reads_nothing(
    daemon: FakeDaemon, rig: OnReactor
) -> None:
    program = Recorder(rig)
    seat = await joined(daemon, program)
    seat.pause()
    program.transport.write(bytes(8_000_000))
    program.transport.reset("busy")
    await daemon.until(lambda: program.lost)
    assert not program.clean


@pytest_twisted.ensureDeferred
async def test_a_program_that_reads_no_more_says_so_and_writes_on(daemon: FakeDaemon, rig: OnReactor) -> None:
    program = HalfCloser(rig)
    seat = await joined(daemon, program)
    program.transport.pauseProducing()
    seat.say(data(b"unheard"))
    program.transport.stop_reading()
    program.transport.stop_reading()
    program.transport.write(b"but listen")
    program.transport.loseWriteConnection()
    expected = STOP_DONE + data(b"but listen") + FIN
    await daemon.until(lambda: len(seat.body) >= len(expected))
    assert seat.body == expected
    seat.say(FIN, DONE)
    await daemon.until(lambda: program.lost)
    assert program.clean
    assert program.data == b""


@pytest_twisted.ensureDeferred
async def test_a_far_end_that_reads_no_more_is_told(daemon: FakeDaemon, rig: OnReactor) -> None:
    """What is written then is dropped, and so the end is not clean."""
    program = Careful(rig)
    seat = await joined(daemon, program)
    seat.say(STOP_DONE)
    await daemon.until(lambda: "write stopped" in program.events)
    program.transport.write(b"in vain")
    seat.say(data(b"but listen"), FIN, DONE)
    await daemon.until(lambda: program.lost)
    assert program.data == b"but listen"
    assert program.lost is not None
    assert isinstance(program.lost.value, StreamLost)
    assert program.lost.value.reason == "stopped"
    assert seat.body == b""


@pytest_twisted.ensureDeferred
async def test_a_far_end_that_read_all_it_wanted_is_a_clean_end(daemon: FakeDaemon, rig: OnReactor) -> None:
    program = HalfCloser(rig)
    seat = await joined(daemon, program)
    seat.say(STOP_DONE, FIN, DONE)
    await daemon.until(lambda: program.lost)
    assert program.lost is not None
    assert program.lost.check(ConnectionDone)


@implementer(IPushProducer)
class Source:
    """Remembers what it is told."""

    def __init__(self, rig: OnReactor) -> None:
        self.rig = rig
        self.events: list[str] = []

    def told(self, event: str) -> None:
        """Remember it."""
        self.events.append(event)
        self.rig.tell()

    def pauseProducing(self) -> None:
        self.told("pause")

    def resumeProducing(self) -> None:
        self.told("resume")

    def stopProducing(self) -> None:
        self.told("stop")


@pytest_twisted.ensureDeferred
async def test_a_producer_hears_that_nobody_reads(daemon: FakeDaemon, rig: OnReactor) -> None:
    """So that closing does not wait for it for ever."""
    program = HalfCloser(rig)
    seat = await joined(daemon, program)
    source = Source(rig)
    program.transport.registerProducer(source, True)
    seat.say(STOP_DONE)
    await daemon.until(lambda: source.events)
    assert source.events == ["stop"]
    late = Source(rig)
    program.transport.registerProducer(late, False)
    assert late.events == ["stop"]
    program.transport.loseConnection()
    await daemon.until(lambda: seat.body == FIN + STOP_DONE)
    seat.say(DONE)
    await daemon.until(lambda: program.lost)
    assert program.clean


@pytest_twisted.ensureDeferred
async def test_a_producer_that_is_held_back_holds_the_end_back(daemon: FakeDaemon, rig: OnReactor) -> None:
    """One that is not has written what it had; so it is on TCP, and so who joins two transports counts on."""
    program = Recorder(rig)
    seat = await joined(daemon, program)
    seat.pause()
    source = Source(rig)
    program.transport.registerProducer(source, True)
    large = bytes(2_000_000)
    program.transport.write(large)
    assert source.events == ["pause"]
    program.transport.loseConnection()
    seat.resume()
    await daemon.until(lambda: seat.body.endswith(FIN))
    assert source.events == ["pause", "resume"]
    seat.say(DONE)
    await daemon.until(lambda: program.lost)
    assert source.events[-1] == "stop"


@pytest_twisted.ensureDeferred
async def test_a_paused_program_is_told_nothing(daemon: FakeDaemon, rig: OnReactor) -> None:
    """Of a single read of the socket too; then all of it, in order."""

    class Pausing(HalfCloser):
        def dataReceived(self, received: bytes) -> None:
            super().dataReceived(received)
            self.transport.pauseProducing()

    program = Pausing(rig)
    seat = await joined(daemon, program)
    seat.say(data(b"1"), STOP_DONE, data(b"2"), FIN, DONE)
    for text in (b"1", b"12"):
        await daemon.until(lambda text=text: program.data == text)
        program.transport.resumeProducing()
        assert program.events[-1] == "data"
    await daemon.until(lambda: program.lost)
    assert program.events == ["made", "data", "read ended", "lost"]
    assert program.clean


@pytest_twisted.ensureDeferred
async def test_a_program_may_pause_and_resume_at_once(daemon: FakeDaemon, rig: OnReactor) -> None:
    """While it is told something, as Twisted's HTTP client does: what comes later is heard too."""

    class Nodding(Recorder):
        def dataReceived(self, received: bytes) -> None:
            self.transport.pauseProducing()
            super().dataReceived(received)
            self.transport.resumeProducing()

    program = Nodding(rig)
    seat = await joined(daemon, program)
    for text in (b"1", b"12", b"123"):
        seat.say(data(text[-1:]))
        await daemon.until(lambda text=text: program.data == text)
    seat.say(DONE)
    await daemon.until(lambda: program.lost)


@pytest.mark.parametrize("octets", [b"\xff\0\0\0", b"HTTP/1.1", FIN + data(b"more")])
@pytest_twisted.ensureDeferred
async def test_what_breaks_the_protocol_breaks_the_stream(
    daemon: FakeDaemon, rig: OnReactor, octets: bytes
) -> None:
    program = HalfCloser(rig)
    seat = await joined(daemon, program)
    seat.say(octets)
    await daemon.until(lambda: program.lost and seat.closed)
    assert program.lost is not None
    assert isinstance(program.lost.value, StreamLost)
    assert program.lost.value.reason == "protocol"


@pytest.mark.parametrize("resumed", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_program_that_fails_breaks_its_own_stream(
    daemon: FakeDaemon, rig: OnReactor, resumed: bool, flush_logged_errors: Any
) -> None:
    """As on TCP it is told what it raised, also where it hears what waited for it."""

    class Failing(Recorder):
        def dataReceived(self, received: bytes) -> None:
            super().dataReceived(received)
            if resumed and self.data == b"1":
                self.transport.pauseProducing()
                reactor.callLater(0, self.transport.resumeProducing)
            else:
                raise ZeroDivisionError

    program = Failing(rig)
    seat = await joined(daemon, program)
    seat.say(data(b"1"), STOP_DONE, data(b"2"))
    await daemon.until(lambda: program.lost and seat.closed)
    assert len(flush_logged_errors(ZeroDivisionError)) == 1
    assert program.lost is not None
    assert program.lost.check(ZeroDivisionError)
