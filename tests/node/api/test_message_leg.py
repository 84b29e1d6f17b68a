# SPDX-License-Identifier: MIT
"""The daemon's end of the frames of messages, with programs that keep no rule."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from client.message_daemon import MessageDaemon
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from gmesh.client.message_frames import (
    FrameType,
    GivenMessage,
    MessageFrame,
    MessageFrameReader,
    SendRequest,
    pack_text,
    read_failed,
)
from gmesh.endtoend.limits import MAX_RELIABLE_BYTES, MAX_RELIABLE_MESSAGES
from gmesh.endtoend.reliable_queue import Delivered
from gmesh.endtoend.services import Message, Services
from gmesh.endtoend.turn_end import TurnEnd
from gmesh.errors import RequestRefused, SendRefused
from gmesh.node.api.message_leg import LegNode, MessageLeg
from gmesh.node.limits import MAX_LEG_ASKED, MAX_LEG_SERVICES, MAX_LEG_UNREAD

F = FrameType


class Datagrams:
    """Keeps what is sent; its services are real."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.services = Services(self.clock)
        self.register = self.services.register
        self.turn = TurnEnd()
        self.sent: list[Deferred[Any]] = []

    def begin(self, *asked: object) -> None:
        """It is not known whether it is allowed: it is asked by L{send}."""

    def send(self, node: str, service: str, data: bytes, *, timeout: float, key: str) -> Deferred[Any]:
        def cancelled(deferred: Deferred[Any]) -> None:
            deferred.errback(SendRefused("cancelled", "the caller gave up"))

        self.sent.append(Deferred(cancelled))
        return self.sent[-1]


class Program:
    """A connection, and what the node said on it."""

    def __init__(self, forbidden: str = "") -> None:
        def admit(service: str) -> None:
            if service == forbidden:
                raise RequestRefused("forbidden", "not for this user")

        self.counted: list[str] = []
        self.datagrams = Datagrams()
        datagrams: Any = self.datagrams
        self.node = LegNode(
            datagrams,
            lambda: {"name": "here"},
            {"nodes": lambda: []},
            self.counted.append,
            lambda tell: lambda: None,
            self.datagrams.clock,
        )
        self.leg = MessageLeg(self.node, 1000, admit)
        self.transport = StringTransport()
        self.leg.makeConnection(self.transport)

    def say(self, kind: FrameType, tag: int, body: bytes = b"") -> None:
        self.leg.dataReceived(MessageFrame(kind, tag, body).encode())

    def heard(self) -> list[MessageFrame]:
        frames = MessageFrameReader().feed(self.transport.value())
        self.transport.clear()
        return frames

    def give(self, service: str = "log") -> list[str]:
        told: list[str] = []
        message = Message("a", "aa" * 16, (), service, b"x")
        self.datagrams.services.deliver(message, lambda outcome, said, answer: told.append(outcome.slug))
        return told


SEND = SendRequest("b", "log", b"x", 10.0).encode()


def serve(service: str = "log", concurrent: int = 2) -> bytes:
    return concurrent.to_bytes(2, "big") + pack_text(service)


def test_it_begins_with_the_bounds() -> None:
    """How many SENDs, and how many bytes; and who the node is."""
    (welcome,) = Program().heard()
    assert welcome.kind is F.WELCOME and welcome.tag == 0
    assert welcome.body[:8] == MAX_RELIABLE_MESSAGES.to_bytes(4, "big") + MAX_RELIABLE_BYTES.to_bytes(
        4, "big"
    )
    assert welcome.body[8:] == b'{"name": "here"}'


def test_more_than_the_bounds_is_busy() -> None:
    """In number and in bytes; what is answered makes room."""
    program = Program()
    program.heard()
    for tag in range(MAX_RELIABLE_MESSAGES + 1):
        program.say(F.SEND, tag, SEND)
    (failed,) = program.heard()
    assert failed.tag == MAX_RELIABLE_MESSAGES and read_failed(failed.body)[0] == "busy"
    program.datagrams.sent[5].errback(SendRefused("denied", "no"))
    program.say(F.SEND, 9999, SEND)
    assert [(frame.kind, frame.tag) for frame in program.heard()] == [(F.FAILED, 5)]
    large = Program()
    body = SendRequest("b", "log", bytes(65_536), 10.0).encode()
    for tag in range(MAX_RELIABLE_BYTES // 65_536 + 1):
        large.say(F.SEND, tag, body)
    assert [frame.kind for frame in large.heard()] == [F.WELCOME, F.FAILED]


def test_a_program_that_goes_cancels_what_it_sent() -> None:
    """One number, no answer, nothing kept; and what it had waits for another."""
    program = Program()
    program.say(F.SEND, 1, SEND)
    program.say(F.SERVE, 2, serve())
    told = program.give()
    program.leg.connectionLost(Failure(ConnectionDone()))
    assert program.datagrams.sent[0].called and program.counted == ["caller-gone"]
    assert told == [] and program.datagrams.services.names == ["log"]
    program.datagrams.clock.advance(11)
    assert told == ["receiver-gone"] and program.datagrams.services.names == []


def test_serving_comes_before_what_waits() -> None:
    """And no more messages than were asked for."""
    program = Program()
    program.heard()
    program.say(F.SERVE, 7, serve(concurrent=2))
    for _ in range(3):
        program.give()
    serving, *messages = program.heard()
    assert (serving.kind, serving.tag) == (F.SERVING, 7)
    assert [GivenMessage.decode(message.body).serve for message in messages] == [7, 7]
    program.say(F.DONE, messages[1].tag)
    program.say(F.DONE, messages[1].tag)  # once more does nothing
    assert len(program.heard()) == 1
    program.say(F.LEAVE, 7)
    told = program.give()
    assert told == ["no-such-service"]


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        (serve("forbidden"), "forbidden"),
        (serve("_echo"), "bad-service"),
        (serve("UPPER"), "bad-service"),
        (serve("log", 0), "invalid-field"),
        (serve("log", 1025), "invalid-field"),
    ],
)
def test_what_may_not_be_served(body: bytes, slug: str) -> None:
    """Is said, and the connection goes on."""
    program = Program("forbidden")
    program.heard()
    program.say(F.SERVE, 1, body)
    ((kind, tag, why),) = program.heard()
    assert (kind, tag, read_failed(why)[0]) == (F.FAILED, 1, slug)
    program.say(F.ASK, 2, b"nodes")
    assert [frame.kind for frame in program.heard()] == [F.ANSWER]


def test_services_of_a_connection_are_bounded() -> None:
    """One more is busy."""
    program = Program()
    for tag in range(MAX_LEG_SERVICES + 1):
        program.say(F.SERVE, tag, serve(f"s{tag}"))
    assert program.heard()[-1].kind is F.FAILED


@given(
    st.lists(st.tuples(st.sampled_from(FrameType), st.integers(0, 3), st.binary(max_size=30)), max_size=20)
)
def test_whatever_a_program_says_costs_it_the_connection_at_most(
    said: list[tuple[FrameType, int, bytes]],
) -> None:
    """No exception, no timer, and nothing said after the end."""
    program = Program()
    for kind, tag, body in said:
        program.say(kind, tag, body)
        if program.counted:
            assert program.transport.disconnecting
            assert program.counted == ["leg-malformed"]
    program.leg.connectionLost(Failure(ConnectionDone()))
    program.datagrams.services.stop()
    assert program.datagrams.clock.getDelayedCalls() == []


def test_what_a_program_had_when_it_left_and_died_comes_again() -> None:
    """LEAVE takes no more; a message that is not ended then is given to another, or its sender is told."""
    first = Program()
    leg_node: Any = first.leg._node
    second = Program()
    second.leg._node = leg_node
    for program in (first, second):
        program.say(F.SERVE, 1, serve(concurrent=1))
    told = [first.give(), first.give()]
    for program in (first, second):
        assert [frame.kind for frame in program.heard()][-1] is F.MESSAGE
    first.say(F.LEAVE, 1)
    first.leg.connectionLost(Failure(ConnectionDone()))
    second.say(F.DONE, 1)
    (again,) = second.heard()
    assert GivenMessage.decode(again.body).redelivered
    assert sorted(told) == [[], ["delivered"]]
    second.say(F.LEAVE, 1)
    second.leg.connectionLost(Failure(ConnectionDone()))
    assert sorted(told) == [["delivered"], ["receiver-gone"]]


@pytest.mark.parametrize("wrapped", [0, 2**32 - 2])
def test_what_crosses_a_leave_is_taken_back(wrapped: int) -> None:
    """The program says what it read last: what follows is another's, as if it was new, or is refused."""
    first, second = Program(), Program()
    second.leg._node = first.leg._node
    first.leg._number = wrapped
    first.say(F.SERVE, 1, serve(concurrent=3))
    told = [first.give() for _ in range(3)]
    read, *unread = [frame.tag for frame in first.heard() if frame.kind is F.MESSAGE]
    second.say(F.SERVE, 1, serve(concurrent=1))
    second.heard()
    first.say(F.LEAVE, 1, read.to_bytes(4, "big"))
    (again,) = second.heard()
    assert not GivenMessage.decode(again.body).redelivered
    for tag in (*unread, read):
        first.say(F.DONE, tag)
    assert told == [["delivered"], [], []]
    second.say(F.LEAVE, 1, (0).to_bytes(4, "big"))
    assert told == [["delivered"], ["no-such-service"], ["no-such-service"]]


def test_what_is_not_said_to_be_unread_may_still_be_ended() -> None:
    """By a program that ends whatever comes after it has left."""
    program = Program()
    program.say(F.SERVE, 1, serve())
    told = program.give()
    program.say(F.LEAVE, 1)
    assert told == []
    program.say(F.DONE, program.heard()[-1].tag)
    assert told == ["delivered"]


def test_a_program_that_may_not_go_on_is_let_go() -> None:
    """What it sent and what it serves ends with its connection; what it still says counts for nothing."""
    program = Program()
    program.say(F.SERVE, 1, serve("log"))
    program.say(F.SERVE, 2, serve("web"))
    program.say(F.LEAVE, 2)
    assert program.leg.services == {1: "log"}
    program.leg.forbidden(RequestRefused("forbidden", "that takes the group admin"))
    assert program.transport.disconnecting
    program.say(F.SEND, 3, SEND)
    assert program.datagrams.sent == []


def test_tables_wait_for_a_program_that_does_not_read() -> None:
    """So many, and each one more is refused; they follow once it reads."""
    program = Program()
    program.heard()
    program.leg.pauseProducing()
    for tag in range(MAX_LEG_ASKED + 1):
        program.say(F.ASK, tag, b"nodes")
    (refused,) = program.heard()
    assert (refused.tag, read_failed(refused.body)[0]) == (MAX_LEG_ASKED, "busy")
    program.leg.resumeProducing()
    assert [(frame.kind, frame.tag) for frame in program.heard()] == [
        (F.ANSWER, tag) for tag in range(MAX_LEG_ASKED)
    ]


class NobodyReads:
    """A socket whose far end takes nothing; as C{FileDescriptor} it says at each write that it is full."""

    def __init__(self, leg: MessageLeg) -> None:
        self.leg, self.size, self.reading = leg, 0, True
        self.producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def write(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > FileDescriptor.bufferSize:
            self.producer.pauseProducing()

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def getPeer(self) -> None:
        """Nobody asks."""


@pytest.mark.parametrize("use", ["send", "watch"])
def test_a_program_that_does_not_read_is_not_read_once_much_waits_for_it(use: str) -> None:
    """What its messages came to and what it watches is kept for it, a bounded part; it is read again then."""
    program = Program()
    program.node.feed.rows = lambda: [{"service": "log", "nodes": ["n" * 4000]}]
    full = NobodyReads(program.leg)
    program.leg.makeConnection(full)
    answer, tag = bytes(MAX_LEG_UNREAD // 8), 0
    while full.reading and tag < 1_000_000:
        tag += 1
        if use == "send":
            program.say(F.SEND, tag, SEND)
            program.datagrams.sent[-1].callback(Delivered(0.0, answer))
        else:
            program.say(F.WATCH, tag, pack_text("log"))
            program.say(F.LEAVE, tag)
    assert not full.reading and MAX_LEG_UNREAD < full.size < 2 * MAX_LEG_UNREAD
    program.leg.resumeProducing()
    assert full.reading


def test_a_program_that_does_not_read_is_let_go_all_the_same() -> None:
    """Nothing that waits for it holds the connection open."""
    program = Program()
    program.leg.pauseProducing()
    program.leg.forbidden(RequestRefused("forbidden", "not any more"))
    assert program.transport.disconnecting
    assert program.transport.producer is None


async def turn() -> None:
    """Let the sockets have their turn."""
    await deferLater(reactor, 0)  # type: ignore[arg-type]  # the module stands for the reactor


@pytest_twisted.ensureDeferred
async def test_what_fills_a_real_socket_keeps_no_service_either(tmp_path: Path) -> None:
    """Its connection ends at once, and its service with it."""
    daemon = MessageDaemon(reactor, str(tmp_path / "node.sock"))
    await daemon.start()
    with socket.socket(socket.AF_UNIX) as program:
        program.connect(daemon.path)
        program.sendall(b"GET /v1/messages HTTP/1.1\r\nUpgrade: gmesh-messages\r\n\r\n")
        program.sendall(MessageFrame(F.SERVE, 1, serve()).encode())
        program.setblocking(False)
        asks = b""
        while not (daemon.legs and daemon.legs[0]._full):
            asks = asks or 1000 * MessageFrame(F.ASK, 2, b"x").encode()
            with suppress(BlockingIOError):
                asks = asks[program.send(asks) :]
            await turn()
        (leg,) = daemon.legs
        assert leg.transport.connected and leg.services
        leg.forbidden(RequestRefused("forbidden", "not any more"))
        for _ in range(3):
            await turn()
        assert not leg.transport.connected
    await daemon.stop()
