# SPDX-License-Identifier: MIT
"""Many connects, drops and idle strangers: memory stays flat, and no timer, socket or session is left."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
from mesh.linkworld import World
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from gmesh.mesh.counters import Refusals
from gmesh.mesh.limits import HandshakeLimits
from gmesh.mesh.link import MeshProtocol
from gmesh.wire.messages import CloseReason

ROOMY = HandshakeLimits(half_open=2000, half_open_per_address=2000, rate_per_address=1e6, rate=1e6)


def churn(world, one, two, times):
    """Connect and drop in four ways, in turn."""
    for number in range(times):
        one.dial(two)
        world.run(0.002 if number % 4 == 3 else 0.05)
        way = number % 4
        if way == 0:
            one.link(two).close(CloseReason.SHUTDOWN)
        elif way == 1:
            two.link(one).cut(CloseReason.SHUTDOWN)
        else:
            world.network.connections[-1].cut()
        world.run(0.05)
        world.network.connections.clear()
        one.recorder.events.clear()
        two.recorder.events.clear()


@pytest.mark.parametrize("times", [200, pytest.param(10_000, marks=pytest.mark.soak)])
def test_connects_and_drops_keep_memory_flat(times, monkeypatch):
    """However a link ends, in a handshake or later: the same memory, no timers, no sockets afterwards."""
    for logging in (MeshProtocol, Refusals):  # until logging begins, Twisted keeps what is logged
        monkeypatch.setattr(logging, "log", Logger(observer=lambda event: None))
    world = World()
    one, two = world.node("one", limits=ROOMY), world.node("two", limits=ROOMY).listen()
    churn(world, one, two, times // 10)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        churn(world, one, two, times)
        world.run(10)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 64 * 1024, grown
    assert one.neighbours.sessions == two.neighbours.sessions == two.gate.half_open == 0
    assert [call for call in world.clock.getDelayedCalls() if call.active()] == []
    world.finish()


def test_a_thousand_idle_sockets_end_at_the_deadline():
    """A thousand strangers that never speak: friends still link, and all the idle are gone after 5 s."""
    world = World()
    node = world.node("node", limits=ROOMY).listen()
    silent = []
    factory = Factory.forProtocol(lambda: silent.append(Protocol()) or silent[-1])
    factory.noisy = False
    for number in range(1000):
        source = f"10.9.{number // 250}.{number % 250}"
        world.network.client(node.address, source).connect(factory)
    world.run(0.1)
    assert node.gate.half_open == 1000
    friend = world.node("friend")
    friend.dial(node)
    world.run(0.5)
    assert friend.link(node) is not None
    world.run(5)
    assert node.gate.half_open == 0 and node.counters["handshake-timeout"] == 1000
    assert len(world.network.open_connections()) == 1
    world.finish()
