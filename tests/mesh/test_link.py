# SPDX-License-Identifier: MIT
"""A link from handshake to its end, on a clock, over in-memory transports."""

from __future__ import annotations

import pytest
from mesh.linkworld import World

from gmesh.testing.transport import Wire
from gmesh.wire.frames import Kind, pack_frame
from gmesh.wire.messages import CloseReason


@pytest.fixture
def world():
    world = World()
    yield world
    world.finish()


def test_a_link_comes_up_at_both_ends(world):
    """One dial, one handshake, one link, told once to everybody at both ends."""
    one, two = world.pair()
    assert one.recorder.events == [("up", "two")]
    assert two.recorder.events == [("up", "one")]
    assert one.link(two).initiator and not two.link(one).initiator
    assert one.link(two).handshake_hash == two.link(one).handshake_hash
    assert one.link(two).hello == two.link(one).own_hello
    assert one.link(two).rtt == pytest.approx(0.002, abs=0.02)


def test_frames_arrive_in_order_and_once(world):
    """What is sent in one turn arrives, in order, whatever the transport does to the bytes."""
    one, two = world.pair()
    bodies = [world.random.randbytes(world.random.randint(1, 9000)) for _ in range(200)]
    for body in bodies:
        one.link(two).send_control(16, body) if len(body) % 2 else None
    world.run(1)
    assert [body for _, _, body in two.recorder.frames] == [body for body in bodies if len(body) % 2]


def test_one_write_a_turn():
    """Everything sent in a turn, control and data, leaves in one transport write."""
    world = World(wire=Wire(chunked=False))
    one, two = world.pair()
    world.run(6)
    end = world.network.connections[0].client
    before = end.writes
    for _ in range(20):
        one.link(two).send_data(pack_frame(Kind.E2E_DATA, bytes(100)), b"f" * 16)
        one.link(two).send_control(16, b"x")
    world.clock.advance(0)
    assert end.writes == before + 1
    world.run(0.1)
    kinds = [kind for _, kind, _ in two.recorder.frames]
    assert kinds == [16] * 20 + [66] * 20
    world.finish()


def test_close_is_told_with_its_reason(world):
    """The end that is closed hears the reason, and both tell their listeners the same one."""
    one, two = world.pair()
    one.link(two).send_control(16, b"last words")
    one.link(two).close(CloseReason.SHUTDOWN)
    world.run(1)
    assert two.recorder.frames == [("one", 16, b"last words")]
    assert one.recorder.events[-1] == ("down", "two", "shutdown")
    assert two.recorder.events[-1] == ("down", "one", "shutdown")
    assert world.network.open_connections() == []
