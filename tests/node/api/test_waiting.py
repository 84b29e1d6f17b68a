# SPDX-License-Identifier: MIT
"""A program's connection before its stream: what is kept, what waits, and who is told."""

from __future__ import annotations

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from gmesh.node.api.waiting import Waiting
from gmesh.node.limits import EARLY_BYTES


@implementer(IHalfCloseableProtocol)
class Stream(Protocol):
    """What has the connection then."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def dataReceived(self, data: bytes) -> None:
        self.events.append(data)

    def readConnectionLost(self) -> None:
        self.events.append("end")

    def writeConnectionLost(self) -> None:
        pass


def waiting(half_closes: bool = True) -> tuple[Waiting, StringTransport]:
    """One, and its connection."""
    made, transport = Waiting(lambda waiting: None, half_closes), StringTransport()
    made.makeConnection(transport)
    return made, transport


def test_a_buffer_full_is_kept_and_more_waits_in_the_socket() -> None:
    """All of it is given to the stream, and reading goes on then."""
    one, transport = waiting()
    one.dataReceived(b"x" * EARLY_BYTES)
    assert transport.producerState == "producing"
    one.dataReceived(b"y")
    assert transport.producerState == "paused"
    stream = Stream()
    one.give(stream, b"HEAD")
    assert transport.producerState == "producing"
    assert stream.events == [b"x" * EARLY_BYTES + b"y"]
    assert transport.value() == b"HEAD"


def test_an_end_that_came_early_comes_after_the_data() -> None:
    """For raw bytes, where it is the end of a half."""
    one, _ = waiting()
    one.dataReceived(b"q")
    one.readConnectionLost()
    stream = Stream()
    one.give(stream, b"HEAD")
    assert stream.events == [b"q", "end"]


def test_an_end_without_a_frame_is_a_program_that_has_gone() -> None:
    """Its connection is closed, and whoever looks for its stream may stop."""
    one, transport = waiting(half_closes=False)
    left: list[bool] = []
    one.leave = lambda: left.append(True)
    one.readConnectionLost()
    assert transport.disconnecting
    one.connectionLost()
    assert left == [True]
