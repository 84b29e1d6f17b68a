# SPDX-License-Identifier: MIT
"""Programs on this machine that do not wait for the answer they asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, capturedLogs
from twisted.python.failure import Failure

from gmesh.node.api.access import AccessControl
from gmesh.node.api.http import local_site
from gmesh.node.api.routes import LocalApi
from gmesh.node.api.views import LocalNode, Settings
from gmesh.testing.mesh import MemoryMesh


class Caller:
    """One connection to the local API of a node."""

    def __init__(self, mesh: MemoryMesh, name: str) -> None:
        unused: Any = None
        runtime = mesh[name].runtime
        node = LocalNode(runtime, unused, mesh.clock, Settings("/state"))
        resource = LocalApi(node, bytes, lambda: runtime.count("caller-gone")).app.resource()
        self.channel = local_site(resource, AccessControl()).buildProtocol(None)
        self.transport = StringTransport(UNIXAddress("node.sock"))
        self.channel.makeConnection(self.transport)

    def ask(self, path: str, **fields: Any) -> None:
        body = json.dumps(fields).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: node\r\nContent-Length: {len(body)}\r\n\r\n"
        self.channel.dataReceived(head.encode() + body)

    def hang_up(self) -> None:
        self.channel.connectionLost(Failure(ConnectionDone()))


ASKED = [
    ("/v1/send", {"node": "c", "service": "log", "data": "", "timeout": 5}),
    ("/v1/send", {"node": "a", "service": "slow", "data": ""}),
    ("/v1/ping", {"node": "c", "count": 3}),
    ("/v1/trace", {"node": "c"}),
    ("/v1/capture", {"peer": "b", "seconds": 5}),
]


@pytest.mark.parametrize(("path", "fields"), ASKED, ids=[path for path, _ in ASKED])
def test_b7_a_caller_that_hangs_up_is_counted_and_nothing_else(
    mesh: MemoryMesh, path: str, fields: dict[str, Any]
) -> None:
    """No line in the log, then or when the answer would have come."""
    a = mesh["a"].runtime
    a.datagrams.register("slow", lambda message: Deferred(), concurrent=1)
    a.datagrams.send("a", "slow", b"")
    mesh.silence("a", "b")
    with capturedLogs() as logged:
        for _ in range(3):
            caller = Caller(mesh, "a")
            caller.ask(path, **fields)
            mesh.run(0.1)
            assert caller.transport.value() == b""
            caller.hang_up()
        mesh.run(10)
    assert [event for event in logged if told(event)] == []
    assert a.counters()["caller-gone"] == 3


def told(event: LogEvent) -> bool:
    return event.get("log_failure") is not None or "local" in event.get("log_namespace", "")
