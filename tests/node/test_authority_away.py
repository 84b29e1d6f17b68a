# SPDX-License-Identifier: MIT
"""A day without the authority: links, routes, sessions and restarts go on; the first news after it counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from node.managed_mesh import ManagedMesh

from gmesh.endtoend.services import Message
from gmesh.mesh.limits import KeepaliveProfile
from gmesh.node.limits import LONG_POLL_RETRY
from gmesh.testing.issuer import DAY

HOUR = 3600.0
SLOW = KeepaliveProfile(ping_after=600.0, pong_within=60.0, dead_after=1800.0)
"""Keepalives are no part of this test, and most of its time."""
RING = ("west", "north", "east", "south")


@pytest.fixture
def mesh() -> ManagedMesh:
    """Two ways from west to east, certificates for three days."""
    made = ManagedMesh(seed=6, profile=SLOW)
    made.authority.lifetime = 3 * DAY
    made.add("west", "relay", lifetime=3 * DAY)
    made.add("north", "anchor", peers=["west"], lifetime=3 * DAY)
    made.add("south", "relay", peers=["west"], lifetime=3 * DAY)
    made.add("east", "relay", peers=["north", "south"], lifetime=3 * DAY)
    made.start()
    made.run_until(lambda: all(node.reaches(*RING) for node in made))
    return made


def disturb(mesh: ManagedMesh, hour: int) -> None:
    """A link breaks, or a relay dies and comes back an hour later, with its memory or without."""
    name = ("north", "south")[hour // 2 % 2]
    if hour % 2:
        mesh[name].restart(keep=hour % 4 == 1)
    elif hour % 8 == 6:
        mesh.cut("west", name)
    else:
        mesh[name].kill()


@pytest.mark.parametrize("hours", [6, pytest.param(24, marks=pytest.mark.soak)])
def test_a_day_without_authority(mesh: ManagedMesh, hours: int) -> None:
    """Each hour something breaks or returns; messages pass, databases agree; then a revocation bites."""
    received: list[Message] = []
    mesh["east"].runtime.datagrams.register("log", received.append)
    send: Callable[..., object] = mesh["west"].runtime.datagrams.send
    mesh.run(60)
    mesh.authority.up = False
    for hour in range(hours):
        disturb(mesh, hour)
        mesh.run(60)
        mesh.result(send("east", "log", b"%d" % hour))
        mesh.run(HOUR - 60)
        alive = [node for node in mesh if node.running]
        assert len({node.runtime.engine.store.digest() for node in alive}) == 1, hour
        assert all(node.reaches(*(other.name for other in alive if other is not node)) for node in alive)
    assert [int(message.data) for message in received] == list(range(hours))
    assert mesh["west"].heartbeat.age() > hours * HOUR - 60 and not mesh["west"].heartbeat.reachable
    mesh.authority.up = True
    mesh.authority.revoke(mesh["south"].enrolled)
    took = mesh.run_until(lambda: not mesh["south"].link_names, within=2 * LONG_POLL_RETRY)
    assert took <= 1.2 * LONG_POLL_RETRY + 1
    assert mesh["west"].path("east") == ["west", "north", "east"]
    mesh.stop()
