# SPDX-License-Identifier: MIT
"""Programs that use the endpoints, and two nodes whose local APIs listen: one more kind of connection."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from node.api.stream_programs import LocalNodes
from streams.rigs import SERVICE
from twisted.internet import reactor
from twisted.internet.protocol import Protocol

from gmesh.client import MeshClientEndpoint, MeshServerEndpoint


class ProgramRig(LocalNodes):
    """A program at node a dials one at node b."""

    def __init__(self) -> None:
        self._directory = TemporaryDirectory()
        super().__init__(Path(self._directory.name))

    def server(self, clock: object = reactor) -> MeshServerEndpoint:
        """The service of node b."""
        return MeshServerEndpoint(clock, SERVICE, self.path(self.b))

    def client(self, clock: object = reactor) -> MeshClientEndpoint:
        """The way from node a to it."""
        return MeshClientEndpoint(clock, "b", SERVICE, self.path(self.a))

    async def connect(self, near: Protocol, far: Protocol) -> None:
        await self.start()
        await self.join(self.server(), lambda _: self.client(), near, far)

    async def close(self) -> None:
        await super().close()
        self._directory.cleanup()
