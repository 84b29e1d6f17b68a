# SPDX-License-Identifier: MIT
"""A member that claims to pass on the handshakes of others, between two nodes that do not depend on it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from twisted.internet.task import LoopingCall

from gmesh.endtoend.limits import INIT_LINK_RATE, REJECT_AFTER_TIME
from gmesh.testing.mesh import MemoryMesh
from gmesh.wire.frames import Kind
from gmesh.wire.paths import PathHeader, pack_path_frame

RATE = 40
SENDS = 8


@pytest.fixture
def mesh() -> Iterator[MemoryMesh]:
    """Two relays in a row; C{v} is linked to the first, C{c} to the second, C{m} to both."""
    made = MemoryMesh(5)
    made.add("a", "relay")
    made.add("b", "relay", peers=("a",))
    made.add("v", "client", peers=("a",))
    made.add("c", "client", peers=("b",))
    made.add("m", "client", peers=("a", "b"))
    made.start()
    made.run_until(lambda: made["v"].reaches("c") and made["c"].reaches("v"))
    made.run_until(lambda: made["m"].link_names == ["a", "b"])
    made.run(5)
    yield made
    made.stop()


def junk(mesh: MemoryMesh, *names: str, number: int) -> bytes:
    """A first message of a handshake that nobody began, as handed on by the second node of a path."""
    path = tuple(mesh[name].handle for name in names)
    return pack_path_frame(Kind.E2E_INIT, PathHeader(path, 0, 2**62 + number, 2), bytes(200))


@pytest.mark.parametrize("way", [("v", "m", "b", "c"), ("v", "m", "a", "b", "c")])
def test_c3_a_member_that_poses_as_an_interior_hop(mesh: MemoryMesh, way: tuple[str, ...]) -> None:
    """Forty forged handshakes a second, for longer than keys live: every message of the other two arrives."""
    received: list[bytes] = []
    mesh["c"].runtime.datagrams.register("log", lambda message: received.append(message.data))
    link = mesh["m"].link(way[2])
    sent = 0

    def forge() -> None:
        nonlocal sent
        frame = junk(mesh, *way, number=sent)
        assert link.send_data(frame, mesh["v"].handle + mesh["c"].handle)
        sent += 1

    attack = LoopingCall(forge)
    attack.clock = mesh.clock
    attack.start(1 / RATE)
    mesh.run(5)
    for number in range(SENDS):
        mesh.result(mesh["v"].runtime.datagrams.send("c", "log", b"%d" % number))
        mesh.run(REJECT_AFTER_TIME / 4)
    attack.stop()
    assert received == [b"%d" % number for number in range(SENDS)]
    assert sent > RATE * REJECT_AFTER_TIME
    assert mesh[way[2]].runtime.counters()["forward-through-client"] >= sent - 1
    assert "handshake-flood" not in mesh["c"].runtime.counters()


@pytest.fixture
def beside(request: pytest.FixtureRequest) -> Iterator[MemoryMesh]:
    """Two ways to C{c}: C{v} uses one, and on the other is C{r}, whose role the test names."""
    made = MemoryMesh(6)
    made.add("a", "relay")
    made.add("b", "relay")
    made.add("v", "client", peers=("a",))
    made.add("c", "client", peers=("a", "b"))
    made.add("r", request.param, peers=("b",))
    made.start()
    made.run_until(lambda: made["v"].reaches("c") and made["r"].reaches("c"))
    made.run(5)
    yield made
    made.stop()


@pytest.mark.parametrize(("beside", "reaches"), [("client", False), ("relay", True)], indirect=["beside"])
def test_c3_what_is_left_to_a_relay(beside: MemoryMesh, reaches: bool) -> None:
    """A relay spends what may be claimed over the neighbour behind it; another way is untouched."""
    received: list[bytes] = []
    beside["c"].runtime.datagrams.register("log", lambda message: received.append(message.data))
    flow = beside["v"].handle + beside["c"].handle
    for number in range(100):
        beside["r"].link("b").send_data(junk(beside, "v", "r", "b", "c", number=number), flow)
    beside.run(1)
    assert ("handshake-flood" in beside["c"].runtime.counters()) is reaches
    since = beside.now()
    beside.result(beside["v"].runtime.datagrams.send("c", "log", b"x"))
    assert received == [b"x"] and beside.now() - since < 1


@pytest.fixture
def through() -> Iterator[MemoryMesh]:
    """The relay C{r} is the only way from C{v} to C{c}."""
    made = MemoryMesh(7)
    made.add("r", "relay")
    made.add("v", "client", peers=("r",))
    made.add("c", "client", peers=("r",))
    made.start()
    made.run_until(lambda: made["v"].reaches("c") and made["c"].reaches("v"))
    made.run(5)
    yield made
    made.stop()


def test_c3_a_relay_on_the_path_forges_handshakes(through: MemoryMesh) -> None:
    """It forges ten times what its link may bring; those of the node itself are answered, time after time."""
    received: list[bytes] = []
    through["c"].runtime.datagrams.register("log", lambda message: received.append(message.data))
    link, flow = through["r"].link("c"), through["v"].handle + through["c"].handle
    numbers = itertools.count()
    burst = round(INIT_LINK_RATE)

    def forge() -> None:
        for _ in range(burst):
            link.send_data(junk(through, "v", "r", "c", number=next(numbers)), flow)

    attack = LoopingCall(forge)
    attack.clock = through.clock
    attack.start(burst / (10 * INIT_LINK_RATE))
    through.run(5)
    for number in range(SENDS):
        through["v"].kill()
        through["v"].restart()
        through.run_until(lambda: through["v"].reaches("c"))
        since = through.now()
        through.result(through["v"].runtime.datagrams.send("c", "log", b"%d" % number))
        assert through.now() - since < 1
    attack.stop()
    assert received == [b"%d" % number for number in range(SENDS)]
    assert through["c"].runtime.counters()["handshake-flood"] > 10 * INIT_LINK_RATE
