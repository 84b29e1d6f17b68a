# SPDX-License-Identifier: MIT
"""The local API over a double of the node, asked through treq's in-memory transport."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from treq.testing import RequestTraversalAgent, StubTreq
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.web.http_headers import Headers

from gmesh.endtoend.services import Message
from gmesh.errors import SendRefused
from gmesh.node.api.access import AccessControl
from gmesh.node.api.http import local_site
from gmesh.node.api.routes import LocalApi
from gmesh.node.limits import LOCAL_BODY_LIMIT


class Node:
    """Answers from a script and remembers what it was asked."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, bytes, float]] = []
        self.receivers: dict[str, Callable[[Message], Any]] = {}
        self.refusal: Exception | None = None

    def status(self) -> dict[str, Any]:
        return {"name": "pump-07"}

    def peers(self) -> list[dict[str, Any]]:
        return [{"name": "valve-1"}]

    def routes(self) -> list[dict[str, Any]]:
        return []

    def nodes(self) -> list[dict[str, Any]]:
        return []

    def services(self) -> list[dict[str, Any]]:
        return []

    async def ping(self, name: str, count: int) -> list[float]:
        return [1.23456] * count

    async def trace(self, name: str, service: str) -> dict[str, Any]:
        return {"path": ["pump-07", name], "hops": [{"name": name, "rtt_ms": 1.5}]}

    async def capture(self, name: str, seconds: float, count: int) -> list[dict[str, Any]]:
        return [{"at_ms": 0.5, "sent": True, "kind": "PING", "bytes": 19}] * min(count, 2)

    async def send(
        self, name: str, service: str, data: bytes, timeout: float, key: str
    ) -> tuple[float, bytes]:
        if self.refusal is not None:
            raise self.refusal
        self.sent.append((name, service, data, timeout))
        return 2.0, b""

    def receive(
        self, service: str, receiver: Callable[[Message], Any], owner: object, shared: bool
    ) -> Callable[[], None]:
        if service in self.receivers:
            raise SendRefused("service-taken", "another program receives it")
        self.receivers[service] = receiver
        return lambda: self.receivers.pop(service) and None


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def web(node: Node) -> StubTreq:
    return StubTreq(LocalApi(node).resource())


async def problem_of(response: Any) -> tuple[int, str]:
    assert response.headers.getRawHeaders("content-type") == ["application/problem+json"]
    body = json.loads(await response.content())
    assert body["status"] == response.code
    return response.code, body["type"].removeprefix("urn:gmesh:problem:")


async def test_status(web: StubTreq) -> None:
    """A read is one JSON object."""
    response = await web.get("http://node/v1/status")
    assert (response.code, json.loads(await response.content())) == (200, {"name": "pump-07"})


async def test_ping_and_trace(web: StubTreq) -> None:
    """Round trips in milliseconds, with three digits."""
    response = await web.post("http://node/v1/ping", json={"node": "c", "count": 2})
    assert json.loads(await response.content()) == {"node": "c", "rtt_ms": [1.235, 1.235]}
    response = await web.post("http://node/v1/trace", json={"node": "c"})
    assert json.loads(await response.content())["path"] == ["pump-07", "c"]


async def test_capture(web: StubTreq) -> None:
    """A look at a link is bounded in time and number, and answered as a list."""
    response = await web.post("http://node/v1/capture", json={"peer": "valve-1", "seconds": 1, "count": 5})
    assert (
        json.loads(await response.content())
        == [{"at_ms": 0.5, "sent": True, "kind": "PING", "bytes": 19}] * 2
    )
    for wrong in ({"seconds": 61}, {"seconds": 0}, {"count": 0}, {"count": 4097}):
        response = await web.post("http://node/v1/capture", json={"peer": "valve-1", **wrong})
        assert await problem_of(response) == (400, "invalid-field")


async def test_send_hands_over_the_bytes(web: StubTreq, node: Node) -> None:
    """Payload bytes travel as base64 and come out as they were."""
    data = base64.b64encode(b"\x00\xffhello").decode()
    response = await web.post("http://node/v1/send", json={"node": "c", "service": "log", "data": data})
    assert json.loads(await response.content()) == {"delivered": True, "rtt_ms": 2.0}
    assert node.sent == [("c", "log", b"\x00\xffhello", 10.0)]


@pytest.mark.parametrize(
    ("reason", "status"), [("unknown-node", 404), ("timed-out", 504), ("denied", 403), ("other", 502)]
)
async def test_refusals_are_problems(web: StubTreq, node: Node, reason: str, status: int) -> None:
    """What the mesh refuses comes back with its reason."""
    node.refusal = SendRefused(reason, "no")
    response = await web.post("http://node/v1/send", json={"node": "c", "service": "s", "data": ""})
    assert await problem_of(response) == (status, reason)


@pytest.mark.parametrize(
    ("path", "body", "slug"),
    [
        ("send", b"{", "invalid-json"),
        ("send", b"[" * 100_000, "invalid-json"),
        ("send", b"[]", "invalid-json"),
        ("send", b"{}", "invalid-field"),
        ("send", b'{"node":"c","service":"s","data":"*"}', "invalid-field"),
        ("send", b'{"node":"c","service":"../s","data":""}', "invalid-field"),
        ("send", b'{"node":"c","service":"s","data":"","timeout":-1}', "invalid-field"),
        ("send", b'{"node":"c","service":"s","data":"","timeout":NaN}', "invalid-field"),
        ("send", b'{"node":"c","service":"s","data":"","timeout":300.5}', "invalid-field"),
        ("send", b'{"node":"c","service":"s","data":"","more":1}', "invalid-field"),
        ("ping", b'{"node":"c","count":true}', "invalid-field"),
        ("ping", b'{"node":"c","count":1000000}', "invalid-field"),
        ("trace", b'{"node":7}', "invalid-field"),
    ],
)
async def test_bad_bodies(web: StubTreq, path: str, body: bytes, slug: str) -> None:
    """Each malformed body is 400 with one clear reason."""
    response = await web.post(f"http://node/v1/{path}", data=body)
    assert await problem_of(response) == (400, slug)


async def test_unknown_paths_and_methods(web: StubTreq) -> None:
    """Routing errors are problems too."""
    assert await problem_of(await web.get("http://node/v2/status")) == (404, "not-found")
    assert await problem_of(await web.post("http://node/v1/status")) == (405, "method-not-allowed")


async def test_a_bug_is_logged_and_told_without_internals(
    web: StubTreq, node: Node, flush_logged_errors: Callable[..., list[Any]]
) -> None:
    """An unexpected exception is 500 here and a traceback in the log only."""
    node.refusal = ZeroDivisionError("secret detail")
    response = await web.post("http://node/v1/send", json={"node": "c", "service": "s", "data": ""})
    assert b"secret" not in await response.content()
    assert response.code == 500
    assert len(flush_logged_errors(ZeroDivisionError)) == 1


class _Lines(Protocol):
    def __init__(self) -> None:
        self.data = b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data


async def test_receive_streams_lines_until_the_reader_goes(node: Node) -> None:
    """The answer begins at once, carries one line a message, and its end frees the service."""
    agent = RequestTraversalAgent(LocalApi(node).resource())
    asked: Deferred[Any] = agent.request(b"GET", b"http://node/v1/receive?service=log", Headers({}))
    agent.flush()
    response = await asked
    lines = _Lines()
    response.deliverBody(lines)
    node.receivers["log"](Message("a", "aa", (), "log", b"\x01\x02"))
    agent.flush()
    assert json.loads(lines.data) == {"from": "a", "service": "log", "data": "AQI="}
    response._transport.loseConnection()
    agent.flush()
    assert node.receivers == {}


async def test_a_taken_service_is_a_conflict(web: StubTreq, node: Node) -> None:
    """One program receives a service at a time."""
    node.receivers["log"] = lambda message: None
    assert await problem_of(await web.get("http://node/v1/receive?service=log")) == (409, "service-taken")


@pytest.mark.parametrize("chunked", [False, True])
def test_oversized_bodies_are_cut(node: Node, chunked: bool) -> None:
    """A body above the cap is answered 413 and the connection closed before it is read."""
    channel = local_site(LocalApi(node).resource(), AccessControl()).buildProtocol(None)
    transport = StringTransport()
    channel.makeConnection(transport)
    head = b"POST /v1/send HTTP/1.1\r\nHost: node\r\n"
    if chunked:
        channel.dataReceived(head + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        for _ in range(LOCAL_BODY_LIMIT // 0x10000 + 1):
            channel.dataReceived(chunk)
    else:
        channel.dataReceived(head + b"Content-Length: %d\r\n\r\n" % (LOCAL_BODY_LIMIT + 1))
    assert transport.value().startswith(b"HTTP/1.1 413 ")
    assert transport.disconnecting
    channel.connectionLost(None)


def test_a_request_without_a_host_is_answered_over_a_unix_socket(node: Node) -> None:
    """As HTTP/1.0 allows it: there is one host at such a socket."""
    channel = local_site(LocalApi(node).resource(), AccessControl()).buildProtocol(None)
    transport = StringTransport(UNIXAddress("node.sock"))
    channel.makeConnection(transport)
    channel.dataReceived(b"GET /v1/status HTTP/1.0\r\n\r\n")
    assert b" 200 OK\r\n" in transport.value()
    channel.connectionLost(None)


def test_c21_bodies_that_never_end_are_bounded_together(node: Node) -> None:
    """However many programs send at once; what one held is free again when it hangs up."""
    site = local_site(LocalApi(node).resource(), AccessControl())
    head = b"POST /v1/send HTTP/1.1\r\nHost: node\r\nContent-Length: %d\r\n\r\n" % LOCAL_BODY_LIMIT

    def connected() -> tuple[Any, StringTransport]:
        channel, transport = site.buildProtocol(None), StringTransport(UNIXAddress("node.sock"))
        channel.makeConnection(transport)
        channel.dataReceived(head + b"x" * (LOCAL_BODY_LIMIT - 1))
        return channel, transport

    unfinished = [connected() for _ in range(200)]
    refused = [transport for _, transport in unfinished if transport.value()]
    assert len(unfinished) - len(refused) == 8
    assert all(transport.value().startswith(b"HTTP/1.1 503 ") for transport in refused)
    unfinished[0][0].connectionLost(None)
    unfinished.append(connected())
    assert unfinished[-1][1].value() == b""
    for channel, _ in unfinished[1:]:
        channel.connectionLost(None)
    assert site.bodies == 0
