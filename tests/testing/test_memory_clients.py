# SPDX-License-Identifier: MIT
"""Programs on nodes in memory: the same L{Mesh} that runs on hosts, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from gmesh.client import Mesh, ServiceEvent
from gmesh.errors import SendRefused
from gmesh.stream_errors import ServiceRefused
from gmesh.testing.mesh import MemoryMesh

pytest_plugins = ["gmesh.testing.pytest_plugin"]


@pytest.fixture
def mesh(joined_mesh: Callable[..., MemoryMesh]) -> MemoryMesh:
    """Gauge and boiler, which reach each other."""
    return joined_mesh("gauge", "boiler")


def test_a_question_and_its_answer(mesh: MemoryMesh) -> None:
    """Over the frames, the leg, the sealed session and back; refusals in the words of the handler."""

    async def answer(message: Any) -> bytes:
        if not message.data:
            raise SendRefused("refused", "ask something")
        return f"{message.source} {message.roles[0]}".encode() + message.data

    mesh["boiler"].client().serve("ask", answer)
    gauge = mesh["gauge"].client()
    assert mesh.result(gauge.request("boiler", "ask", b"?", timeout=20)) == b"gauge client?"
    with pytest.raises(SendRefused, match="ask something"):
        mesh.result(gauge.send("boiler", "ask", b""))
    with pytest.raises(SendRefused) as refused:
        mesh.result(gauge.send("boiler", "nothing", b""))
    assert refused.value.reason == "no-such-service"


def test_a_program_outlives_its_node(mesh: MemoryMesh) -> None:
    """It serves again when the node is back, and what had a key is sent again."""
    seen: list[bytes] = []
    gate: list[Deferred[None]] = []

    def keep(message: Any) -> Deferred[None] | None:
        seen.append(message.data)
        if len(seen) > 1:
            return None
        gate.append(Deferred())
        return gate[0]

    mesh.result(mesh["boiler"].client().serve("log", keep).ready)
    gauge = mesh["gauge"].client()
    sent = gauge.send("boiler", "log", b"x", timeout=200, key="k")
    mesh.run_until(lambda: seen)
    mesh["gauge"].kill()
    mesh["boiler"].kill()
    mesh.run(1)
    mesh["boiler"].restart()
    mesh["gauge"].restart()
    assert mesh.result(sent, within=200) == b""
    assert seen == [b"x", b"x"]


def test_who_offers_it_now(mesh: MemoryMesh) -> None:
    """Who is there, who joins, who leaves; it goes on when the own node was restarted."""
    boiler, gauge = mesh["boiler"].client(), mesh["gauge"].client()
    events: list[ServiceEvent] = []
    there: set[str] = set()

    async def follow() -> str:
        async for event in watch:
            assert (event.node in there) is not event.joined
            (there.add if event.joined else there.remove)(event.node)
            events.append(event)
        return "over"

    watch = gauge.watch("readings")
    following = Deferred.fromCoroutine(follow())
    serving = boiler.serve("readings", lambda message: None)
    mesh.run_until(lambda: events)
    assert events == [ServiceEvent("readings", "boiler", True)]
    gauge.serve("readings", lambda message: None)
    mesh.run_until(lambda: there == {"boiler", "gauge"})
    mesh["gauge"].kill()
    mesh["gauge"].restart()
    mesh.run(30)
    assert there == {"boiler", "gauge"}
    serving.stop()
    mesh.run_until(lambda: there == {"gauge"})
    watch.stop()
    assert mesh.result(following) == "over"


def test_all_that_offer_it_at_once(mesh: MemoryMesh) -> None:
    """One result a node, by service and by role; a program may send to its own node."""
    for name in ("gauge", "boiler"):
        mesh.result(mesh[name].client().serve("alarm", lambda message, name=name: name.encode()).ready)
    gauge = mesh["gauge"].client()
    mesh.run_until(lambda: {"gauge", "boiler"} <= offering(mesh, gauge))
    both = {"gauge": b"gauge", "boiler": b"boiler"}
    assert mesh.result(gauge.send_to("alarm", b"!")) == both
    assert mesh.result(gauge.send_to("alarm", b"!", role="client")) == both
    found = mesh.result(gauge.send_to("alarm", b"!", role="relay"))
    assert [isinstance(result, SendRefused) for result in found.values()] == [True]


def offering(mesh: MemoryMesh, client: Mesh) -> set[str]:
    return {node for row in mesh.result(client.services()) for node in row["nodes"]}


class Line(Protocol):
    """Keeps what it reads, and answers the first of it."""

    transport: Any

    def __init__(self) -> None:
        self.read = b""

    def dataReceived(self, data: bytes) -> None:
        self.read += data
        if data.startswith(b"ping"):
            self.transport.write(b"pong " + self.transport.getPeer().name.encode())


def test_a_stream(mesh: MemoryMesh) -> None:
    """Dialled and served by the same object; nobody serves: refused."""
    boiler, gauge = mesh["boiler"].client(), mesh["gauge"].client()
    with pytest.raises(ServiceRefused):
        mesh.result(gauge.open("boiler", "lines", Factory.forProtocol(Line)))
    mesh.result(boiler.listen("lines", Factory.forProtocol(Line)))
    near: Any = mesh.result(gauge.open("boiler", "lines", Factory.forProtocol(Line)))
    near.transport.write(b"ping")
    mesh.run_until(lambda: near.read == b"pong gauge")
    near.transport.loseConnection()
    mesh.run(5)


def test_a_node_that_has_not_started(memory_mesh: Callable[..., MemoryMesh]) -> None:
    """A program waits for it."""
    mesh = memory_mesh()
    mesh.add("alone", "client")
    client = mesh["alone"].client()
    client.serve("log", lambda message: b"got it")
    sent = client.send("alone", "log", b"x", timeout=30)
    mesh.run(3)
    mesh.start()
    assert mesh.result(sent) == b"got it"
