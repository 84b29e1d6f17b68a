# SPDX-License-Identifier: MIT
"""What a neighbour may make us do by control frames, of whatever kind, and who has to wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, pairwise
from typing import Any

import pytest
from mesh.control_frames import CONTROL, IDLE, bodies, grow
from twisted.internet.task import Clock, LoopingCall

from gmesh.mesh.control_budget import ControlBudgets
from gmesh.mesh.limits import CONTROL_BURST, CONTROL_PATIENCE, CONTROL_RATE, CONTROL_TURN
from gmesh.testing.mesh import MemoryMesh
from gmesh.wire.frames import Kind, pack_frame
from gmesh.wire.messages import Ping, Pong

ENDS = {Kind.HELLO, Kind.REKEY, Kind.CLOSE, Kind.COMMAND}
"""Kinds of which a second one, or as many as are sent here, end the link."""
COST = 0.0005
"""Seconds that each frame costs where this is counted."""
SECONDS = 5.0


@pytest.fixture
def mesh() -> Iterator[MemoryMesh]:
    """The relay r with two clients: m, which floods, and o; each frame that is handled costs the same."""
    made = MemoryMesh(4)
    ticks = count()
    made.cpu = lambda: COST * next(ticks)
    yield grow(made)
    made.stop()


def flood(mesh: MemoryMesh, send: Callable[[Any], object], rate: int = 4000) -> LoopingCall:
    """From now on m does this to its link, as often as the link takes it."""

    def burst() -> None:
        for link in mesh["m"].runtime.links():
            for _ in range(rate // 100):
                if link.control_backlog < 128 * 1024:
                    send(link)

    attack = LoopingCall(burst)
    attack.clock = mesh.clock
    attack.start(0.01)
    return attack


def rekey(link: Any) -> None:
    """New keys out of turn."""
    link._transport.send_record(pack_frame(Kind.REKEY))
    link._transport.rekey_outbound()


def spent(mesh: MemoryMesh) -> float:
    """What the relay has spent on control frames of m."""
    return mesh["r"].runtime.budgets.spent(mesh["m"].handle)


def test_c11_every_kind_of_control_frame_is_flooded_here(mesh: MemoryMesh) -> None:
    """A new kind of control frame needs a body here, and so its row below."""
    assert set(bodies(mesh)) == set(CONTROL)


@pytest.mark.parametrize("kind", CONTROL)
def test_c11_a_flood_costs_a_neighbour_so_much_and_no_more(mesh: MemoryMesh, kind: Kind) -> None:
    """Twice a whole processor of each kind: the relay spends its budget, and another link goes on as ever."""
    received: list[bytes] = []
    mesh["r"].runtime.datagrams.register("log", lambda message: received.append(message.data))
    mesh.result(mesh["o"].runtime.datagrams.send("r", "log", b"first"))
    body, before = bodies(mesh)[kind], spent(mesh)
    attack = flood(mesh, rekey if kind is Kind.REKEY else lambda link: link.send_control(kind, body))
    trips = []
    for _ in range(int(SECONDS)):
        mesh.run(1)
        trips.append(mesh.result(mesh["o"].runtime.datagrams.send("r", "log", b"x")).rtt)
    attack.stop()
    assert spent(mesh) - before <= 2 * CONTROL_BURST + CONTROL_RATE * SECONDS + 2 * CONTROL_TURN
    assert max(trips) <= 0.01 and len(received) == 1 + len(trips)
    assert not mesh["r"].link("o").suspect
    counters = mesh["r"].runtime.counters()
    if kind not in ENDS | IDLE:
        assert spent(mesh) - before >= CONTROL_BURST and counters["control-paused"] > 0


def test_c11_a_link_that_floods_for_long_is_left(mesh: MemoryMesh) -> None:
    """After a minute of pauses it ends with a reason of its own; the next one is left far sooner."""
    seen: list[str] = []
    m = mesh["m"].runtime
    m.neighbours.follow(lambda neighbour, up: seen.append("up" if up else "down"))
    attack = flood(mesh, lambda link: link.send_control(Kind.PONG, Pong(1, 1).encode()), 1000)
    began = mesh.clock.seconds()
    mesh.run_until(lambda: "down" in seen, within=5 * CONTROL_PATIENCE)
    assert mesh.clock.seconds() - began >= CONTROL_PATIENCE / 2
    assert mesh["r"].runtime.counters()["control-flood"] == 1
    mesh.run_until(lambda: seen.count("down") == 2, within=2 * CONTROL_PATIENCE)
    assert mesh["r"].runtime.counters()["control-flood"] == 2
    attack.stop()
    assert mesh["r"].link_names[-1:] == ["o"]


def test_c11_a_full_record_of_control_frames_takes_turns(mesh: MemoryMesh) -> None:
    """Of a thousand frames in one record a turn handles a few; data that is behind them does not wait."""
    link, before = mesh["m"].link("r"), spent(mesh)
    link._transport.send_record(pack_frame(Kind.PING, Ping(1, 1).encode()) * 1000)
    costs = [before]
    for _ in range(10_000):
        mesh.clock.step(mesh.clock.seconds() + 1)
        costs.append(spent(mesh))
        if costs[-1] - before > 1000 * COST:
            break
    assert costs[-1] - before > 1000 * COST
    assert max(later - earlier for earlier, later in pairwise(costs)) <= CONTROL_TURN + 2 * COST


def test_a_host_that_stood_still_within_a_frame_goes_on(
    mesh: MemoryMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual machine that is held for a minute may count it as CPU time: that is no flood."""
    relay, link, stood = mesh["r"].runtime, mesh["m"].link("r"), [0.0]
    mesh.cpu = lambda: stood[0]
    body, heard = bodies(mesh)[Kind.IHAVE], relay._flooding.named

    def held(*arguments: Any) -> None:
        stood[0] += 60.0
        heard(*arguments)

    monkeypatch.setattr(relay._flooding, "named", held)
    link.send_control(Kind.IHAVE, body)
    mesh.run(1)
    monkeypatch.undo()
    assert stood == [60.0] and spent(mesh) <= 2 * CONTROL_BURST
    mesh.run(30)
    assert mesh["m"].link("r") is link and mesh["m"].reaches("o")


def test_a_frame_that_waited_and_breaks_its_receiver_ends_the_link(
    mesh: MemoryMesh, monkeypatch: pytest.MonkeyPatch, flush_logged_errors: Callable[..., list[Any]]
) -> None:
    """As one that did not wait does: the link is not left unread."""
    link, relay, left = mesh["m"].link("r"), mesh["r"].runtime, count(-30)

    def broken(*arguments: object) -> None:
        if next(left) == 0:
            raise ZeroDivisionError

    seen: list[bool] = []
    relay.neighbours.follow(lambda neighbour, up: seen.append(up))
    monkeypatch.setattr(relay._flooding, "named", broken)
    link._transport.send_record(pack_frame(Kind.IHAVE, bodies(mesh)[Kind.IHAVE]) * 100)
    mesh.run(0.5)
    assert seen[:1] == [False] and len(flush_logged_errors(ZeroDivisionError)) == 1
    mesh.run(10)
    assert "r" in mesh["m"].link_names


def test_a_budget_outlives_its_link_and_is_forgotten_once_full() -> None:
    """Whoever comes back has what was left; those of nodes that cost nothing take no room."""
    clock = Clock()
    budgets = ControlBudgets(clock)
    budgets.of(b"hostile.").spend(10.0)
    for number in range(3000):
        budgets.of(number.to_bytes(8, "big"))
    assert budgets.spent(b"hostile.") == 10.0 and len(budgets._budgets) <= 1025
    assert budgets.of(b"hostile.").wait(clock.seconds()) == pytest.approx((10 - CONTROL_BURST) / CONTROL_RATE)
    clock.advance(3600)
    assert budgets.of(b"hostile.").wait(clock.seconds()) == 0
