# SPDX-License-Identifier: MIT
"""Programs on this machine that do not wait for the answer they asked for."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, capturedLogs
from twisted.python.failure import Failure

from gmesh.errors import SendRefused
from gmesh.node.api.access import AccessControl
from gmesh.node.api.gateway_requests import GatewayRequests
from gmesh.node.api.http import local_site
from gmesh.node.api.routes import LocalApi, description
from gmesh.node.api.start_settings import Settings
from gmesh.node.api.views import LocalNode
from gmesh.node.configuration import Configuration
from gmesh.node.gateways.gateways import Gateways
from gmesh.testing.mesh import MemoryMesh


class Caller:
    """One connection to the local API of a node."""

    def __init__(self, mesh: MemoryMesh, name: str) -> None:
        heartbeat: Any = SimpleNamespace(age=lambda: None, reachable=False, troubles={})
        runtime = mesh[name].runtime
        node = LocalNode(runtime, heartbeat, mesh.clock, Settings("/state"))
        ids = (runtime.member.network_id, runtime.member.peer.node_id)
        gateways = Gateways(
            mesh.clock, runtime.streams, "gmesh-node", ids, Configuration(Path("/state")), AccessControl()
        )
        api = LocalApi(node, bytes, lambda: runtime.count("caller-gone"), gateways=GatewayRequests(gateways))
        resource = api.resource()
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
    a.datagrams.send("a", "slow", b"").addErrback(lambda failure: failure.trap(SendRefused))
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


ROUTES = [
    (method.upper(), path)
    for path, methods in json.loads(description())["paths"].items()
    for method in methods
    if method in ("get", "post", "put", "delete")
]
BODY = {"node": "c", "peer": "b", "service": "log", "data": "", "count": 3}
TAKES = {"/v1/send": ("node", "service", "data"), "/v1/ping": ("node", "count"), "/v1/trace": ("node",)}
TAKES["/v1/capture"] = ("peer", "count")
QUERY = {"/v1/whois": "?node=c", "/v1/follow": "?what=peers", "/v1/receive": "?service=log"}


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_whoever_hangs_up_in_the_middle_of_a_route_leaves_no_traceback(
    mesh: MemoryMesh, method: str, path: str
) -> None:
    """After any part of the question, and before or after the answer."""
    fields = {name: BODY[name] for name in TAKES.get(path, ())}
    body = json.dumps(fields).encode() if method == "POST" else b""
    head = (
        f"{method} {path}{QUERY.get(path, '')} HTTP/1.1\r\nHost: node\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    question = head.encode() + body
    mesh.silence("a", "b")
    with capturedLogs() as logged:
        for sent in (*range(0, len(question), 7), len(question)):
            for waits in (0.0, 0.1, 12.0 if sent == len(question) else 0.0):
                caller = Caller(mesh, "a")
                caller.channel.dataReceived(question[:sent])
                mesh.run(waits)
                caller.hang_up()
        mesh.run(20)
    assert [event for event in logged if told(event)] == []


def told(event: LogEvent) -> bool:
    return event.get("log_failure") is not None or "local" in event.get("log_namespace", "")
