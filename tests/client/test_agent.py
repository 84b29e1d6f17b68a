# SPDX-License-Identifier: MIT
"""L{gmesh.client.agent}: what a URL means on the mesh."""

from __future__ import annotations

import pytest
import pytest_twisted
import treq
from client.fake_daemon import UPGRADED, FakeDaemon, problem
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.web.client import HTTPConnectionPool
from twisted.web.error import SchemeNotSupported

from gmesh.client import DialRefused, mesh_agent

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("url", "node", "service"),
    [
        ("http://pump-07/", "pump-07", "http"),
        ("http://pump-07.gmesh/", "pump-07", "http"),
        ("http://web.pump-07/", "pump-07", "web"),
        ("http://web.pump-07.gmesh:80/", "pump-07", "web"),
        ("http://pump-07:8080/", "pump-07", "tcp-8080"),
        ("http://example.com/", "com", "example"),
        ("http://web.pump-07:8080/", "web.pump-07", "tcp-8080"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_url_names_a_node_and_a_service(
    daemon: FakeDaemon, url: str, node: str, service: str
) -> None:
    """Whatever it is, the daemon is asked, which knows the mesh and nothing else: never DNS."""
    getting = HTTPClient(mesh_agent(reactor, daemon.path)).get(url)
    seat = await daemon.asked()
    assert seat.head[0] == f"GET /v1/connect?node={node}&service={service}&timeout=30 HTTP/1.1"
    seat.say(problem(404, "unknown-node", "there is none"))
    with pytest.raises(DialRefused, match="there is none"):
        await getting


@pytest_twisted.ensureDeferred
async def test_a_request_goes_through_a_stream(daemon: FakeDaemon) -> None:
    """And the next one through the same, with a pool; a connection that broke is not used again."""
    pool = HTTPConnectionPool(reactor, persistent=True)
    http = HTTPClient(mesh_agent(reactor, daemon.path, pool))
    frame = b"\0" + len(ANSWER).to_bytes(3, "big") + ANSWER
    for turn in range(2):
        getting = http.get("http://pump-07/", params={"turn": turn})
        seat = await daemon.asked()
        if not turn:
            seat.say(UPGRADED)
        await daemon.until(lambda turn=turn: b"/?turn=%d" % turn in daemon.seats[0].body)
        assert b"Host: pump-07\r\n" in seat.body
        seat.say(frame)
        assert await treq.text_content(await getting) == "ok"
    assert len(daemon.seats) == 1
    daemon.seats[0].close()
    await daemon.until(lambda: daemon.seats[0].closed)
    getting = http.get("http://pump-07/")
    seat = await daemon.asked(1)
    seat.say(UPGRADED, frame)
    assert await treq.text_content(await getting) == "ok"
    closing = pool.closeCachedConnections()
    await daemon.until(lambda: seat.body.endswith(bytes.fromhex("01000000 02000002 0000")))
    seat.say(bytes.fromhex("03000002 0000"))
    await closing


@pytest_twisted.ensureDeferred
async def test_https_is_refused_with_a_reason(daemon: FakeDaemon) -> None:
    """The mesh seals what it carries."""
    with pytest.raises(SchemeNotSupported, match="seals"):
        await HTTPClient(mesh_agent(reactor, daemon.path)).get("https://pump-07/")
