# SPDX-License-Identifier: MIT
"""The same links over everything that carries them: plain TCP, TLS, a WebSocket in TLS."""

from __future__ import annotations

import socket

import pytest
import pytest_twisted
from mesh.sockets_world import Authority, RealWorld, bulk, tcp, until
from twisted.internet import reactor

from gmesh.mesh.carriers import Carriers
from gmesh.mesh.limits import AHEAD_MOST
from gmesh.mesh.sockets import lowest
from gmesh.mesh.tls import TlsTrust
from gmesh.wire.messages import CloseReason

# Twisted's own calls.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
KINDS = ["tcp", "tls", "wss"]


@pytest_twisted.async_yield_fixture
async def world():
    world = RealWorld()
    yield world
    await world.finish()


@pytest.fixture
def made(world, tmp_path):
    """Makes node one dial node two over a kind of carrier, and gives both."""
    authority = Authority(tmp_path)

    async def make(kind):
        one, two = world.node("one"), world.node("two")
        served, _ = authority.endpoint("localhost")
        served = {"tcp": "tcp:0:interface=127.0.0.1", "tls": served, "wss": f"ws:{served}"}[kind]
        host = await world.listen(two, tcp(served))
        address = f"{kind}://localhost:{host.port}" + ("/any/path" if kind == "wss" else "")
        one.dialler._dials._connect = Carriers(
            reactor, lambda: TlsTrust(str(authority.file), strict=True)
        ).endpoint
        one.dialler.set_targets([address])
        one.dialler.start()
        await until(lambda: one.link(two) and two.link(one))
        return one, two

    return make


@pytest.mark.parametrize("kind", KINDS)
async def test_a_link(world, made, kind):
    """Its socket is set, it is saturated, measured, and cut by a revocation at both ends."""
    one, two = await made(kind)
    for node, other in ((one, two), (two, one)):
        transport = lowest(node.link(other)._transport.transport)
        assert transport.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert transport.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 16384
        assert transport.SEND_LIMIT > AHEAD_MOST
        assert node.link(other).over == kind
    await bulk(world, one, two)
    await until(lambda: one.link(two).rtt is not None)
    link = one.link(two)
    one.trust.offer(world.issuer.revoke(two.enrolled), world.wall())
    assert one.link(two) is None and link.over == ""
    await until(lambda: two.link(one) is None)
    assert two.recorder.events[-1] == ("down", "one", "revoked")


@pytest.mark.parametrize("kind", KINDS)
async def test_bulk_in_the_other_direction(world, made, kind):
    """From the end that was dialled: a WebSocket masks one direction alone."""
    one, two = await made(kind)
    await bulk(world, two, one, 100)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_link_that_is_closed_says_why(made, kind):
    """What is queued and CLOSE arrive; then nothing is left open on either side."""
    one, two = await made(kind)
    one.link(two).send_control(16, b"last words")
    one.link(two).close(CloseReason.SHUTDOWN)
    await until(lambda: not one.neighbours.sessions and not two.neighbours.sessions)
    assert two.recorder.frames[-1][2] == b"last words"
    assert ("down", "one", "shutdown") in two.recorder.events


@pytest.mark.parametrize("kind", KINDS)
async def test_who_floods_is_not_read(made, kind):
    """To pause a link pauses the socket below: what the other end sends waits there."""
    one, two = await made(kind)
    two.link(one)._transport.pauseProducing()
    assert lowest(two.link(one)._transport.transport) not in reactor.getReaders()
    two.link(one)._transport.resumeProducing()
    assert lowest(two.link(one)._transport.transport) in reactor.getReaders()
