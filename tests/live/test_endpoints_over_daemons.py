# SPDX-License-Identifier: MIT
"""Programs with the endpoints, over two real nodes that are killed and started again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_twisted
from live.pair import two_nodes
from streams.rigs import HalfCloser, OnReactor, Recorder
from treq.client import HTTPClient
from twisted.application.internet import ClientService
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread

from gmesh.client import DialRefused, MeshClientEndpoint, MeshServerEndpoint, StreamLost, mesh_agent
from gmesh.testing.processes import ProcessMesh, ProcessNode

pytestmark = pytest.mark.live

LARGE = bytes(range(256)) * 40_000
"""10 MB: more than all buffers and the first credit of a stream."""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessMesh]:
    """Two nodes with a link."""
    with two_nodes(tmp_path_factory.mktemp("nodes")) as mesh:
        yield mesh


class Programs(OnReactor):
    """What runs on both hosts."""

    def __init__(self, mesh: ProcessMesh) -> None:
        super().__init__()
        self.mesh = mesh

    def socket(self, name: str) -> str:
        """Of this node."""
        return str(self.mesh[name].state / "node.sock")

    def dialling(self, service: str, node: str = "pump-07", by: str = "desk") -> MeshClientEndpoint:
        """The way to a service."""
        return MeshClientEndpoint(reactor, node, service, self.socket(by))

    async def dial(self, service: str, program: Recorder, **more: str) -> None:
        """Connect it."""
        await connectProtocol(self.dialling(service, **more), program)
        self.keep(program)

    @asynccontextmanager
    async def serving(
        self, service: str, make: Callable[[OnReactor], Recorder] = Recorder, on: str = "pump-07"
    ) -> AsyncIterator[list[Recorder]]:
        """A service, and who serves each of its streams."""
        served: list[Recorder] = []

        def build() -> Recorder:
            served.append(make(self))
            self.keep(served[-1])
            return served[-1]

        endpoint = MeshServerEndpoint(reactor, service, self.socket(on))
        port = await endpoint.listen(Factory.forProtocol(build))
        try:
            yield served
        finally:
            await port.stopListening()

    async def eventually(self, holds: Callable[[], object]) -> None:
        """Ask the daemons until it does, with the reactor running."""
        await deferToThread(self.mesh.wait, holds)

    async def restart(self, name: str, down: Callable[[], Any]) -> None:
        """Kill a daemon, and start it once C{down} is over; both nodes reach each other then."""
        node: ProcessNode = self.mesh[name]
        (other,) = [each for each in self.mesh.nodes.values() if each is not node]
        await deferToThread(node.kill)
        await self.eventually(lambda: not other.reaches(name))
        await down()
        node.start()
        await self.eventually(lambda: self.mesh["desk"].reaches("pump-07"))
        await self.eventually(lambda: self.mesh["pump-07"].reaches("desk"))


async def at_once() -> None:
    """Nothing happens while a daemon is down."""


@pytest_twisted.async_yield_fixture
async def programs(mesh: ProcessMesh) -> AsyncIterator[Programs]:
    """Closed at the end."""
    made = Programs(mesh)
    yield made
    await made.close()


def lost(program: Recorder) -> str:
    """Why it was; never because it ended well."""
    assert program.lost is not None
    assert isinstance(program.lost.value, StreamLost), program.lost
    return program.lost.value.reason


@pytest_twisted.ensureDeferred
async def test_large_things_go_both_ways_at_once(programs: Programs) -> None:
    """Each end ends its half, and has all of the other; the far end is who the authority says."""
    near = HalfCloser(programs)
    async with programs.serving("bulk", HalfCloser) as served:
        await programs.dial("bulk", near)
        await programs.until(lambda: served)
        (far,) = served
        for each, data in ((near, LARGE), (far, LARGE[::-1])):
            each.transport.write(data)
            each.transport.loseWriteConnection()
        await programs.until(lambda: near.lost and far.lost)
    assert (near.data, far.data) == (LARGE[::-1], LARGE)
    assert near.clean
    assert far.clean
    assert str(near.transport.getPeer()) == "pump-07:bulk"
    assert str(near.transport.getHost()) == str(far.transport.getPeer()) == "desk:bulk"


@pytest_twisted.ensureDeferred
async def test_a_node_dials_itself(programs: Programs) -> None:
    near = Recorder(programs)
    async with programs.serving("self", on="desk") as served:
        await programs.dial("self", near, node="desk")
        near.transport.write(b"me")
        near.transport.loseConnection()
        await programs.until(lambda: near.lost and served and served[0].lost)
    assert near.clean
    assert (served[0].data, served[0].clean) == (b"me", True)


@pytest_twisted.ensureDeferred
async def test_a_server_outlives_the_daemon_of_its_host(programs: Programs) -> None:
    """Its streams break, at both ends; it serves again, and nobody has touched it."""
    near, again = Recorder(programs), Recorder(programs)
    async with programs.serving("web") as served:
        await programs.dial("web", near)
        near.transport.write(b"1")
        await programs.until(lambda: served and served[0].data == b"1")
        await programs.restart("pump-07", at_once)
        near.transport.write(b"is anybody there?")  # or the keepalive would find out, after half a minute
        await programs.until(lambda: near.lost and served[0].lost)
        assert lost(near) == "restarted"
        assert lost(served[0]) == "stopped"
        await programs.dial("web", again)
        again.transport.write(b"2")
        await programs.until(lambda: len(served) == 2 and served[1].data == b"2")


@pytest_twisted.ensureDeferred
async def test_a_program_hears_that_its_own_daemon_died(programs: Programs) -> None:
    """Though it had ended its half, and the far program its own: it cannot know that all arrived."""
    near = HalfCloser(programs)
    near.closes = False
    async with programs.serving("web", HalfCloser) as served:
        await programs.dial("web", near)
        await programs.until(lambda: served)
        (far,) = served
        far.transport.loseWriteConnection()
        await programs.until(lambda: "read ended" in near.events)
        near.transport.write(LARGE)
        near.transport.loseWriteConnection()
        await programs.until(lambda: far.data)
        far.transport.pauseProducing()
        await programs.restart("desk", at_once)
        await programs.until(lambda: near.lost)
        assert lost(near) == "stopped"
        assert not far.clean
        assert len(far.data) < len(LARGE)


@pytest_twisted.ensureDeferred
async def test_a_program_may_be_started_before_its_daemon(programs: Programs) -> None:
    """It listens once that is up; a dial says at once that it is not."""
    listening: list[Deferred[Any]] = []

    async def down() -> None:
        endpoint = MeshServerEndpoint(reactor, "early", programs.socket("pump-07"))
        listening.append(endpoint.listen(Factory.forProtocol(lambda: Recorder(programs))))
        with pytest.raises(DialRefused) as refused:
            await connectProtocol(programs.dialling("early", by="pump-07"), Recorder(programs))
        assert refused.value.reason == "no-node"
        assert not listening[0].called

    await programs.restart("pump-07", down)
    port = await listening[0]
    assert str(port.getHost()) == "pump-07:early"
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_clients_of_a_node_that_is_gone_are_told_and_come_back(programs: Programs) -> None:
    """treq fails as over TCP, with the reason; a C{ClientService} is connected again by itself."""
    async with programs.serving("http") as served:
        factory = Factory.forProtocol(lambda: Recorder(programs))
        service = ClientService(programs.dialling("http"), factory, retryPolicy=lambda _: 0.2)
        service.startService()
        client = await service.whenConnected()
        await programs.until(lambda: served)

        async def down() -> None:
            with pytest.raises(ConnectError) as refused:
                await HTTPClient(mesh_agent(reactor, programs.socket("desk"), timeout=5)).get(
                    "http://pump-07/"
                )
            assert isinstance(refused.value, DialRefused)
            assert refused.value.reason in ("no-route", "timed-out")

        await programs.restart("pump-07", down)
        client.transport.write(b"is anybody there?")
        await programs.until(lambda: len(served) >= 2)
        await service.stopService()
        await programs.until(lambda: all(each.lost for each in served))
