# SPDX-License-Identifier: MIT
"""Acknowledged messages between whole nodes: relays and ends die, and what is acknowledged was dealt with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from gmesh.endtoend.services import Message
from gmesh.testing.mesh import MemoryMesh


@pytest.fixture
def mesh() -> Iterator[MemoryMesh]:
    made = MemoryMesh()
    for name in ("one", "two"):
        made.add(name, "relay")
    for name in ("a", "c"):
        made.add(name, "client", peers=["one", "two"])
    made.start()
    made.run_until(lambda: made["a"].reaches("c") and made["c"].reaches("a"))
    yield made
    made.stop()


class Program:
    """Keeps what it is given."""

    def __init__(self, mesh: MemoryMesh) -> None:
        self.messages: list[Message] = []
        self.given: list[Deferred[Any]] = []
        mesh["c"].runtime.datagrams.register("log", self.receive)

    def receive(self, message: Message) -> Deferred[Any]:
        self.messages.append(message)
        self.given.append(Deferred())
        return self.given[-1]


@pytest.mark.parametrize("silently", [True, False])
def test_a_receiving_node_that_dies_with_a_message(mesh: MemoryMesh, silently: bool) -> None:
    """It comes again when the node is back, marked; its sender hears of that one."""
    first = Program(mesh)
    told: list[bytes] = []
    sent = mesh["a"].runtime.datagrams.send("c", "log", b"x", timeout=200, key="k")
    sent.addCallback(lambda delivered: told.append(delivered.answer))
    mesh.run(2)
    assert len(first.messages) == 1
    mesh["c"].kill(silently=silently)
    mesh.run(5)
    mesh["c"].restart(True)
    second = Program(mesh)
    mesh.run_until(lambda: bool(second.messages), within=150)
    assert second.messages[0].redelivered and told == []
    second.given[0].callback(b"done")
    mesh.run_until(lambda: told == [b"done"])


def test_a_relay_that_dies_while_a_message_is_held(mesh: MemoryMesh) -> None:
    """The outcome takes the other way; the message was handed over once."""
    program = Program(mesh)
    sent = mesh["a"].runtime.datagrams.send("c", "log", b"x", timeout=200)
    mesh.run(2)
    mesh[mesh["a"].path("c")[1]].kill(silently=True)
    program.given[0].callback(None)
    mesh.result(sent)
    assert len(program.messages) == 1


def test_a_key_outlives_both_ends(mesh: MemoryMesh) -> None:
    """Acknowledged, both nodes restarted: the same key is answered, and not handed over."""
    for round_ in range(2):
        program = Program(mesh)
        sent = mesh["a"].runtime.datagrams.send("c", "log", b"x", timeout=100, key="k")
        mesh.run(2)
        for given in program.given:
            given.callback(None)
        mesh.result(sent)
        assert len(program.messages) == (round_ == 0)
        for name in ("a", "c"):
            mesh[name].kill()
            mesh[name].restart(True)
        mesh.run_until(lambda: mesh["a"].reaches("c") and mesh["c"].reaches("a"), within=120)
