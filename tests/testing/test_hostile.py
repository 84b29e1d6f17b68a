# SPDX-License-Identifier: MIT
"""Every way to be hostile, from every place: pairs of honest nodes that have an honest path go on talking."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest
from node.logged import measured

from gmesh.testing.hostile import BEHAVIOURS, Hostile
from gmesh.testing.mesh import MemoryMesh

EVERY = 0.5
"""Seconds between two messages of a pair."""
SLOWEST = 5.0
"""Seconds within which each is acknowledged: a relay that drops is left in so many."""
LOG = 1_000_000 / 86_400
"""Bytes a second: a megabyte a day for each hostile member ..."""
LOG_AT_ONCE = 20_000
"""... and what is written at once, before lines of one kind are spaced."""
ROLES = ("client", "relay", "anchor")


class Fleet:
    """
    Relays in a ring with chords of two, each client linked to two of them, and the hostile C{m} among them.

    C{near} is linked to C{m} too, the shortest path of C{near} and C{beside} leads through it if it carries
    frames, and C{far} is at the other end of the ring.
    """

    def __init__(self, size: int, role: str, seed: int) -> None:
        self.mesh = mesh = MemoryMesh(seed)
        self.relays = [f"r{number}" for number in range(size - 4)]
        for index, name in enumerate(self.relays):
            others = self.relays[max(index - 2, 0) : index]
            others += self.relays[: max(0, index + 3 - len(self.relays))]
            mesh.add(name, "relay", peers=tuple(dict.fromkeys(others)))
        mesh.add("m", role, peers=(self.relays[0], self.relays[1], self.relays[-1]))
        relaying = ("m",) if role != "client" else ()
        mesh.add("near", "client", peers=(*relaying, self.relays[0]))
        mesh.add("beside", "client", peers=(*relaying, self.relays[-1]))
        mesh.add("far", "client", peers=(self.relays[size // 2 - 2], self.relays[size // 2 - 1]))
        mesh.start()
        names = [node.name for node in mesh]
        mesh.run_until(lambda: all(node.reaches(*names) for node in mesh), within=120)
        for name in ("near", "beside", "far"):
            mesh[name].runtime.datagrams.register("log", lambda message: None)
        mesh.run(5)
        self.pairs = [("near", "beside"), ("beside", "far"), ("far", "near"), ("beside", "near")]
        self.hostile = Hostile(mesh, "m")
        self.sent = self.arrived = 0
        self.slowest = 0.0
        self.failed: list[str] = []

    def talk(self, seconds: float) -> None:
        """Each pair sends so long; returns when the last message is acknowledged or has failed."""
        end = self.mesh.now() + seconds
        while self.mesh.now() < end:
            for source, target in self.pairs:
                self._send(source, target)
            self.mesh.run(EVERY)
        self.mesh.run_until(lambda: self.arrived + len(self.failed) == self.sent)

    def _send(self, source: str, target: str) -> None:
        since = self.mesh.now()
        self.sent += 1

        def arrived(_: object) -> None:
            self.arrived += 1
            self.slowest = max(self.slowest, self.mesh.now() - since)

        self.mesh[source].runtime.datagrams.send(target, "log", bytes(200), timeout=20).addCallbacks(
            arrived, lambda failure: self.failed.append(f"{source} to {target}: {failure.value}")
        )


def suffer(fleet: Fleet, behaviour: str, seconds: float, against: str | None = None) -> None:
    """C{m} behaves so, for so long, while honest nodes talk."""
    fleet.slowest = 0.0
    fleet.hostile.begin(behaviour, against)
    with measured() as log:
        fleet.talk(seconds)
    fleet.hostile.stop()
    assert fleet.failed == [], behaviour
    assert fleet.slowest < SLOWEST, behaviour
    assert len(log.getvalue()) < LOG * seconds + LOG_AT_ONCE, f"{behaviour}: {log.getvalue()[-2000:]}"
    fleet.mesh.run(60)


@pytest.fixture
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """A fleet of so many with a hostile member of this role."""
    made = Fleet(*request.param, 16)
    yield made
    made.hostile.stop()
    made.mesh.stop()


DROPS = [name for name, behaviour in BEHAVIOURS.items() if behaviour.relays]
OTHERS = [name for name in BEHAVIOURS if name not in DROPS]


@pytest.mark.parametrize("fleet", [(10, "client"), (10, "anchor")], indirect=True, ids=["client", "anchor"])
def test_honest_pairs_talk_on_whatever_a_member_does(fleet: Fleet) -> None:
    """One behaviour after the other, each for ten seconds."""
    for behaviour in OTHERS:
        suffer(fleet, behaviour, 10)


@pytest.mark.parametrize("fleet", [(10, "relay")], indirect=True, ids=["relay"])
@pytest.mark.parametrize("behaviour", DROPS)
def test_c8_honest_pairs_leave_a_relay_that_does_not_pass_on_what_it_gets(
    fleet: Fleet, behaviour: str
) -> None:
    """It is on the path of two, and then it is not."""
    path = fleet.mesh["near"].path("beside")
    assert path is not None and "m" in path
    suffer(fleet, behaviour, 10)
    path = fleet.mesh["near"].path("beside")
    assert path is not None and "m" not in path


@pytest.mark.parametrize("fleet", [(10, "relay")], indirect=True, ids=["relay"])
def test_c8_a_relay_that_drops_again_after_a_pause_is_left_again(fleet: Fleet) -> None:
    """One end still blames it, the other does not: they do not look for each other in turns."""
    suffer(fleet, "drops everything", 20, "near")
    fleet.hostile.begin("drops everything", "near")
    fleet.talk(20)
    assert fleet.failed == []


@pytest.mark.soak
@pytest.mark.parametrize("fleet", [(size, role) for size in (10, 50) for role in ROLES], indirect=True)
@pytest.mark.parametrize("against", ["near", "far"])
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_a_minute_of_each_from_each_place(fleet: Fleet, behaviour: str, against: str) -> None:
    """Alone, against a node near or far; and what this process holds does not grow with time."""
    if BEHAVIOURS[behaviour].relays and fleet.mesh["m"].enrolled.certificate.body.roles == ("client",):
        pytest.skip("a client carries no frames of others")
    suffer(fleet, behaviour, 20, against)
    gc.collect()
    before = sys.getallocatedblocks()
    suffer(fleet, behaviour, 40, against)
    gc.collect()
    assert sys.getallocatedblocks() < 1.05 * before
