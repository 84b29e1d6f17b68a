# SPDX-License-Identifier: MIT
"""
A fleet behind one address comes in without hands: simulated, with real patience, rate and restarts.

C{tests/live/test_rollout.py} does it for sixty with real daemons and commands.
"""

from __future__ import annotations

import configparser
import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

import pytest
from greenlet import getcurrent, greenlet

from gmesh.authority.rate_limit import Buckets, RateLimits
from gmesh.cli.http import HttpRefused
from gmesh.cli.options import seconds
from gmesh.cli.patience import Patience

REQUESTS = ("/genesis", "/status", "/policy", "/crl", "/join")
"""What C{gmesh join} asks for, in this order, on a network of one genesis."""
ROUND_TRIP = 0.05
BOOT = 20.0
"""Seconds within which a rack that gets its power back boots."""
UNIT = Path(__file__).resolve().parents[2] / "debian/gmesh-node-enrol.service"
pytestmark = pytest.mark.skipif(not UNIT.exists(), reason="debian/ is not beside these tests")


class Unit:
    """What systemd does with the unit of the package that enrols a host."""

    def __init__(self) -> None:
        read = configparser.ConfigParser(strict=False, interpolation=None)
        read.optionxform = str  # type: ignore[assignment]  # as configparser documents it
        read.read_string(UNIT.read_text(encoding="utf-8"))
        service = read["Service"]
        words = service["ExecStart"].split()
        self.timeout = seconds(words[words.index("--timeout") + 1])
        self.first, self.last = float(service["RestartSec"]), float(service["RestartMaxDelaySec"])
        self.steps = int(service["RestartSteps"])

    def delay(self, failures: int) -> float:
        """Seconds until the next start: from the first to the last in so many steps (systemd.service)."""
        grown = self.first * (self.last / self.first) ** (failures / self.steps)
        return min(self.last, grown)


@dataclass
class World:
    """Hosts behind one address, each a greenlet on one virtual clock."""

    random: Random
    now: float = 0.0
    asked: int = 0
    enrolled: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bucket = Buckets(RateLimits().address, lambda: self.now, 16)
        self._queue: list[tuple[float, int, greenlet]] = []
        self._order = count()

    def sleep(self, length: float) -> None:
        heapq.heappush(self._queue, (self.now + length, next(self._order), getcurrent()))
        self.hub.switch()

    def add(self, life: Callable[[], None], at: float) -> None:
        heapq.heappush(self._queue, (at, next(self._order), greenlet(life)))

    def run(self, until: float) -> None:
        self.hub = getcurrent()
        while self._queue and self._queue[0][0] <= until:
            self.now, _, host = heapq.heappop(self._queue)
            host.parent = self.hub
            host.switch()

    def ask(self) -> None:
        """One request; 429, with a time to wait, where the address has had its share."""
        self.sleep(ROUND_TRIP)
        self.asked += 1
        wait = self.bucket.take("192.0.2.1")
        if wait:
            raise HttpRefused("rate-limited", "too many requests", 429, {}, math.ceil(wait))

    def host(self, unit: Unit) -> Callable[[], None]:
        """The life of one host until it is enrolled."""

        def life() -> None:
            for failures in count():
                patience = Patience(
                    unit.timeout, self.sleep, lambda: self.now, self.random.random, lambda line: None
                )
                try:
                    for _ in REQUESTS:
                        patience.call(self.ask)
                except HttpRefused:
                    self.sleep(unit.delay(failures))
                    continue
                self.enrolled.append(self.now)
                self.starts.append(failures + 1)
                return

        return life


@pytest.mark.parametrize(("hosts", "within"), [(20, 21), (200, 60), (1000, 480)])
def test_a_fleet_behind_one_address_comes_in(hosts: int, within: float) -> None:
    """All of them; the limit of the authority alone takes a thousand 240 s, and two hundred 40 s."""
    world, unit = World(Random(hosts)), Unit()
    for _ in range(hosts):
        world.add(world.host(unit), world.random.uniform(0, BOOT))
    world.run(within)
    assert len(world.enrolled) == hosts
    assert world.asked <= 150 * hosts
