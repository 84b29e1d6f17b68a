# SPDX-License-Identifier: MIT
"""What a link carries while its session is renewed or replaced: everything, once."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from mesh.linkworld import World

from gmesh.testing.transport import Wire
from gmesh.trust.keys import NoiseKey
from gmesh.wire.frames import Kind, pack_frame

INTERVAL = 0.001
SLOW = Wire(delay=0.03, rate=2_000_000)
FLOW = b"f" * 16


class Load:
    """Numbered data and control frames both ways, as fast as the wire can just carry them."""

    def __init__(self, world, one, two):
        self.world = world
        self.ways = [(one, two), (two, one)]
        self.sent = {one.name: 0, two.name: 0}
        self.running = True
        self._send()

    def _send(self):
        if not self.running:
            return
        for source, target in self.ways:
            number = self.sent[source.name]
            body = struct.pack(">Q", number) + bytes(self.world.random.randrange(1400))
            link = source.link(target)
            if number % 5:
                assert link.send_data(pack_frame(Kind.E2E_DATA, body), FLOW)
            else:
                link.send_control(16, body)
            self.sent[source.name] += 1
        self.world.clock.callLater(INTERVAL, self._send)

    def stop(self):
        """Let everything arrive, and show that it did."""
        self.running = False
        self.world.run(10)
        for source, target in self.ways:
            got = [struct.unpack(">Q", body[:8])[0] for _, _, body in target.recorder.frames]
            assert sorted(got) == list(range(self.sent[source.name]))


@pytest.fixture
def world():
    world = World(wire=SLOW)
    yield world
    world.finish()


def linked(world):
    one, two = world.pair()
    world.run(1)
    return one, two


def test_a_renewed_certificate_loses_no_frame(world):
    """The same keys under a newer certificate, in the middle of a load both ways."""
    one, two = linked(world)
    load = Load(world, one, two)
    world.run(1)
    for other, node in ((one, two), (two, one)):
        node.enrolled = world.issuer.renew(node.enrolled)
        node.certificate = node.enrolled.certificate
        assert other.neighbours.refresh(node.certificate)
    world.run(1)
    load.stop()
    assert len(world.network.connections) == 1
    assert one.link(two).peer.serial == two.certificate.body.serial
    assert load.sent["one"] > 1900


@pytest.mark.parametrize("seed", range(8))
def test_a_new_noise_key_loses_no_frame(seed):
    """The session is made anew and takes over; what is under way in the old one still arrives."""
    world = World(seed, wire=SLOW)
    one, two = linked(world)
    load = Load(world, one, two)
    world.run(0.5 + world.random.random() / 10)
    body = one.certificate.body
    key = NoiseKey.from_private(world.random.randbytes(32))
    one.certificate = world.issuer.certify(one.enrolled.node_key, key, "one", body.roles)
    one.enrolled = replace(one.enrolled, noise_key=key, certificate=one.certificate)
    old = one.link(two)
    one.dial(two)
    world.run(1)
    assert one.link(two) is not old
    assert two.link(one).peer.serial == one.certificate.body.serial
    load.stop()
    assert len(world.network.open_connections()) == 1
    world.finish()


def test_two_new_sessions_in_a_row_lose_no_frame(world):
    """What the oldest session still carries when the second gives way too goes to the third."""
    one, two = linked(world)
    numbers = range(100)
    for link in (one.link(two), two.link(one)):
        for number in numbers:
            assert link.send_data(pack_frame(Kind.E2E_DATA, struct.pack(">Q", number) + bytes(1000)), FLOW)
    world.network.connections[0].set_rate(40_000)
    for _ in range(2):
        old = one.link(two)
        one.dial(two)
        world.run(0.5)
        assert one.link(two) not in (None, old)
    assert len(two.recorder.frames) < 50
    world.run(5)
    for node in (one, two):
        assert [struct.unpack(">Q", body[:8])[0] for _, _, body in node.recorder.frames] == list(numbers)
    assert len(world.network.open_connections()) == 1
