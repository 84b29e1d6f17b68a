# SPDX-License-Identifier: MIT
"""
A life without hands: outages, key rotations, policy changes, reboots and clock steps in virtual time.

The short runs are for every day; C{make soak} runs the two years of one node second by second, and a
week of fifty linked ones.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from gmesh.mesh.limits import Liveliness
from gmesh.testing.issuer import DAY
from gmesh.testing.living import LivingMesh, LivingNode
from gmesh.trust.verify import check_certificate

HOUR = 3600.0
SLOW = Liveliness(ping_after=600.0, pong_within=60.0, dead_after=1800.0)
"""Keepalives are no part of these tests, and most of their time."""
WEEK = 7 * DAY
BACK = 120.0
"""Seconds after the authority's return in which every node must be renewed and informed."""
OUTAGES = (2 * HOUR, 9 * HOUR, 15 * HOUR, 2.0 * DAY, 6.0 * DAY, 20.0 * DAY)
QUARTER = 91 * DAY
OVERLAP = 40 * DAY
"""From the rotation of the authority's key to the genesis that drops the old one."""


class Fate:
    """
    What happens to a mesh, by its seed.

    @ivar happened: how often what happened.
    @param longest: the longest outage.
    """

    def __init__(self, mesh: LivingMesh, seed: int, longest: float) -> None:
        self.mesh = mesh
        self.random = Random(seed)
        self.happened: dict[str, int] = {}
        self.longest = longest
        self.back_at = 0.0
        self.outages = [outage for outage in OUTAGES if outage <= longest]
        every: list[tuple[float, Callable[[], None]]] = [
            (WEEK, self.policy),
            (QUARTER, self.rotate),
            (9 * DAY, self.reboot),
            (11 * DAY, self.step),
            (max(5 * DAY, 1.5 * longest), self.outage),
        ]
        for period, event in every:
            self.later(period * self.random.uniform(0.3, 0.7), event, period)

    def later(self, delay: float, event: Callable[[], None], period: float) -> None:
        def happen() -> None:
            self.happened[event.__name__] = self.happened.get(event.__name__, 0) + 1
            event()
            self.later(period * self.random.uniform(0.8, 1.2), event, period)

        self.mesh.clock.callLater(delay, happen)

    def policy(self) -> None:
        self.mesh.authority.publish_policy()

    def rotate(self) -> None:
        self.mesh.authority.rotate_authority_key()
        self.mesh.clock.callLater(OVERLAP, self.mesh.authority.rotate_authority_key, drop=True)

    def outage(self) -> None:
        authority = self.mesh.authority
        authority.up = False
        self.mesh.clock.callLater(self.outages[0], self.come_back)
        self.outages.append(self.outages.pop(0))

    def come_back(self) -> None:
        self.mesh.authority.up = True
        self.back_at = self.mesh.now()

    def reboot(self) -> None:
        node = self.random.choice(list(self.mesh.nodes.values()))
        stopped = node.stop()

        def again(_: object) -> None:
            node.runtime = node._make()
            node.start()

        stopped.addCallback(lambda _: self.mesh.clock.callLater(self.random.uniform(1, 600), again, None))

    def step(self) -> None:
        """To 1970, back an hour, ahead a minute, or right again."""
        node = self.random.choice(list(self.mesh.nodes.values()))
        node.skew = self.random.choice((-self.mesh.wall(), -HOUR, 60.0, 0.0))


def certified(mesh: LivingMesh, node: LivingNode) -> bool:
    """Whether a stranger with the right time and the newest genesis accepts this node's certificate."""
    authority = mesh.authority
    document = node.runtime.member.certificate
    if document.body.not_after < mesh.wall():
        return False
    check_certificate(document, authority.genesis.body, authority.network_id, mesh.wall())
    return True


def live(mesh: LivingMesh, days: float, seed: int, longest: float) -> Fate:
    """Let C{days} pass, and look every hour whether all is as it must be."""
    fate = Fate(mesh, seed, longest)
    authority = mesh.authority
    end = mesh.now() + days * DAY
    while mesh.now() < end:
        mesh.run(HOUR)
        settled = authority.up and mesh.now() - fate.back_at >= BACK
        if settled and all(node.running for node in mesh.nodes.values()):
            for node in mesh.nodes.values():
                assert certified(mesh, node), f"{node.name} after {mesh.now() / DAY} days"
    return fate


def look_after_return(mesh: LivingMesh, fate: Fate) -> None:
    """Two minutes after the authority is back everybody is renewed and up to date."""
    authority = mesh.authority
    if not authority.up:
        mesh.run_until(lambda: authority.up, within=30 * DAY)
    mesh.run(BACK)
    for node in mesh.nodes.values():
        assert certified(mesh, node)
        assert node.runtime.member.numbers()["policy"] == authority.policy.body.version


@pytest.mark.parametrize("days", [8, pytest.param(60, marks=pytest.mark.soak)])
def test_weeks_of_one_node(days: int) -> None:
    """Outages, policies, reboots, clock steps: renewed, informed, zero hands."""
    mesh = LivingMesh(seed=1)
    mesh.add("a", "client")
    mesh.start()
    fate = live(mesh, days, seed=1, longest=2 * DAY)
    look_after_return(mesh, fate)
    assert {"policy", "outage"} <= set(fate.happened)
    keys = {node.runtime.member.noise_key.public for node in mesh}
    assert keys != {node.enrolled.noise_key.public for node in mesh}, "the Noise key is a new one"


@pytest.mark.parametrize(
    "outage", [13 * HOUR, *(pytest.param(days * DAY, marks=pytest.mark.soak) for days in (2, 25))]
)
def test_back_within_two_minutes(outage: float) -> None:
    """After an outage longer than its certificate a node renews within the grace, and is linked again."""
    mesh = LivingMesh(seed=2, profile=SLOW)
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
    mesh = LivingMesh(seed=3)
    mesh.add("a", "client")
    mesh.start()
    mesh.run(HOUR)
    mesh.result(mesh["a"].stop())
    mesh.authority.rotate_authority_key()
    mesh.authority.rotate_authority_key(drop=True)
    mesh.run(3 * DAY)
    mesh["a"].runtime = mesh["a"]._make()
    mesh["a"].start()
    mesh.run(BACK)
    assert certified(mesh, mesh["a"])
    assert mesh["a"].runtime.member.numbers()["genesis"] == 3


@pytest.mark.soak
def test_two_years_of_one_node() -> None:
    """Second by second, at the daemon's own periods."""
    mesh = LivingMesh(seed=4)
    mesh.add("a", "client")
    mesh.start()
    fate = live(mesh, 730, seed=4, longest=20 * DAY)
    look_after_return(mesh, fate)
    assert fate.happened["rotate"] >= 7


@pytest.mark.soak
def test_a_week_of_fifty() -> None:
    """Fifty linked nodes under two anchors for a week with outages: all in the mesh at the end."""
    mesh = LivingMesh(seed=5, profile=SLOW)
    mesh.add("a0", "anchor")
    mesh.add("a1", "anchor", peers=["a0"])
    for number in range(48):
        mesh.add(f"n{number}", "client", peers=["a0", "a1"])
    mesh.start()
    fate = live(mesh, 7, seed=5, longest=2 * DAY)
    look_after_return(mesh, fate)
    names = [name for name in mesh.nodes if name != "a0"]
    mesh.run_until(lambda: mesh["a0"].reaches(*names), within=900)
