# SPDX-License-Identifier: MIT
"""
A life without hands: outages, key rotations, policy changes, commands, reboots and clock steps.

The short runs are for every day; C{make soak} runs two years of one node second by second, and two
years of fifty with Unix time in fast motion between the events.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from node.managed_mesh import ManagedMesh
from node.schedule import BACK, HOUR, Schedule, certified, judging_once, lapsing

from gmesh.mesh.limits import KeepaliveProfile
from gmesh.testing.issuer import DAY
from gmesh.testing.transport import Wire

SLOW = KeepaliveProfile(ping_after=600.0, pong_within=60.0, dead_after=1800.0)
"""Keepalives are no part of these tests, and most of their time."""
CALM = KeepaliveProfile(ping_after=30.0, pong_within=10.0, dead_after=90.0)
EVERYTHING = {"policy", "rotate", "drop", "reboot", "step", "command", "outage", "come_back"}
HURRIED = {"policy": 3, "rotate": 6, "drop": 5, "reboot": 2, "step": 3, "command": 3, "outage": 5}
"""Days between events of a kind, for a life of three weeks with all of them."""


def fleet(size: int, seed: int) -> ManagedMesh:
    """Clients under two anchors that are linked to each other."""
    mesh = ManagedMesh(seed, wire=Wire(chunked=False), profile=CALM)
    mesh.authority.status_life = DAY // 2
    mesh.add("a0", "anchor")
    mesh.add("a1", "anchor", peers=["a0"])
    for number in range(size - 2):
        mesh.add(f"n{number}", "client", peers=["a0", "a1"])
    return mesh


@contextmanager
def fast_motion(pace: float) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(lapsing(pace))
        stack.enter_context(judging_once())
        yield


@pytest.mark.parametrize(("days", "pace"), [(8, 8), pytest.param(60, 1, marks=pytest.mark.soak)])
def test_weeks_of_one_node(days: int, pace: float) -> None:
    """Renewed, informed, with another Noise key, zero hands; the weeks of C{make soak} second by second."""
    mesh = ManagedMesh(seed=1)
    mesh.add("a", "client")
    with fast_motion(pace) if pace > 1 else ExitStack():
        mesh.start()
        schedule = Schedule(mesh, seed=1, pace=pace, longest=2 * DAY)
        schedule.run(days)
    assert {"policy", "outage"} <= set(schedule.happened)
    keys = {node.runtime.member.noise_key.public for node in mesh}
    assert keys != {node.enrolled.noise_key.public for node in mesh}, "the Noise key is a new one"


def test_three_weeks_of_a_mesh() -> None:
    """Every kind of event several times, at five nodes, two of them anchors."""
    mesh = fleet(5, seed=2)
    with fast_motion(480):
        mesh.start()
        mesh.run(60)
        schedule = Schedule(mesh, 2, pace=480, longest=2 * DAY, days=HURRIED)
        schedule.run(21)
    assert set(schedule.happened) == EVERYTHING
    assert min(schedule.happened.values()) >= 2


@pytest.mark.parametrize(
    "outage", [13 * HOUR, *(pytest.param(days * DAY, marks=pytest.mark.soak) for days in (2, 25))]
)
def test_field_l3_back_within_two_minutes(outage: float) -> None:
    """After an outage longer than its certificate a node renews within the grace, and is linked again."""
    mesh = ManagedMesh(seed=2, profile=SLOW, wire=Wire(chunked=False))
    mesh.add("a", "anchor")
    mesh.add("b", "client", peers=["a"])
    mesh.start()
    mesh.run(DAY / 2)
    mesh.authority.up = False
    mesh.run(outage)
    linked = mesh["b"].reaches("a")
    assert linked == (mesh["b"].not_after > mesh.wall())
    mesh.authority.up = True
    mesh.run(BACK)
    assert mesh["b"].reaches("a")
    assert mesh["b"].link_names == ["a"]
    assert all(certified(mesh, node) for node in mesh.nodes.values())
    mesh.stop()


def test_rotation_while_away() -> None:
    """A node that was off while the key was rotated and the old one dropped renews by the new one."""
    mesh = ManagedMesh(seed=3)
    mesh.add("a", "client")
    mesh.start()
    mesh.run(HOUR)
    mesh.result(mesh["a"].stop())
    mesh.authority.rotate_authority_key()
    mesh.authority.rotate_authority_key(drop=True)
    mesh.run(3 * DAY)
    mesh["a"].restart()
    mesh.run(BACK)
    assert certified(mesh, mesh["a"])
    assert mesh["a"].runtime.member.numbers()["genesis"] == 3


@pytest.mark.soak
def test_two_years_of_one_node() -> None:
    """Second by second, at the daemon's own periods."""
    mesh = ManagedMesh(seed=4)
    mesh.add("a", "client")
    mesh.start()
    schedule = Schedule(mesh, seed=4)
    schedule.run(730)
    assert set(schedule.happened) == EVERYTHING
    assert schedule.happened["rotate"] >= 7


@pytest.mark.soak
def test_two_years_of_fifty() -> None:
    """All of them in the mesh whenever their certificates allow it, and back two minutes after any outage."""
    mesh = fleet(50, seed=5)
    with fast_motion(480):
        mesh.start()
        mesh.run(60)
        schedule = Schedule(mesh, 5, pace=480)
        schedule.run(730)
    assert set(schedule.happened) == EVERYTHING
    assert schedule.happened["rotate"] >= 7
    assert schedule.happened["policy"] >= 100
