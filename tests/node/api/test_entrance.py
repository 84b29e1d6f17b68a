# SPDX-License-Identifier: MIT
"""The first bytes of a connection: a stream, or HTTP as ever."""

from __future__ import annotations

import json
import os

import pytest
from node.api.stream_programs import upgrade
from twisted.internet.address import UNIXAddress
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent

from gmesh.errors import RequestRefused
from gmesh.node.api import local_connections
from gmesh.node.api.access import Credentials
from gmesh.node.api.entrance import Entrance
from gmesh.node.api.local_connections import LocalConnections
from gmesh.node.http_head import RequestHead


class Recorder(Protocol):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.data = b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data


class Visit:
    """One connection, and what became of it."""

    def __init__(self, connections: LocalConnections | None = None) -> None:
        self.clock = Clock()
        self.http, self.stream = Recorder(), Recorder()
        self.judged: list[RequestHead] = []
        self.error: RequestRefused | None = None
        self.transport = StringTransport(UNIXAddress("node.sock"))
        entrance = Entrance(self.http, self.judge, self.clock, connections)
        self.transport.protocol = entrance
        entrance.makeConnection(self.transport)

    def judge(self, head: RequestHead, transport: object) -> Protocol:
        assert transport is self.transport
        self.judged.append(head)
        if self.error is not None:
            raise self.error
        return self.stream

    def send(self, data: bytes) -> None:
        protocol = self.transport.protocol
        assert isinstance(protocol, Protocol)
        protocol.dataReceived(data)

    def problem(self) -> tuple[int, str]:
        """Status and slug of the refusal."""
        assert self.transport.disconnecting
        head, _, body = self.transport.value().partition(b"\r\n\r\n")
        assert b"Connection: close" in head
        document = json.loads(body)
        assert document["status"] == int(head.split()[1])
        return document["status"], document["type"].rpartition(":")[2]


STREAMS = [
    b"CONNECT pump-07:web HTTP/1.1\r\nHost: pump-07:web\r\n\r\n",
    upgrade("/v1/connect?node=b&service=web").encode(),
    upgrade("/v1/accept?service=web").encode(),
    b"GET /v1/accept HTTP/1.1\r\nConnection: keep-alive, upgrade\r\nUpgrade: h2c, Gmesh-Stream\r\n\r\n",
]
HTTP = [
    b"GET /v1/status HTTP/1.1\r\n\r\n",
    b"POST /v1/connect HTTP/1.1\r\n\r\n",
    b"GET /v1/connectors HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: gmesh-stream\r\n\r\n",
    b"GET /v1/connect?node=b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/connect?node=b HTTP/1.1\r\nUpgrade: gmesh-stream\r\n\r\n",
    b"GET /v1/accept HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"CONNECTED x HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01",
]


@pytest.mark.parametrize("sent", STREAMS)
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_request_for_a_stream_gets_one(sent: bytes, step: int) -> None:
    """However it is cut; what comes after the head is of the stream, and nothing is left in its path."""
    visit = Visit()
    whole = sent + b"early"
    for begin in range(0, len(whole), step):
        visit.send(whole[begin : begin + step])
    assert visit.transport.protocol is visit.stream
    assert visit.stream.transport is visit.transport
    assert visit.stream.data == b"early"
    assert len(visit.judged) == 1
    assert visit.transport.value() == b""
    assert visit.clock.getDelayedCalls() == []


@pytest.mark.parametrize("sent", HTTP)
@pytest.mark.parametrize("step", [1, 10_000])
def test_all_else_goes_to_http(sent: bytes, step: int) -> None:
    """Every byte of it, and no timer is left."""
    visit = Visit()
    for begin in range(0, len(sent), step):
        visit.send(sent[begin : begin + step])
    assert visit.transport.protocol is visit.http
    assert visit.http.data == sent
    assert visit.judged == []
    assert visit.clock.getDelayedCalls() == []


def test_http_begins_with_its_first_bytes() -> None:
    """It does not wait for a whole head: that is bounded there."""
    visit = Visit()
    visit.send(b"GET /v1/st")
    assert visit.http.data == b"GET /v1/st"


def test_a_refusal_is_a_problem_document_and_the_end() -> None:
    """What comes after is read by nobody."""
    visit = Visit()
    visit.error = RequestRefused("forbidden", "not you")
    visit.send(STREAMS[0] + b"early")
    visit.send(b"more")
    assert visit.problem() == (403, "forbidden")
    assert visit.stream.data == visit.http.data == b""


def test_a_head_has_8_kib() -> None:
    """One that goes on is refused at that, whether or not it ends."""
    for end in (b"", b"\r\n\r\n"):
        visit = Visit()
        visit.send(b"CONNECT b:web HTTP/1.1\r\nX: ")
        visit.send(b"y" * 8192 + end)
        assert visit.problem() == (431, "too-large")
        assert visit.judged == []


def test_a_head_that_is_none_is_refused() -> None:
    """As a problem document."""
    visit = Visit()
    visit.send(b"CONNECT b:web\r\n\r\n")
    assert visit.problem() == (400, "bad-request")


def test_a_head_has_ten_seconds() -> None:
    """From the beginning of the connection."""
    visit = Visit()
    visit.clock.advance(9)
    visit.send(b"CONNECT b:web")
    assert visit.transport.value() == b""
    visit.clock.advance(1)
    assert visit.problem() == (408, "timed-out")
    visit.send(b" HTTP/1.1\r\n\r\n")
    assert visit.judged == []


def test_who_says_nothing_is_left_to_http() -> None:
    """With its own patience."""
    visit = Visit()
    visit.clock.advance(10)
    assert visit.transport.protocol is visit.http
    assert visit.transport.value() == b""
    visit.send(STREAMS[0])
    assert visit.http.data == STREAMS[0]


def test_who_hangs_up_leaves_no_timer() -> None:
    """In the middle of a head."""
    visit = Visit()
    visit.send(b"CONN")
    protocol = visit.transport.protocol
    assert isinstance(protocol, Protocol)
    protocol.connectionLost()
    assert visit.clock.getDelayedCalls() == []


def test_more_connections_than_the_cap_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a reason, a counter and a line; one that has closed makes room, one that is a stream does not."""
    monkeypatch.setattr(local_connections, "MAX_LOCAL_CONNECTIONS", 2)
    counted: list[str] = []
    clock = Clock()
    connections = LocalConnections(clock, counted.append)
    with capturedLogs() as lines:
        visits = [Visit(connections) for _ in range(2)]
        visits[0].send(STREAMS[0])
        assert visits[0].transport.protocol is visits[0].stream
        refused = [Visit(connections) for _ in range(20)]
    assert {visit.problem() for visit in refused} == {(503, "busy")}
    assert counted == ["local-connections-full"] * 20
    assert len(lines) == 5 and "2 connections" in formatEvent(lines[0])
    for visit in refused:
        visit.send(STREAMS[1])
        assert visit.judged == [] and visit.clock.getDelayedCalls() == []
    visits[1].transport.disconnected = True
    clock.advance(1)
    assert Visit(connections).transport.value() == b""
    assert Visit(connections).problem() == (503, "busy")


def test_root_always_gets_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the daemon's own user: they see what is wrong."""
    monkeypatch.setattr(local_connections, "MAX_LOCAL_CONNECTIONS", 0)
    for uid, taken in ((0, True), (os.geteuid(), True), (61001, False)):
        credentials = Credentials(1, uid, frozenset())
        monkeypatch.setattr(local_connections, "peer_credentials", lambda _, who=credentials: who)
        assert LocalConnections(Clock()).takes(StringTransport()) is taken
