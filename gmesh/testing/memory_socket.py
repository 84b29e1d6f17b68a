# SPDX-License-Identifier: MIT
"""
The socket of a node in memory: programs of a test have there what those on a host have.

What answers is what the daemon has: L{gmesh.node.api.entrance}, and behind it the frames of messages and
of streams.  Requests of HTTP are not answered.  Tests: C{tests/testing/test_memory_clients.py}.
"""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IProtocol, IReactorTime, IStreamClientEndpoint
from twisted.web.resource import Resource
from zope.interface import implementer

from gmesh.client.mesh import Mesh
from gmesh.node.api.acceptors import Acceptors
from gmesh.node.api.access import AccessControl, ServiceGroups
from gmesh.node.api.entrance import EntranceFactory
from gmesh.node.api.http import local_site
from gmesh.node.api.mesh_tables import Followers, leg_node
from gmesh.node.api.stream_requests import StreamRequests
from gmesh.node.runtime import NodeRuntime
from gmesh.streams.peer_address import address_of
from gmesh.testing.network import MemoryNetwork
from gmesh.testing.transport import Wire

__all__ = ["MemorySocket"]

HOST, PORT = "127.0.0.1", 1
SOCKET = Wire(delay=0.00001, chunked=False)
"""What a unix socket is like."""


@implementer(IStreamClientEndpoint)
class MemorySocket:
    """
    Where a node listens for the programs of its host, while it runs.

    @param name: of the node.
    """

    def __init__(self, clock: IReactorTime, name: str) -> None:
        self._clock = clock
        self._name = name
        self._network = MemoryNetwork(clock, Random(0), SOCKET)
        self._port: IListeningPort | None = None
        self._acceptors: Acceptors | None = None
        self._clients: list[Mesh] = []

    def __str__(self) -> str:
        return f"the socket of {self._name}"

    def connect(self, protocolFactory: Any) -> Deferred[IProtocol]:
        """As a program connects."""
        return self._network.client(f"{HOST}:{PORT}").connect(protocolFactory)

    def client(self) -> Mesh:
        """A program on this host: it may start before the node, and outlives it."""
        mesh = Mesh(self, self._clock)
        self._clients.append(mesh)
        return mesh

    def listen(self, runtime: NodeRuntime) -> None:
        """The node runs."""
        access = AccessControl()
        acceptors = self._acceptors = Acceptors(runtime.streams, access, ServiceGroups(), self._clock)
        requests = StreamRequests(
            runtime.streams,
            acceptors,
            access,
            lambda service: address_of(runtime.member.peer, service),
            self._clock,
        )
        node = leg_node(runtime, Followers(runtime, self._clock).follow)
        requests.node = lambda: node
        entrance = EntranceFactory(local_site(Resource(), access), requests.judge, self._clock)
        server = self._network.server(f"{HOST}:{PORT}")
        server.listen(entrance).addCallback(lambda port: setattr(self, "_port", port))

    def close(self) -> None:
        """The node ends, and every connection with it."""
        port, self._port = self._port, None
        if port is not None:
            port.stopListening()
        for connection in self._network.open_connections():
            connection.cut()
        if self._acceptors is not None:
            self._acceptors.stop()

    def end(self) -> None:
        """The programs end."""
        clients, self._clients = self._clients, []
        for mesh in clients:
            mesh.close()
