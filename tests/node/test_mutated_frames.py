# SPDX-License-Identifier: MIT
"""Changed control frames of a linked member: nothing is raised through the link, nothing grows."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from fuzz.test_fuzz_wire import mutate
from mesh.control_frames import CONTROL, bodies, grow

from gmesh.errors import FrameRefused
from gmesh.testing.mesh import MemoryMesh
from gmesh.wire.frames import Kind, pack_frame

TIMERS = 100
"""Calls that may wait on the clock of three nodes and their links."""
EVERY = 500
"""Frames after which a second passes."""


@pytest.fixture
def mesh() -> Iterator[MemoryMesh]:
    """The relay r with two clients, m and o."""
    made = grow(MemoryMesh(4))
    yield made
    made.stop()


def held(mesh: MemoryMesh) -> dict[str, int]:
    """How much r holds of each thing that frames can add to."""
    runtime = mesh["r"].runtime
    return {
        "nodes": len(runtime.engine.nodes(runtime.now())),
        "records": len(runtime.engine.store),
        "associations": len(runtime._sessions.associations),
        "neighbours": len(runtime.neighbours.links),
        **runtime.member.numbers(),
    }


@pytest.mark.parametrize(
    "count", [pytest.param(1_000_000, marks=pytest.mark.soak, id="million"), pytest.param(10_000, id="some")]
)
@pytest.mark.parametrize("kind", CONTROL)
def test_c11_changed_frames_of_a_member_leave_its_neighbour_as_it_was(
    mesh: MemoryMesh, kind: Kind, count: int
) -> None:
    """Each is read or refused, and what r knows, holds and waits for is what it was before."""
    chance = random.Random(f"member {kind}")
    before, body = held(mesh), bodies(mesh)[kind]
    refused = 0
    for number in range(count):
        if number % EVERY == 0:
            mesh.run(1)
            if "m" not in mesh["r"].link_names:
                mesh.run_until(lambda: "m" in mesh["r"].link_names)
            link = mesh["r"].link("m")
        frame = pack_frame(kind, mutate(body, chance)[:60_000])
        try:
            link._table.get(kind, link._no_receiver)(kind, memoryview(frame), 0, len(frame))
        except FrameRefused:
            refused += 1
    assert refused > 0 or not body
    mesh.run(120)
    assert held(mesh) == before
    assert len(mesh.clock.getDelayedCalls()) < TIMERS
    received: list[bytes] = []
    mesh["m"].runtime.datagrams.register("log", lambda message: received.append(message.data))
    mesh.result(mesh["o"].runtime.datagrams.send("m", "log", b"x"))
    assert received == [b"x"]
