# SPDX-License-Identifier: MIT
"""
Two nodes, joined in memory, whose local APIs listen on real unix sockets, and programs that use them.

The programs speak the protocol by hand: they are the far end of what is tested.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from streams.rigs import OnReactor
from twisted.internet import reactor
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    connectProtocol,
)
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.client.stream_frames import FrameDecoder, FrameKind, Signal
from gmesh.node.api.acceptors import Acceptors
from gmesh.node.api.access import AccessControl, ServiceGroups
from gmesh.node.api.entrance import EntranceFactory
from gmesh.node.api.http import local_site
from gmesh.node.api.leg_room import LegRoom
from gmesh.node.api.routes import LocalApi
from gmesh.node.api.stream_requests import StreamRequests
from gmesh.testing.memory_streams import MemoryStreams, joined


class Node:
    """Answers the requests of HTTP that are none for a stream."""

    def status(self) -> dict[str, Any]:
        return {"name": "b"}


@implementer(IHalfCloseableProtocol)
class Program(Protocol):
    """
    A connection to a local API.

    @ivar raw: all that was read.
    @ivar ended: the daemon's half is closed.
    """

    transport: Any

    def __init__(self, rig: LocalNodes) -> None:
        self.rig = rig
        self.raw = bytearray()
        self.ended = False
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.raw += data
        self.rig.tell()

    def readConnectionLost(self) -> None:
        self.ended = True
        if 200 not in self.statuses:
            self.transport.loseConnection()  # the daemon has closed, which is the end
        self.rig.tell()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = True
        self.lost = reason
        self.rig.tell()

    @property
    def heads(self) -> list[list[str]]:
        """Lines of each head that came, 100 Continue and its answer."""
        heads = []
        rest = bytes(self.raw)
        while b"\r\n\r\n" in rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            heads.append(head.decode().split("\r\n"))
            if " 100 " not in heads[-1][0]:
                break
        return heads

    @property
    def statuses(self) -> list[int]:
        """Of each head."""
        return [int(head[0].split()[1]) for head in self.heads]

    @property
    def body(self) -> bytes:
        """What came after the answer."""
        rest = bytes(self.raw)
        for _ in self.heads:
            rest = rest.partition(b"\r\n\r\n")[2]
        return rest

    @property
    def problem(self) -> dict[str, Any]:
        """The problem document."""
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def slug(self) -> str:
        """Of that document."""
        return str(self.problem["type"]).rpartition(":")[2]

    def header(self, name: str) -> Any:
        """The JSON in a header of the last head."""
        lines = [line.partition(": ")[2] for line in self.heads[-1] if line.startswith(f"{name}: ")]
        assert len(lines) == 1, self.heads
        return json.loads(lines[0])

    @property
    def frames(self) -> list[bytes | Signal]:
        """What came after 101; what lies between signals is one piece."""
        return FrameDecoder().feed(self.body)

    @property
    def kinds(self) -> list[FrameKind]:
        """Of those frames."""
        return [FrameKind.DATA if isinstance(item, bytes) else item.kind for item in self.frames]

    @property
    def data(self) -> bytes:
        """Of the stream, as far as it came."""
        return b"".join(item for item in self.frames if isinstance(item, bytes))


class LocalNodes(OnReactor):
    """
    Nodes a and b.

    @ivar a: the streams of one.
    @ivar b: of the other.
    @ivar rooms: of the connections of both.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.a, self.b = joined(reactor)
        self.directory = directory
        self.access = AccessControl()
        self.groups = ServiceGroups()
        self.acceptors: dict[str, Acceptors] = {}
        self.rooms: list[LegRoom] = []
        self._ports: dict[str, Any] = {}

    def factory(self, node: MemoryStreams, names: Iterable[str] = ()) -> EntranceFactory:
        """What listens for programs."""
        acceptors = self.acceptors.setdefault(node.name, Acceptors(node, self.access, self.groups, reactor))
        requests = StreamRequests(node, acceptors, self.access, node.address, reactor, names)
        self.rooms.append(requests.room)
        node_api: Any = Node()
        site = local_site(LocalApi(node_api).resource(), self.access, names)
        return EntranceFactory(site, requests.judge, reactor)

    async def start(self) -> None:
        """Listen on the sockets of both."""
        for node in (self.a, self.b):
            path = self.path(node)
            self._ports[path] = await UNIXServerEndpoint(reactor, path).listen(self.factory(node))

    def path(self, node: MemoryStreams) -> str:
        """The socket of this node."""
        return os.fspath(self.directory / f"{node.name}.sock")

    async def program(self, node: MemoryStreams, sent: str | bytes, protocol: Any = None) -> Program:
        """A program that has sent this."""
        program: Program = protocol or Program(self)
        self.keep(program)
        await connectProtocol(UNIXClientEndpoint(reactor, self.path(node)), program)
        program.transport.write(sent if isinstance(sent, bytes) else sent.encode())
        return program

    async def over_tcp(self, node: MemoryStreams, sent: str) -> Program:
        """The same, over a control endpoint that is TCP."""
        server = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port = await server.listen(self.factory(node))
        program = Program(self)
        self.keep(program)
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), program)
        program.transport.write(sent.encode())
        await port.stopListening()
        return program

    async def pair(self, near: str = "", service: str = "web") -> tuple[Program, Program]:
        """A dialling and an accepting program with a stream between them."""
        far = await self.program(self.b, accept(service))
        await self.until(lambda: far.statuses == [100])
        dialling = await self.program(self.a, near or connect("b", service))
        await self.until(lambda: dialling.heads and len(far.heads) == 2)
        return dialling, far

    async def close(self) -> None:
        for node in (self.a, self.b):
            node.break_all("stopped")
        await super().close()
        await self.until(lambda: not self.a.open_streams() and not self.b.open_streams())
        for acceptors in self.acceptors.values():
            acceptors.stop()
        for port in self._ports.values():
            await port.stopListening()


def connect(node: str, service: str = "web", more: str = "") -> str:
    """The head of a request that dials."""
    return upgrade(f"/v1/connect?node={node}&service={service}{more}")


def accept(service: str = "web") -> str:
    """The head of a request that accepts."""
    return upgrade(f"/v1/accept?service={service}")


def upgrade(target: str, *headers: str) -> str:
    """The head of a request for frames."""
    lines = [f"GET {target} HTTP/1.1", "Host: node", "Connection: Upgrade", "Upgrade: gmesh-stream", *headers]
    return "".join(f"{line}\r\n" for line in (*lines, ""))
