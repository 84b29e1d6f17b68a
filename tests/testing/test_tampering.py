# SPDX-License-Identifier: MIT
"""A whole node that lies: what it alters is refused, what it keeps back arrives another way."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gmesh.endtoend.services import Message
from gmesh.errors import SendRefused
from gmesh.testing.mesh import MemoryMesh
from gmesh.wire.frames import Kind, is_data

pytest_plugins = ["gmesh.testing.pytest_plugin"]


@pytest.fixture
def mesh(memory_mesh: Callable[..., MemoryMesh]) -> MemoryMesh:
    """Two ways from a to z: over the liar, or over the honest one."""
    made = memory_mesh()
    made.add("liar", "relay")
    made.add("honest", "relay")
    for name in ("a", "z"):
        made.add(name, "client", peers=["liar", "honest"])
    made.start()
    made.run_until(lambda: made["a"].reaches("z") and made["z"].reaches("a"))
    made.run_until(lambda: all(len(node.link_names) == 2 for node in made))
    return made


def test_an_altered_message_is_not_delivered(mesh: MemoryMesh) -> None:
    """The one hand that touches a sealed frame ruins it; the sender is told, and honest again all is well."""
    received: list[Message] = []
    mesh["z"].runtime.datagrams.register("log", received.append)
    mesh.partition({"honest"}, {"a", "z"})
    mesh.run_until(lambda: mesh["a"].path("z") == ["a", "liar", "z"])
    touched = []

    def alter(kind: int, frame: bytes, to: str) -> bytes:
        if kind == Kind.E2E_DATA:
            touched.append(to)
            frame = frame[:-1] + bytes([frame[-1] ^ 1])
        return frame

    mesh["liar"].tampers = alter
    with pytest.raises(SendRefused):
        mesh.result(mesh["a"].runtime.datagrams.send("z", "log", b"x", timeout=5))
    assert touched and received == []
    mesh["liar"].tampers = None
    mesh.result(mesh["a"].runtime.datagrams.send("z", "log", b"y"))
    assert [message.data for message in received] == [b"y"]


def test_a_relay_that_keeps_everything_back_is_left(mesh: MemoryMesh) -> None:
    """It passes no message on but keeps its links: the message goes over the other relay in time."""
    received: list[Message] = []
    mesh["z"].runtime.datagrams.register("log", received.append)
    liar = mesh["a"].path("z")[1]  # type: ignore[index]  # there is a path
    mesh[liar].tampers = lambda kind, frame, to: None if is_data(kind) else frame
    mesh.result(mesh["a"].runtime.datagrams.send("z", "log", b"x", timeout=30))
    assert [message.data for message in received] == [b"x"]
    assert liar in mesh["a"].link_names
