# SPDX-License-Identifier: MIT
"""Receivers of whole nodes: who gets what, and that no link pays for what one of them does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail

from gmesh.endtoend.services import Message
from gmesh.errors import SendRefused
from gmesh.testing.mesh import MemoryMesh


@pytest.fixture
def mesh() -> Iterator[MemoryMesh]:
    made = MemoryMesh.line("a", "b", "c")
    made.run_until(lambda: made["a"].reaches("c") and made["c"].reaches("a"))
    made["c"].runtime.datagrams.register("first", lambda message: None)
    made.result(made["a"].runtime.datagrams.send("c", "first", b""))
    yield made
    made.stop()
    assert made.clock.getDelayedCalls() == []
    assert made.network.open_connections() == []


def told(mesh: MemoryMesh, name: str) -> list[str]:
    """The services of a node as another one knows them from its record."""
    nodes = mesh["a"].runtime.engine.nodes(mesh["a"].runtime.now())
    return next(list(node.services) for node in nodes if node.member.name == name)


def test_b10_a_receiver_that_went_gets_nothing_and_its_successor_all(mesh: MemoryMesh) -> None:
    """Unacknowledged messages too; and other nodes hear which services there are."""
    c, old, new = mesh["c"].runtime.datagrams, [], []
    registration = c.register("temperature", old.append)
    mesh["a"].runtime.datagrams.post("c", "temperature", b"1")
    mesh.run(5)
    assert told(mesh, "c") == ["first", "temperature"]
    registration.unregister()
    mesh["a"].runtime.datagrams.post("c", "temperature", b"2")
    mesh.run(5)
    assert told(mesh, "c") == ["first"]
    c.register("temperature", new.append)
    mesh["a"].runtime.datagrams.post("c", "temperature", b"3")
    mesh.run(5)
    assert told(mesh, "c") == ["first", "temperature"]
    assert [message.data for message in old] == [b"1"]
    assert [message.data for message in new] == [b"3"]


def raises(error: BaseException) -> Callable[[Message], Any]:
    def receive(message: Message) -> None:
        raise error

    return receive


def cancelled(message: Message) -> Deferred[None]:
    deferred: Deferred[None] = Deferred()
    deferred.cancel()
    return deferred


async def exits(message: Message) -> None:
    raise SystemExit


@pytest.mark.parametrize(
    ("receive", "cause"),
    [
        (lambda message: True, "receiver-odd"),
        (lambda message: b"bytes", "receiver-odd"),
        (raises(ZeroDivisionError()), "receiver-failed"),
        (raises(SystemExit()), "receiver-failed"),
        (raises(SendRefused("busy", "not now")), "receiver-refused"),
        (lambda message: fail(ZeroDivisionError()), "receiver-failed"),
        (cancelled, "receiver-failed"),
        (exits, "receiver-failed"),
        (lambda: None, "receiver-failed"),
    ],
)
def test_c17_no_link_ends_for_what_a_receiver_does(
    mesh: MemoryMesh, receive: Any, cause: str, flush_logged_errors: Callable[..., Any]
) -> None:
    """Acknowledged or not, the links are those of before, and the next message arrives."""
    before = [id(link) for node in mesh for link in node.runtime.links()]
    a, c, got = mesh["a"].runtime.datagrams, mesh["c"].runtime.datagrams, []
    c.register("log", receive)
    c.register("fine", got.append)
    a.send("c", "log", b"x", timeout=2).addErrback(lambda failure: failure.trap(SendRefused))
    for _ in range(3):
        a.post("c", "log", b"x")
        a.post("c", "fine", b"y")
    mesh.run(5)
    assert len(got) == 3
    assert mesh["c"].runtime.counters()[cause] == 4
    assert [id(link) for node in mesh for link in node.runtime.links()] == before
    assert mesh.result(a.send("c", "fine", b"z")).rtt is not None
    flush_logged_errors()


def test_c17_a_receiver_that_stops_its_node(mesh: MemoryMesh) -> None:
    """It hears nothing more, and the node leaves as it would at any other time: nothing is left of it."""
    a, c, got = mesh["a"].runtime.datagrams, mesh["c"].runtime.datagrams, []

    def receive(message: Message) -> None:
        got.append(message.data)
        mesh["c"].stop()

    c.register("log", receive)
    lost = a.send("c", "log", b"0", timeout=2)
    for number in range(1, 4):
        a.post("c", "log", b"%d" % number)
    with pytest.raises(SendRefused):
        mesh.result(lost)
    mesh.run(60)
    assert len(got) == 1
    assert mesh["b"].link_names == ["a"]
    assert "closed-shutdown" in mesh["a"].runtime.counters()
