# SPDX-License-Identifier: MIT
"""Streams through three hops whose links are cut, whose relays die or fall silent, and that lose frames."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from streams.transfers import Transfer, forget_records

from gmesh.endtoend.limits import MAX_BATCH_WINDOW
from gmesh.streams import limits
from gmesh.testing.mesh import MemoryMesh
from gmesh.testing.transport import Wire
from gmesh.wire.frames import Kind

MIB = 1024 * 1024
RATE = 2_500_000
"""Bytes a second of each link: 20 Mbit/s."""
RELAYS = ("r1", "r2", "s1", "s2")
LINKS = [
    ("a", "r1"),
    ("a", "s1"),
    ("r1", "r2"),
    ("s1", "s2"),
    ("r1", "s2"),
    ("s1", "r2"),
    ("r2", "d"),
    ("s2", "d"),
]
SIZES = [
    4 * MIB,
    pytest.param(10 * MIB, marks=pytest.mark.soak),
    pytest.param(100 * MIB, marks=pytest.mark.soak),
]


@pytest.fixture
def mesh() -> Iterator[MemoryMesh]:
    """Three hops from a to d, with two relays to choose from at each."""
    made = MemoryMesh(18, wire=Wire(delay=0.005, rate=RATE, chunked=False))
    made.add("r1", "relay")
    made.add("s1", "relay")
    made.add("r2", "relay", peers=("r1", "s1"))
    made.add("s2", "relay", peers=("r1", "s1"))
    made.add("a", "client", peers=("r1", "s1"))
    made.add("d", "client", peers=("r2", "s2"))
    made.start()
    made.run_until(lambda: made["a"].reaches("d") and made["d"].reaches("a"))
    made.run(3)
    yield made
    made.stop()


def relay_of(mesh: MemoryMesh, hop: int = 1) -> str:
    """The relay that frames from a to d pass now."""
    path = mesh["a"].path("d")
    assert path is not None
    return path[hop]


def held(mesh: MemoryMesh) -> int:
    """Bytes that wait at the node that holds most."""
    return max(sum(link.backlog for link in node.runtime.links()) for node in mesh if node._port is not None)


def finish(mesh: MemoryMesh, transfer: Transfer, within: float = 900.0) -> None:
    """To the end, with the memory of every node looked at on the way."""
    sends, credit = (
        getattr(mesh[name].runtime.streams, what) for name, what in (("a", "sends"), ("d", "credit"))
    )
    for _ in range(int(within)):
        if transfer.done:
            break
        mesh.run(1)
        forget_records(mesh)
        assert held(mesh) <= 2 * MAX_BATCH_WINDOW
        assert sends.used <= limits.NODE_UNACKNOWLEDGED
        assert credit.used <= limits.NODE_CREDIT
    assert transfer.whole, (transfer.sink.got, transfer.sink.intact, transfer.source.lost, transfer.sink.lost)


@pytest.mark.parametrize("size", SIZES)
def test_while_links_are_cut(mesh: MemoryMesh, size: int) -> None:
    """One after the other, and dialled again: every byte arrives, in order."""
    random, transfer = Random(1), Transfer(mesh, "a", "d", size)
    until = mesh.now() + 10

    def cut() -> None:
        if not transfer.done and mesh.now() < until:
            mesh.cut(*random.choice(LINKS))
            mesh.clock.callLater(random.uniform(0.05, 0.5), cut)

    mesh.clock.callLater(0.05, cut)
    finish(mesh, transfer)
    assert mesh["a"].runtime.streams.counters["segments-resent"] > 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("silently", [False, True])
def test_while_relays_die(mesh: MemoryMesh, size: int, silently: bool) -> None:
    """And come back later, one at a time, with or without their hosts telling."""
    transfer, random = Transfer(mesh, "a", "d", size), Random(2)

    def die() -> None:
        if not transfer.done:
            name = random.choice(RELAYS)
            mesh[name].kill(silently)
            mesh.clock.callLater(3.0, mesh[name].restart)
            mesh.clock.callLater(random.uniform(20.0, 30.0), die)

    mesh.clock.callLater(0.1, die)
    finish(mesh, transfer)


@pytest.mark.parametrize("size", SIZES)
def test_while_relays_fall_silent(mesh: MemoryMesh, size: int) -> None:
    """Nothing of what they are given goes anywhere for a while, and nobody is told."""
    transfer, random = Transfer(mesh, "a", "d", size), Random(3)

    def silence() -> None:
        if not transfer.done:
            one, other = random.choice(LINKS)
            mesh.silence(one, other)
            mesh.clock.callLater(5.0, mesh.heal)
            mesh.clock.callLater(random.uniform(20.0, 30.0), silence)

    mesh.clock.callLater(0.1, silence)
    finish(mesh, transfer)


def hand(mesh: MemoryMesh, name: str, share: float, seed: int) -> None:
    """A relay that drops, copies and holds back that share of what it passes on, of each."""
    random, again = Random(seed), set()

    def tamper(kind: int, frame: bytes, to: str) -> bytes | None:
        if kind != Kind.E2E_DATA or frame in again:
            again.discard(frame)
            return frame
        dice = random.random()
        if dice < share:
            return None
        if dice < 3 * share:
            mesh.clock.callLater(random.uniform(0.001, 0.1), late, frame, to)
            return frame if dice < 2 * share else None
        return frame

    def late(frame: bytes, to: str) -> None:
        if to in mesh[name].link_names:
            again.add(frame)
            mesh[name].link(to).send_data(frame, frame[7:15] * 2)

    mesh[name].tampers = tamper


@pytest.mark.parametrize(
    ("size", "share"),
    [
        (4 * MIB, 0.01),
        pytest.param(10 * MIB, 0.05, marks=pytest.mark.soak),
        pytest.param(100 * MIB, 0.01, marks=pytest.mark.soak),
    ],
)
def test_while_frames_are_dropped_copied_and_reordered(mesh: MemoryMesh, size: int, share: float) -> None:
    """By every relay there is."""
    for seed, name in enumerate(RELAYS):
        hand(mesh, name, share, seed)
    transfer = Transfer(mesh, "a", "d", size)
    finish(mesh, transfer)
    assert mesh["a"].runtime.streams.counters["segments-resent"] > 0


def test_a_relay_that_dies_stalls_a_stream_for_half_a_second_at_most(mesh: MemoryMesh) -> None:
    """Its host says so, and the other path is there."""
    transfer = Transfer(mesh, "a", "d", 1000 * MIB)
    mesh.run(2)
    for hop in (1, 2):
        mesh[relay_of(mesh, hop)].kill()
        assert transfer.stalled(3) <= 0.5
        assert transfer.sink.intact
    transfer.source.transport.abortConnection()
    mesh.run(1)


@pytest.mark.parametrize("hop", [1, 2])
def test_a_relay_that_falls_silent_stalls_a_stream_for_two_seconds_at_most(
    mesh: MemoryMesh, hop: int
) -> None:
    """Nobody says so: what is not acknowledged has to."""
    transfer = Transfer(mesh, "a", "d", 1000 * MIB)
    mesh.run(2)
    mesh[relay_of(mesh, hop)].kill(silently=True)
    assert transfer.stalled(10) <= 2.0
    assert transfer.sink.intact
    transfer.source.transport.abortConnection()
    mesh.run(1)
