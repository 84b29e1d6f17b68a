# SPDX-License-Identifier: MIT
"""A daemon that says what a test has it say: the documented bytes, and others."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

PATIENCE = 300.0
"""Seconds after which something is taken to never happen."""
PEER = {"name": "pump-07", "node_id": "07" * 16, "roles": ["client", "service:web"], "serial": 7}
HOST = {"name": "desk", "node_id": "de" * 16, "roles": ["client"], "serial": 3}


def fields(**described: dict[str, Any]) -> str:
    """The header fields that describe nodes."""
    return "".join(f"Gmesh-{name.title()}: {json.dumps(value)}\r\n" for name, value in described.items())


UPGRADED = (
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: gmesh-stream\r\n"
    f"{fields(peer=PEER, host=HOST)}\r\n"
).encode()
WAITS = f"HTTP/1.1 100 Continue\r\n{fields(host=HOST)}\r\n".encode()


def problem(status: int, slug: str, detail: str) -> bytes:
    """A refusal."""
    body = json.dumps({"type": f"urn:gmesh:problem:{slug}", "detail": detail, "status": status})
    kind = "Content-Type: application/problem+json"
    return f"HTTP/1.1 {status} Refused\r\n{kind}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


class Told:
    """Wakes who waits for something to hold, at each thing that happens."""

    def __init__(self) -> None:
        self._waiting: list[Deferred[None]] = []

    def tell(self) -> None:
        """Something happened."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            reactor.callLater(0, each.callback, None)

    async def until(self, holds: Callable[[], Any]) -> None:
        """Wait until it does."""
        while not holds():
            each: Deferred[None] = Deferred()
            self._waiting.append(each)
            await each.addTimeout(PATIENCE, reactor)


class Seat(Protocol):
    """The daemon's end of one connection."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.received = b""
        self.closed = False

    @property
    def head(self) -> list[str]:
        """The lines of the request, once all are there."""
        head, end, _ = self.received.partition(b"\r\n\r\n")
        return head.decode().split("\r\n") if end else []

    @property
    def body(self) -> bytes:
        """What the program has sent behind its request."""
        return self.received.partition(b"\r\n\r\n")[2]

    def say(self, *octets: bytes) -> None:
        """Send."""
        assert self.transport is not None
        self.transport.write(b"".join(octets))

    def close(self) -> None:
        """As the daemon does, or the kernel when it is killed."""
        assert self.transport is not None
        self.transport.loseConnection()

    def pause(self) -> None:
        """Read nothing, as a daemon does whose far end has no room."""
        assert self.transport is not None
        self.transport.pauseProducing()

    def resume(self) -> None:
        """Read again."""
        assert self.transport is not None
        self.transport.resumeProducing()

    def connectionMade(self) -> None:
        self.told.tell()

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.told.tell()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed = True
        self.told.tell()


class FakeDaemon(Told):
    """
    @ivar path: of its socket.
    @ivar seats: the connections, in their order.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.seats: list[Seat] = []
        self._port: Any = None

    def _seat(self) -> Seat:
        self.seats.append(Seat(self))
        return self.seats[-1]

    async def start(self) -> None:
        """Listen."""
        self._port = await UNIXServerEndpoint(reactor, self.path).listen(Factory.forProtocol(self._seat))

    async def asked(self, number: int = 0) -> Seat:
        """The connection with this number, once its request is there."""
        await self.until(lambda: len(self.seats) > number and self.seats[number].head)
        return self.seats[number]

    async def stop(self) -> None:
        """As if it were killed."""
        if self._port is not None:
            await self._port.stopListening()
            self._port = None
        for seat in self.seats:
            if not seat.closed and seat.transport is not None:
                seat.transport.abortConnection()
        await self.until(lambda: all(seat.closed for seat in self.seats))
