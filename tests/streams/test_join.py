# SPDX-License-Identifier: MIT
"""Two transports joined: bytes, half-closes, pauses, breaks, and what is forgotten half closed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from streams.wires import Program, connect, serve
from twisted.internet import reactor
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from gmesh.streams.join import HALF_CLOSED_TIMEOUT, TransportJoin

KINDS = ["tcp", "unix"]
CLOCK: Any = reactor


class Middle:
    """Two programs with a join between them."""

    near: Program
    far: Program

    def __init__(self) -> None:
        self.clock = Clock()
        self.over: Deferred[None] = Deferred()
        self.join = TransportJoin(self.clock, lambda: self.over.callback(None))


@asynccontextmanager
async def joined(kind: str, tmp_path: Path) -> AsyncIterator[Middle]:
    """Two programs of this kind of socket, joined; whatever is left at the end is broken off."""
    middle = Middle()
    paths = (None, None) if kind == "tcp" else (tmp_path / "near", tmp_path / "far")
    ports = [await serve(lambda: middle.join.near, paths[0]), await serve(lambda: middle.join.far, paths[1])]
    middle.near, middle.far = [await connect(port.address) for port in ports]
    yield middle
    for program in (middle.near, middle.far):
        program.transport.abortConnection()
        await program.lost
    await middle.over
    for port in ports:
        await port.close()
    assert middle.clock.getDelayedCalls() == []


@pytest.mark.parametrize("kind", KINDS)
async def test_bytes_pass_both_ways_and_each_half_closes_for_itself(kind: str, tmp_path: Path) -> None:
    """An answer that is given only after the end of the question arrives whole; then all is clean."""
    async with joined(kind, tmp_path) as middle:
        middle.near.transport.write(b"question")
        middle.near.transport.loseWriteConnection()
        assert await middle.far.ended == b"question"
        middle.far.transport.write(b"answer" * 100_000)
        middle.far.transport.loseWriteConnection()
        assert await middle.near.ended == b"answer" * 100_000
        middle.near.transport.loseConnection()
        middle.far.transport.loseConnection()
        assert isinstance(await middle.near.lost, ConnectionDone)
        assert isinstance(await middle.far.lost, ConnectionDone)
        await middle.over


async def test_an_end_by_the_answering_side_alone_leaves_the_other_half_open(tmp_path: Path) -> None:
    """The server of a file says all and closes; the client goes on writing for as long as it likes."""
    async with joined("tcp", tmp_path) as middle:
        middle.far.transport.write(b"file")
        middle.far.transport.loseWriteConnection()
        assert await middle.near.ended == b"file"
        middle.near.transport.write(b"still here")
        assert await middle.far.until(10) == b"still here"


async def test_a_program_that_closes_at_once_has_all_it_wrote_delivered(tmp_path: Path) -> None:
    """A close is an end, with everything before it."""
    async with joined("tcp", tmp_path) as middle:
        middle.near.transport.write(b"x" * 1_000_000)
        middle.near.transport.loseConnection()
        assert len(await middle.far.ended) == 1_000_000
        middle.far.transport.loseConnection()
        await middle.over


@pytest.mark.parametrize("broken", ["near", "far"])
async def test_a_reset_of_one_tcp_end_is_a_reset_of_the_other(broken: str, tmp_path: Path) -> None:
    """No program reads a clean end that the other did not give."""
    async with joined("tcp", tmp_path) as middle:
        one, other = (middle.near, middle.far) if broken == "near" else (middle.far, middle.near)
        one.transport.write(b"half a fi")
        assert await other.until(9) == b"half a fi"
        one.transport.abortConnection()
        assert isinstance(await other.lost, ConnectionLost)
        await middle.over


async def test_a_reset_after_a_half_close_is_a_reset_too(tmp_path: Path) -> None:
    """Who has said all may still break what it reads."""
    async with joined("tcp", tmp_path) as middle:
        middle.near.transport.loseWriteConnection()
        await middle.far.ended
        middle.near.transport.abortConnection()
        middle.far.transport.write(b"to nobody")
        await middle.over
        middle.far.transport.write(b"as the kernel says now")
        assert isinstance(await middle.far.lost, ConnectionLost)


async def test_a_daemon_that_dies_resets_what_it_has_joined() -> None:
    """The kernel would end its connections of TCP as if all had been said; half a file is no file."""
    code = (
        "from twisted.internet import reactor\n"
        "from twisted.internet.protocol import Factory\n"
        "from gmesh.streams.join import TransportJoin\n"
        "join = TransportJoin(reactor)\n"
        "near = reactor.listenTCP(0, Factory.forProtocol(lambda: join.near), interface='127.0.0.1')\n"
        "far = reactor.listenTCP(0, Factory.forProtocol(lambda: join.far), interface='127.0.0.1')\n"
        "print(near.getHost().port, far.getHost().port, flush=True)\n"
        "reactor.run()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    ports = await deferToThread(process.stdout.readline)
    near, far = [await connect(int(port)) for port in ports.split()]
    near.transport.write(b"half a fi")
    assert await far.until(9) == b"half a fi"
    process.kill()
    await deferToThread(process.communicate)
    assert isinstance(await far.lost, ConnectionLost)
    assert isinstance(await near.lost, ConnectionLost)


async def test_a_reader_that_stops_pauses_the_writer(tmp_path: Path) -> None:
    """A fast writer is held back, and goes on where it was."""
    async with joined("tcp", tmp_path) as middle:
        middle.far.transport.pauseProducing()
        paused: Deferred[None] = Deferred()
        source = Endless(middle.near.transport, paused)
        middle.near.transport.registerProducer(source, True)
        source.resumeProducing()
        await paused
        held = source.written
        await deferLater(CLOCK, 0.1)
        assert source.written - held < 1_000_000
        middle.near.transport.unregisterProducer()
        middle.near.transport.loseWriteConnection()
        middle.far.transport.resumeProducing()
        assert len(await middle.far.ended) == source.written


class Endless:
    """A push producer that writes until it has been paused for a while; C{written} counts bytes."""

    def __init__(self, transport: Any, paused: Deferred[None]) -> None:
        self._transport, self._paused_long, self._going = transport, paused, False
        self.written = 0
        self._later: Any = None

    def resumeProducing(self) -> None:
        """Write until paused."""
        self._going = True
        if self._later is not None:
            self._later.cancel()
            self._later = None
        while self._going:
            self._transport.write(bytes(65536))
            self.written += 65536

    def pauseProducing(self) -> None:
        """Wait."""
        self._going = False
        self._later = CLOCK.callLater(0.3, self._held)

    def _held(self) -> None:
        self._later = None
        if not self._paused_long.called:
            self._paused_long.callback(None)

    def stopProducing(self) -> None:
        """The connection is gone."""


async def test_what_is_half_closed_and_silent_for_an_hour_is_cut(tmp_path: Path) -> None:
    """A byte starts the hour again; while neither end is closed, silence is nobody's fault."""
    async with joined("tcp", tmp_path) as middle:
        middle.near.transport.write(b"1")
        await middle.far.until(1)
        middle.clock.advance(10 * HALF_CLOSED_TIMEOUT)
        middle.near.transport.loseWriteConnection()
        await middle.far.ended
        middle.clock.advance(HALF_CLOSED_TIMEOUT - 1)
        middle.far.transport.write(b"2")
        await middle.near.until(1)
        middle.clock.advance(HALF_CLOSED_TIMEOUT - 1)
        assert not middle.join.reaped
        middle.clock.advance(1)
        assert middle.join.reaped
        assert isinstance(await middle.near.lost, ConnectionLost)


async def test_what_came_before_the_other_end_is_handed_over_in_order(tmp_path: Path) -> None:
    """A service that speaks first, and ends before anybody listens, is heard whole."""
    over: Deferred[None] = Deferred()
    join = TransportJoin(Clock(), lambda: over.callback(None))
    port = await serve(lambda: join.near)
    speaker = await connect(port.address)
    speaker.transport.write(b"SSH-2.0-")
    speaker.transport.loseWriteConnection()
    listening = await serve(lambda: join.far)
    listener = await connect(listening.address)
    assert await listener.ended == b"SSH-2.0-"
    listener.transport.loseConnection()
    await listener.lost
    speaker.transport.loseConnection()
    await speaker.lost
    await over
    await port.close()
    await listening.close()


class Stream(StringTransport):
    """A transport that can be half-closed and broken, and notes both."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[str] = []

    def loseWriteConnection(self) -> None:
        self.ends.append("half")

    def loseConnection(self) -> None:
        self.ends.append("closed")

    def abortConnection(self) -> None:
        self.ends.append("broken")


def test_a_byte_that_comes_after_the_cut_starts_no_hour() -> None:
    """Not every transport is lost in the turn in which it is broken."""
    clock, told = Clock(), []
    join = TransportJoin(clock, lambda: told.append("over"))
    for end in (join.near, join.far):
        end.makeConnection(Stream())
    join.near.readConnectionLost()
    clock.advance(HALF_CLOSED_TIMEOUT)
    assert join.reaped
    join.far.dataReceived(b"late")
    for end in (join.near, join.far):
        end.connectionLost()
    assert told == ["over"]
    assert clock.getDelayedCalls() == []


def test_that_all_is_over_is_told_once() -> None:
    """Also where one end was lost before the other was there, which then comes and goes."""
    told: list[str] = []
    join = TransportJoin(Clock(), lambda: told.append("over"))
    for end in (join.near, join.far):
        end.makeConnection(Stream())
        end.connectionLost()
    assert told == ["over"]


def test_an_end_that_broke_before_the_other_came_breaks_that_one_at_once() -> None:
    """The program that hung up while its stream was being opened."""
    join = TransportJoin(Clock())
    join.near.makeConnection(Stream())
    join.near.connectionLost()
    late = Stream()
    join.far.makeConnection(late)
    assert late.ends == ["broken"]


def test_what_nobody_takes_any_more_is_dropped_and_not_waited_for() -> None:
    """The far end reads no more: the near program is read on, and its end is an end."""
    join = TransportJoin(Clock())
    stream, program = Stream(), Stream()
    join.far.makeConnection(stream)
    join.near.makeConnection(program)
    join.near.pauseProducing()
    join.far.write_stopped()
    assert program.producerState == "producing"
    join.near.dataReceived(b"to nobody")
    assert stream.value() == b""
    join.far.dataReceived(b"last words")
    join.near.readConnectionLost()
    join.far.readConnectionLost()
    assert (program.value(), program.ends) == (b"last words", ["half", "closed"])
    join.near.connectionLost()
    join.far.connectionLost()
    assert stream.ends == ["closed"]


def test_who_goes_on_writing_to_a_peer_that_has_closed_is_reset() -> None:
    """As TCP does it, once all that the peer said is out."""
    join = TransportJoin(Clock())
    stream, program = Stream(), Stream()
    join.far.makeConnection(stream)
    join.near.makeConnection(program)
    join.far.write_stopped()
    join.far.readConnectionLost()
    join.near.dataReceived(b"more")
    assert program.ends == ["half"]
    join.near.writeConnectionLost()
    join.near.dataReceived(b"and more")
    assert program.ends == ["half", "broken"]
    join.near.connectionLost()
    join.far.connectionLost()


def test_a_unix_socket_that_hung_up_after_both_ends_is_no_break() -> None:
    """A program that has read all it wanted closes; that the other half cannot be shut harms nobody."""
    join = TransportJoin(Clock())
    stream, program = Stream(), Stream()
    program.hostAddr = UNIXAddress(b"/run/proxy.sock")
    join.far.makeConnection(stream)
    join.near.makeConnection(program)
    join.near.readConnectionLost()
    join.far.readConnectionLost()
    join.near.connectionLost(Failure(ConnectionLost()))
    assert stream.ends == ["half", "closed"]
    join.far.connectionLost()


def test_a_stream_that_is_lost_without_an_end_breaks_the_program() -> None:
    """Even where the reason is the mildest there is."""
    join = TransportJoin(Clock())
    stream, program = Stream(), Stream()
    join.far.makeConnection(stream)
    join.near.makeConnection(program)
    join.far.connectionLost()
    assert program.ends == ["broken"]
