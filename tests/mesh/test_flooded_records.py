# SPDX-License-Identifier: MIT
"""An anchor that signs its record anew as fast as links carry it: the flood ends at its first neighbour."""

from __future__ import annotations

from mesh.network_doubles import TestWorld
from mesh.records import records, sign
from twisted.internet.task import LoopingCall

from gmesh.routing.limits import MAX_FRAGMENTS, MAX_RECORD
from gmesh.wire.frames import Kind, pack_frame
from gmesh.wire.messages import Lsa

SECONDS = 120


def test_c12_the_flood_ends_at_the_first_honest_neighbour(world: TestWorld) -> None:
    """All 64 fragments a second: both nodes behind verify and pass on what the long-term rate allows."""
    hostile, a, b = world.add("h", "anchor"), world.add("a"), world.add("b")
    world.connect(hostile, a)
    there, _ = world.connect(a, b)
    world.run(5)
    hostile.withholds = lambda kind, frame: kind == Kind.LSA
    link, before, verified = hostile.links["a"], len(records(there)), world.verified
    first = hostile.engine.sequence
    sent = 0

    def flood() -> None:
        nonlocal sent
        sent += 1
        made = [
            sign(hostile, first + sent, fragment=fragment, capabilities=((200, bytes(sent % 250)),))
            for fragment in range(1, MAX_FRAGMENTS)
        ]
        for start in range(0, len(made), 16):
            frame = pack_frame(Kind.LSA, Lsa(tuple(made[start : start + 16])).encode())
            assert link.other is not None
            world.clock.callLater(0.005, link.other.receive, Kind.LSA, frame)

    attack = LoopingCall(flood)
    attack.clock = world.clock
    attack.start(1.0)
    world.run(SECONDS)
    attack.stop()
    world.run(1)
    most = 1024 + SECONDS / 2 + 10
    passed_on = records(there)[before:]
    assert MAX_FRAGMENTS < len(passed_on) <= most
    assert sum(map(len, passed_on)) <= most * MAX_RECORD
    assert world.verified - verified <= 2 * most
