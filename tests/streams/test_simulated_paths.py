# SPDX-License-Identifier: MIT
"""Streams over paths that change, are thin or long, and over the keys and certificates of an hour."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from streams.transfers import Transfer, forget_records
from twisted.internet.protocol import Protocol
from twisted.internet.task import LoopingCall

from gmesh.testing.mesh import MemoryMesh
from gmesh.testing.transport import Wire

MIB = 1024 * 1024


def line(*names: str, wire: Wire) -> MemoryMesh:
    """Nodes in a line that know of each other."""
    mesh = MemoryMesh.line(*names, wire=wire)
    first, last = names[0], names[-1]
    mesh.run_until(lambda: mesh[first].reaches(last) and mesh[last].reaches(first))
    mesh.run(2)
    return mesh


class Echo(Protocol):
    """Says what it hears."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class Typist(Protocol):
    """Writes a byte now and then, and notes how long it takes to come back."""

    def __init__(self, mesh: MemoryMesh) -> None:
        self.mesh = mesh
        self.typed: list[float] = []
        self.trips: list[float] = []

    def type(self) -> None:
        """One key."""
        assert self.transport is not None
        self.typed.append(self.mesh.now())
        self.transport.write(b"k")

    def dataReceived(self, data: bytes) -> None:
        for _ in data:
            self.trips.append(self.mesh.now() - self.typed.pop(0))


def test_a_keystroke_beside_bulk_waits_for_little_of_it() -> None:
    """Over 10 Mbit/s in the middle, 5 ms a hop: 19 of 20 are there and back within 120 ms."""
    mesh = line("a", "b", "c", "d", wire=Wire(delay=0.005, chunked=False))
    mesh.slow("b", "c", 1_250_000)
    typist = Typist(mesh)
    mesh["d"].runtime.streams.listen("shell", lambda offer: offer.accept(Echo()))
    mesh.result(mesh["a"].runtime.streams.dial("d", "shell", lambda peer: typist))
    transfer = Transfer(mesh, "a", "d", 1000 * MIB)
    mesh.run(3)
    loop, before = LoopingCall(typist.type), transfer.sink.got
    loop.clock = mesh.clock
    loop.start(0.1)
    mesh.run(10)
    loop.stop()
    assert (transfer.sink.got - before) / 10 >= 0.9 * 1_250_000
    mesh.run(1)
    trips = sorted(typist.trips)
    assert len(trips) >= 100 and not typist.typed
    assert trips[len(trips) * 95 // 100] <= 0.12
    mesh.stop()


def test_a_long_fast_path_is_used() -> None:
    """A round trip of 100 ms at 100 Mbit/s: four fifths of the link."""
    rate = 12_500_000
    mesh = line("a", "b", "c", wire=Wire(delay=0.025, capacity=4 * MIB, chunked=False))
    mesh.slow("a", "b", rate)
    mesh.slow("b", "c", rate)
    transfer = Transfer(mesh, "a", "c", 1000 * MIB)
    mesh.run(3)
    before = transfer.sink.got
    mesh.run(3)
    assert (transfer.sink.got - before) / 3 >= 0.8 * rate
    assert transfer.sink.intact
    mesh.stop()


@pytest.fixture
def detour() -> Iterator[MemoryMesh]:
    """From a to d by x, y and z; a shorter way by b comes up later."""
    made = MemoryMesh(5, wire=Wire(delay=0.005, rate=5_000_000, chunked=False))
    made.add("x", "relay")
    made.add("y", "relay", peers=("x",))
    made.add("z", "relay", peers=("y",))
    made.add("b", "relay")
    made.add("a", "client", peers=("x", "b"))
    made.add("d", "client", peers=("z", "b"))
    made.start()
    made.partition(("b",), ("a", "d", "x", "y", "z"))
    made.run_until(lambda: made["a"].reaches("d") and made["d"].reaches("a"))
    made.run(3)
    yield made
    made.stop()


def test_a_switch_to_a_shorter_path_sends_little_again(detour: MemoryMesh) -> None:
    """A whole window is under way by the old path when frames overtake it on the new one."""
    transfer = Transfer(detour, "a", "d", 1000 * MIB)
    detour.run(3)
    assert detour["a"].path("d") == ["a", "x", "y", "z", "d"]
    counters = detour["a"].runtime.streams.counters
    before = counters["segments-resent"]
    detour.heal()
    detour.run_until(lambda: detour["a"].path("d") == ["a", "b", "d"], within=120)
    got = transfer.sink.got
    detour.run(5)
    assert transfer.sink.intact and transfer.sink.got > got + 5 * MIB
    assert counters["segments-resent"] - before <= 3


@pytest.mark.parametrize("seconds", [360, pytest.param(3600, marks=pytest.mark.soak)])
def test_over_rehandshakes_and_renewals(seconds: int) -> None:
    """Sessions and certificates come and go under streams: nobody waits for it longer than a round trip."""
    mesh = line("a", "b", "c", wire=Wire(delay=0.005, rate=60_000, chunked=False))
    transfer = Transfer(mesh, "a", "c", 1000 * MIB)
    mesh.run(5)
    worst, began = 0.0, mesh["a"].runtime.counters()["established"]
    for minute in range(seconds // 60):
        worst = max(worst, transfer.stalled(60))
        forget_records(mesh)
        if minute % 5 == 2:
            mesh["a"].renew()
            mesh["c"].renew()
    assert transfer.sink.intact and transfer.sink.got > 0.7 * 60_000 * seconds
    assert mesh["a"].runtime.counters()["established"] >= began + seconds // 130
    assert worst <= 0.5
    mesh.stop()
