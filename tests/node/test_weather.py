# SPDX-License-Identifier: MIT
"""Links break, fall silent and slow down, hosts die and come back, and nobody is blamed: all are honest."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from testing.test_chaos import Fleet

from gmesh.testing.mesh import MemoryMesh
from gmesh.testing.transport import Wire

pytest_plugins = ["gmesh.testing.pytest_plugin"]

HOUR = 3600.0
SIZE = 8
SLOW = 20_000.0
"""Bytes a second of a link in bad weather: a message of three takes a while."""
APART = 100.0
"""Seconds between two events, about."""
EVERY = 5.0
"""Seconds between two messages, about."""


class Weather:
    """What happens to a fleet, one thing at a time, each of which passes."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.fleet = fleet
        self.random = Random(seed)
        self.pass_over: Callable[[], object] = lambda: None

    def change(self) -> None:
        """The last thing is over, and another begins."""
        mesh, random = self.fleet.mesh, self.random
        self.pass_over()
        name = random.choice(self.fleet.names)
        links = mesh[name].link_names
        self.pass_over = lambda: None
        if not links:
            return
        other = random.choice(links)
        match random.randrange(4):
            case 0:
                mesh.cut(name, other)
            case 1:
                mesh.silence(name, other, both=random.random() < 0.5)
                self.pass_over = mesh.heal
            case 2:
                mesh.slow(name, other, SLOW)
                self.pass_over = lambda: mesh.slow(name, other, None)
            case _:
                mesh[name].kill(silently=random.random() < 0.5)
                self.fleet.dead.append(name)
                self.pass_over = lambda: self._back(name)

    def _back(self, name: str) -> None:
        self.fleet.dead.remove(name)
        self.fleet.mesh[name].restart()
        self.fleet.listen(name)


@pytest.mark.parametrize("hours", [1, pytest.param(24, marks=pytest.mark.soak)])
def test_c8_weather_puts_nobody_to_blame(memory_mesh: Callable[..., MemoryMesh], hours: int) -> None:
    """Hours of it, one thing each hundred seconds, with acknowledged messages between random pairs."""
    mesh = memory_mesh(wire=Wire(capacity=32 * 1024))
    fleet = Fleet(mesh, SIZE, 3)
    weather = Weather(fleet, 4)
    end = mesh.now() + hours * HOUR
    changed = mesh.now()
    while mesh.now() < end:
        if mesh.now() - changed > APART:
            changed = mesh.now()
            weather.change()
        fleet.talk()
        mesh.run(weather.random.uniform(0, 2 * EVERY))
        for node in mesh:
            runtime = node.runtime
            blamed = [mesh.name_of(handle) for handle in runtime.engine.blamed(runtime.now())]
            assert blamed == [], f"{node.name} at {mesh.now():.0f} s"
    weather.pass_over()
    fleet.calm()
    assert len(fleet.acknowledged) >= 0.95 * fleet.sent
