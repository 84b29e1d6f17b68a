# SPDX-License-Identifier: MIT
"""Ten members behind one relay whose link to the rest is slow: what one of them takes of the others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.internet.task import LoopingCall

from gmesh.endtoend.datagrams import Delivered
from gmesh.testing.mesh import MemoryMesh
from gmesh.testing.transport import Wire
from gmesh.wire.frames import Kind
from gmesh.wire.paths import PathHeader, pack_path_frame

MEMBERS = tuple(f"m{number}" for number in range(10))
RATE = 1_000_000
"""Bytes a second of the shared link: 8 Mbit/s."""
MESSAGE = 4000
WINDOW = 8
SECONDS = 4.0
FLOWS = 250


class Sender:
    """Keeps a few acknowledged messages under way from one member to the sink behind the relay."""

    def __init__(self, mesh: MemoryMesh, name: str) -> None:
        self.mesh, self.name = mesh, name
        self.trips: list[float] = []
        self.running = True
        self.datagrams = mesh[name].runtime.datagrams
        for _ in range(WINDOW):
            self.go_on()

    def go_on(self) -> None:
        """Send one, and the next when it is acknowledged or given up."""
        began = self.mesh.clock.seconds()

        def done(result: object) -> None:
            if isinstance(result, Delivered):
                self.trips.append(self.mesh.clock.seconds() - began)
            if self.running:
                self.mesh.clock.callLater(0.01, self.go_on)

        self.datagrams.send("sink", "log", bytes(MESSAGE), timeout=60.0).addBoth(done)

    @property
    def p99(self) -> float:
        """Seconds to the acknowledgement, of all but the slowest hundredth."""
        return sorted(self.trips)[int(len(self.trips) * 0.99)]


@pytest.fixture
def mesh() -> Iterator[MemoryMesh]:
    """The relays r and sink, a slow link between them, ten clients at r."""
    made = MemoryMesh(3, wire=Wire(capacity=16 * 1024, chunked=False))
    made.add("r", "relay")
    made.add("sink", "relay", peers=("r",))
    for name in MEMBERS:
        made.add(name, "client", peers=("r",))
    made.start()
    made.run_until(lambda: all(made[name].reaches("sink", *MEMBERS) for name in MEMBERS))
    made.run(5)
    made["sink"].runtime.datagrams.register("log", lambda message: None, concurrent=1000)
    for name in MEMBERS:  # each measures its round trip while nothing waits
        made.result(made[name].runtime.datagrams.send("sink", "log", b"first"))
    made.slow("r", "sink", RATE)
    yield made
    made.stop()


def measured(mesh: MemoryMesh, names: tuple[str, ...]) -> dict[str, Sender]:
    """What these got through, side by side, after a while to settle."""
    senders = {name: Sender(mesh, name) for name in names}
    mesh.run(2)
    for each in senders.values():
        each.trips.clear()
    mesh.run(SECONDS)
    for each in senders.values():
        each.running = False
    return senders


def flood(mesh: MemoryMesh, destinations: list[bytes]) -> LoopingCall:
    """Four times what the shared link carries, from m0 and in turn to each of these, behind the sink."""
    way = tuple(mesh[name].handle for name in ("m0", "r", "sink"))
    flows = [(*way, each) for each in destinations]
    link, sent = mesh["m0"].link("r"), 0

    def burst() -> None:
        nonlocal sent
        for _ in range(10):
            path = flows[sent % len(flows)]
            sent += 1
            link.send_data(
                pack_path_frame(Kind.E2E_DATA, PathHeader(path, 7, sent), bytes(4000)), path[0] + path[-1]
            )

    attack = LoopingCall(burst)
    attack.clock = mesh.clock
    attack.start(0.01)
    return attack


@pytest.mark.parametrize("whom", ["nobody", "members"])
def test_c6_a_member_with_many_flows_takes_its_own_share_only(mesh: MemoryMesh, whom: str) -> None:
    """Of ten members one floods: each other keeps 80 % of a tenth, and waits at most three times as long."""
    fair = measured(mesh, MEMBERS)
    mesh.run(5)
    made_up = [b"made" + number.to_bytes(4, "big") for number in range(FLOWS)]
    attack = flood(mesh, made_up if whom == "nobody" else [mesh[name].handle for name in MEMBERS[1:]])
    others = measured(mesh, MEMBERS[1:])
    attack.stop()
    share = RATE / len(MEMBERS)
    for name, each in others.items():
        before = min(share, len(fair[name].trips) * MESSAGE / SECONDS)
        assert len(each.trips) * MESSAGE / SECONDS >= 0.8 * before, name
        assert each.p99 <= 3 * fair[name].p99, name
    assert sum(len(each.trips) for each in fair.values()) * MESSAGE / SECONDS >= 0.8 * RATE
    counted = mesh["r"].runtime.counters()
    assert counted["forward-unknown-destination" if whom == "nobody" else "data-waited-long"] > 0
