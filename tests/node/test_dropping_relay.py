# SPDX-License-Identifier: MIT
"""A relay that passes not everything on is left, whatever it is that it drops, and nobody else is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from gmesh.testing.mesh import MemoryMesh
from gmesh.wire.frames import Kind

EVERY = 0.05
"""Seconds between two messages of C{s}."""
SELDOM = 0.5
"""The same, once the bad relay was left: what is watched then is for how long."""

Drops = Callable[[int, bytes, str, int], bool]
"""(kind, frame, to whom, how many before) -> whether it goes no further."""

SUBSETS: dict[str, Drops] = {
    "everything": lambda kind, frame, to, number: True,
    "data alone": lambda kind, frame, to, number: kind == Kind.E2E_DATA,
    "all to t": lambda kind, frame, to, number: to == "t",
    "all from t": lambda kind, frame, to, number: to == "s",
    "large frames": lambda kind, frame, to, number: len(frame) > 1000,
    "one in ten": lambda kind, frame, to, number: number % 10 == 9,
    "a third of the data": lambda kind, frame, to, number: kind == Kind.E2E_DATA and number % 3 == 0,
}


@pytest.fixture
def mesh() -> Iterator[MemoryMesh]:
    """Two relays between C{s} and C{t}."""
    made = MemoryMesh(8)
    made.add("a", "relay")
    made.add("b", "relay")
    made.add("s", "client", peers=("a", "b"))
    made.add("t", "client", peers=("a", "b"))
    made.start()
    made.run_until(lambda: made["s"].reaches("t") and made["t"].reaches("s"))
    made["t"].runtime.datagrams.register("log", lambda message: None)
    made.run(5)
    yield made
    made.stop()


class Talk:
    """C{s} sends to C{t}, every fifth message a large one."""

    def __init__(self, mesh: MemoryMesh, acknowledged: bool) -> None:
        self._mesh = mesh
        self._acknowledged = acknowledged
        self.sent = 0
        self.talking = True
        self.every = EVERY
        self.slowest = 0.0
        self.failed: list[str] = []
        self._next()

    def _next(self) -> None:
        if not self.talking:
            return
        self.sent += 1
        data = bytes(4000 if self.sent % 5 == 0 else 20)
        datagrams = self._mesh["s"].runtime.datagrams
        if self._acknowledged:
            since = self._mesh.now()
            sent = datagrams.send("t", "log", data, timeout=30)
            sent.addCallbacks(
                lambda _: setattr(self, "slowest", max(self.slowest, self._mesh.now() - since)),
                lambda failure: self.failed.append(failure.getErrorMessage()),
            )
        else:
            datagrams.post("t", "log", data)
        self._mesh.clock.callLater(self.every, self._next)


def corrupt(mesh: MemoryMesh, drops: Drops) -> str:
    """The relay that C{s} uses drops these of the frames of others from now on."""
    path = mesh["s"].path("t")
    assert path is not None
    seen = 0

    def hand(kind: int, frame: bytes, to: str) -> bytes | None:
        nonlocal seen
        if kind not in (Kind.E2E_INIT, Kind.E2E_RESP, Kind.E2E_DATA):
            return frame
        seen += 1
        return None if drops(kind, frame, to, seen - 1) else frame

    mesh[path[1]].tampers = hand
    return path[1]


def blamed(mesh: MemoryMesh, name: str) -> list[str]:
    runtime = mesh[name].runtime
    return [mesh.name_of(handle) for handle in runtime.engine.blamed(runtime.now())]


@pytest.mark.parametrize("acknowledged", [True, False], ids=["acknowledged", "not acknowledged"])
@pytest.mark.parametrize("subset", SUBSETS)
def test_c8_a_relay_that_drops_some_is_left_soon_and_for_long(
    mesh: MemoryMesh, subset: str, acknowledged: bool
) -> None:
    """Within five seconds, and for as long as blame lasts; the honest one is never blamed."""
    if not acknowledged and subset in ("large frames", "one in ten", "a third of the data"):
        pytest.skip("messages that nobody acknowledges may be lost: only silence can be noticed")
    talk = Talk(mesh, acknowledged)
    mesh.run(5)
    evil = corrupt(mesh, SUBSETS[subset])
    mesh.run(5)
    stays = []
    for step in range(60):
        path = mesh["s"].path("t")
        stays.append(path is not None and path[1] != evil)
        mesh.run(5)
        if step == 6:
            talk.every = SELDOM
    assert all(stays)
    assert blamed(mesh, "s") == [evil]
    assert talk.failed == [] and talk.slowest < 5
    talk.talking = False
    mesh.run(SELDOM)


def test_c8_a_node_that_is_away_puts_nobody_to_blame(mesh: MemoryMesh) -> None:
    """It falls silent, its relays find out, it comes back: nobody dropped anything."""
    talk = Talk(mesh, True)
    for silently in (True, False, True):
        mesh.run(30)
        mesh["t"].kill(silently)
        mesh.run(20)
        mesh["t"].restart()
        mesh["t"].runtime.datagrams.register("log", lambda message: None)
        mesh.run_until(lambda: mesh["s"].reaches("t"))
        mesh.run(60)
        assert blamed(mesh, "s") == blamed(mesh, "t") == []
    talk.talking = False
    mesh.run(EVERY)


def test_c8_a_link_that_falls_silent_puts_nobody_to_blame(mesh: MemoryMesh) -> None:
    """Traffic goes around at once; the relay says fifteen seconds later that it was the link."""
    talk = Talk(mesh, True)
    mesh.run(10)
    path = mesh["s"].path("t")
    assert path is not None
    mesh.silence(path[1], "t")
    mesh.run(5)
    around = mesh["s"].path("t")
    assert around is not None and around[1] != path[1]
    mesh.run(60)
    mesh.heal()
    mesh.run(120)
    assert blamed(mesh, "s") == blamed(mesh, "t") == []
    assert talk.failed == [] and talk.slowest < 5
    talk.talking = False
    mesh.run(EVERY)
