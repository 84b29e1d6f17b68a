# SPDX-License-Identifier: MIT
"""Bulk over a link of 10 Mbit/s in the middle of the path: what it leaves to a message beside it."""

from __future__ import annotations

from statistics import median

import pytest
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from gmesh.testing.mesh import MemoryMesh
from gmesh.testing.transport import Wire

RATE = 1_250_000
"""Bytes a second of the link b-c: 10 Mbit/s."""
MESSAGE = 16_000


@implementer(IPushProducer)
class Bulk:
    """Writes from one node to another as fast as it may."""

    def __init__(self, mesh: MemoryMesh, source: str, target: str) -> None:
        self.mesh = mesh
        self.running, self.paused = True, False
        self.flow = mesh[source].runtime.datagrams.open(target, "log")
        self.flow.registerProducer(self, True)
        self.write()

    def write(self) -> None:
        """A few messages in a turn, then the next."""
        for _ in range(4):
            if self.running and not self.paused:
                self.flow.send(bytes(MESSAGE))
        if self.running and not self.paused:
            self.mesh.clock.callLater(0.0005, self.write)

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False
        self.mesh.clock.callLater(0, self.write)

    def stopProducing(self) -> None:
        self.running = False


class Line:
    """The nodes a to d, what d got, and pings beside it."""

    def __init__(self, mesh: MemoryMesh) -> None:
        self.mesh = mesh
        self.got = 0
        mesh["d"].runtime.datagrams.register("log", self.take)

    def take(self, message: object) -> None:
        """One arrived at d."""
        self.got += 1

    def ping(self) -> float:
        """One round trip, seconds."""
        return self.mesh.result(self.mesh["a"].runtime.echo.ping("d"))

    def measure(self, seconds: float) -> tuple[float, list[float]]:
        """Bytes a second that arrive at d, and round trips of pings beside, sorted."""
        trips: list[float] = []
        loop = LoopingCall(lambda: self.mesh["a"].runtime.echo.ping("d").addCallback(trips.append))
        loop.clock = self.mesh.clock
        before = self.got
        loop.start(0.1)
        self.mesh.run(seconds)
        loop.stop()
        goodput = (self.got - before) * MESSAGE / seconds
        self.mesh.run(1)
        return goodput, sorted(trips)


@pytest.fixture
def line():
    """Four nodes, 5 ms between each."""
    mesh = MemoryMesh.line("a", "b", "c", "d", wire=Wire(delay=0.005, chunked=False))
    mesh.run_until(lambda: mesh["a"].reaches("d") and mesh["d"].reaches("a"))
    mesh.run(2)
    mesh.slow("b", "c", RATE)
    yield Line(mesh)
    mesh.stop()


def test_a_ping_beside_bulk_does_not_wait_behind_a_quarter_second_of_it(line):
    """Of what waits before the thin link most is our own: twice the round trip and 20 ms of it at most."""
    alone = median(line.ping() for _ in range(5))
    assert alone == pytest.approx(0.03, abs=0.002)
    bulk = Bulk(line.mesh, "a", "d")
    line.mesh.run(3)
    goodput, trips = line.measure(5)
    bulk.running = False
    assert trips[len(trips) // 2] <= 2 * alone + 0.02
    assert trips[len(trips) * 95 // 100] <= 0.12
    assert goodput >= 0.98 * RATE


def test_a_path_that_becomes_longer_is_used_again(line):
    """What was the least round trip is not for ever: after a while the window is that of the path of now."""
    bulk = Bulk(line.mesh, "a", "d")
    line.mesh.run(3)
    for one, other in ("ab", "bc", "cd"):
        line.mesh.lengthen(one, other, 0.05)
    line.mesh.run(25)
    goodput, _ = line.measure(5)
    bulk.running = False
    assert goodput >= 0.9 * RATE
