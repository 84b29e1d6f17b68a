# SPDX-License-Identifier: MIT
"""
Messages for Twisted programs: sent and served by node name, over one connection to the node of this host.

L{Mesh} connects when it is used first, and again for ever when the daemon goes: services are served again,
and what has a key is sent again.  Tests: C{tests/client/test_mesh.py}.
"""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from gmesh.client.message_frames import (
    FrameType,
    GivenMessage,
    MessageFrame,
    MessageFrameReader,
    SendRequest,
    pack_text,
    read_failed,
)
from gmesh.client.one_shot import connect_once
from gmesh.client.where import find_socket
from gmesh.errors import FrameRefused, GmeshError, SendRefused

__all__ = ["Handler", "Mesh", "Serving"]

_END = b"\r\n\r\n"
_REQUEST = (
    b"GET /v1/messages HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: gmesh-messages\r\n\r\n"
)
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
"""Seconds between two attempts to connect, doubling."""
MARGIN = 2.0
"""Seconds beyond the time allowed after which the node's own answer is not waited for any more."""

Handler = Callable[[GivenMessage], Any]
"""
Deals with a message.  It is acknowledged when what this returns is done, a Deferred or coroutine; bytes that
come of it go back to the sender.  What is raised refuses it: of a L{GmeshError} the sender is told C{detail}.
"""


@dataclass(slots=True, eq=False)
class _Sending:
    frame: MessageFrame
    keyed: bool
    result: Deferred[bytes]
    timer: IDelayedCall | None = None
    under_way: bool = False
    size: int = 0


class Serving:
    """A service that is served until L{stop}. @ivar ready: Deferred that fires once it is, or fails."""

    def __init__(self, mesh: Mesh, tag: int, service: str, handler: Handler, concurrency: int) -> None:
        self._mesh = mesh
        self.tag = tag
        self.service = service
        self.handler = handler
        self.concurrency = concurrency
        self.ready: Deferred[None] = Deferred()

    def stop(self) -> None:
        """Take no more messages."""
        self._mesh.leave(self)

    def frame(self) -> MessageFrame:
        """What asks for it."""
        body = self.concurrency.to_bytes(2, "big") + pack_text(self.service)
        return MessageFrame(FrameType.SERVE, self.tag, body)


class Mesh:
    """
    The mesh, as programs on this host see it.

    @param socket: path of the daemon's socket; where L{find_socket} finds it, if left out.
    @param reactor: the one that runs, if left out.
    """

    _log = Logger()

    def __init__(self, socket: str | None = None, reactor: Any = None) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self._reactor = reactor
        self._path = find_socket(socket)
        self._tags = itertools.count(1)
        self._sending: dict[int, _Sending] = {}
        self._waiting: deque[int] = deque()
        self._serving: dict[int, Serving] = {}
        self._connection: _Connection | None = None
        self._connecting: Deferred[Any] | None = None
        self._again: IDelayedCall | None = None
        self._pause = _FIRST_PAUSE
        self._closed = False
        self._window = self._bytes = 0
        self._flying = self._flying_bytes = 0
        self._told = False

    # what programs call

    def send(
        self, node: str, service: str, data: bytes, timeout: float = 10.0, key: str = ""
    ) -> Deferred[bytes]:
        """
        Send a message to a service of a node.

        @param timeout: seconds in which its receiver must have dealt with it.
        @param key: names the message over several calls; acknowledged once, it is never handed over again.
        @return: Deferred of what the receiver gave back, often nothing; fails with L{SendRefused}.
            Cancelling it stops waiting.
        """
        request = SendRequest(node, service, bytes(data), timeout, key)
        tag = next(self._tags)
        result: Deferred[bytes] = Deferred(lambda _: self._cancel(tag))
        try:
            frame = MessageFrame(FrameType.SEND, tag, request.encode())
        except FrameRefused as refusal:
            result.errback(SendRefused("too-large", refusal.detail))
            return result
        sending = self._begin(tag, _Sending(frame, bool(key), result, size=len(data)))
        sending.timer = self._reactor.callLater(timeout + MARGIN, self._late, tag)
        return result

    request = send
    """A question: its answer is what comes back."""

    def serve(self, service: str, handler: Handler, concurrency: int = 64) -> Serving:
        """
        Have C{handler} deal with the messages to C{service}, also after the daemon was restarted.

        Several programs of one user may serve one service, and share its messages.

        @param concurrency: how many messages it may be busy with.
        """
        serving = Serving(self, next(self._tags), service, handler, concurrency)
        self._serving[serving.tag] = serving
        if self._connection is not None:
            self._connection.write(serving.frame())
        self._connect()
        return serving

    def nodes(self) -> Deferred[list[dict[str, Any]]]:
        """Every node that is known here: C{name}, C{roles}, C{reachable}, C{services} and more."""
        return self._ask("nodes")

    def services(self) -> Deferred[list[dict[str, Any]]]:
        """Every service of the mesh, and the C{nodes} that have it now."""
        return self._ask("services")

    async def send_to(
        self,
        service: str,
        data: bytes,
        *,
        role: str | None = None,
        nodes: Iterable[str] | None = None,
        timeout: float = 10.0,
    ) -> dict[str, bytes | SendRefused]:
        """
        Send a message to C{service} of many nodes at once.

        @param role: of all that have this role and can be reached.
        @param nodes: of these; without both, of all that can be reached and have the service.
        @return: by node what it gave back, or why it was not delivered.
        """
        if nodes is None:
            rows = [row for row in await self.nodes() if row["reachable"]]
            if role is None:
                chosen = [row for row in rows if service in row["services"]]
            else:
                chosen = [row for row in rows if role in row["roles"]]
            nodes = [str(row["name"]) for row in chosen]
        under_way = {node: self.send(node, service, data, timeout) for node in nodes}
        found: dict[str, bytes | SendRefused] = {}
        for node, sent in under_way.items():
            try:
                found[node] = await sent
            except SendRefused as refusal:
                found[node] = refusal
        return found

    def close(self) -> None:
        """End: what is under way fails, services are served no more."""
        self._closed = True
        for tag in list(self._sending):
            self._end(tag, SendRefused("stopped", "the program has closed its connection"))
        self._serving.clear()
        if self._again is not None and self._again.active():
            self._again.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.hang_up()

    # sending

    def _ask(self, what: str) -> Deferred[Any]:
        tag = next(self._tags)
        result: Deferred[bytes] = Deferred(lambda _: self._cancel(tag))
        self._begin(tag, _Sending(MessageFrame(FrameType.ASK, tag, what.encode()), True, result))

        def read(body: bytes) -> Any:
            return json.loads(body)

        return result.addCallback(read)

    def _begin(self, tag: int, sending: _Sending) -> _Sending:
        self._sending[tag] = sending
        self._waiting.append(tag)
        self._pump()
        self._connect()
        return sending

    def _pump(self) -> None:
        """Write what the node allows."""
        connection = self._connection
        if connection is None or not connection.welcome:
            return
        waiting = self._waiting
        while waiting:
            sending = self._sending.get(waiting[0])
            if sending is None:  # it was cancelled
                waiting.popleft()
                continue
            if self._flying >= self._window or self._flying_bytes + sending.size > self._bytes:
                return
            waiting.popleft()
            sending.under_way = True
            self._flying += 1
            self._flying_bytes += sending.size
            connection.write(sending.frame)

    def _cancel(self, tag: int) -> None:
        sending = self._sending.get(tag)
        if sending is not None and sending.under_way and self._connection is not None:
            self._connection.write(MessageFrame(FrameType.CANCEL, tag))
        self._end(tag, SendRefused("cancelled", "the caller gave up"))

    def _late(self, tag: int) -> None:
        where = "the node has not answered" if self._connection else f"no node answers at {self._path}"
        self._end(tag, SendRefused("timed-out", where))

    def _end(self, tag: int, result: bytes | GmeshError) -> None:
        sending = self._sending.pop(tag, None)
        if sending is None:
            return
        if sending.timer is not None and sending.timer.active():
            sending.timer.cancel()
        if sending.under_way:
            self._flying -= 1
            self._flying_bytes -= sending.size
        if not sending.result.called:
            if isinstance(result, bytes):
                sending.result.callback(result)
            else:
                sending.result.errback(result)
        self._pump()

    def leave(self, serving: Serving) -> None:
        """As L{Serving.stop}."""
        if self._serving.pop(serving.tag, None) is not None and self._connection is not None:
            self._connection.write(MessageFrame(FrameType.LEAVE, serving.tag))

    # the connection

    def _connect(self) -> None:
        waits = self._again is not None and self._again.active()
        if self._closed or waits or self._connection is not None or self._connecting is not None:
            return
        connecting = connect_once(UNIXClientEndpoint(self._reactor, self._path), _Connection(self))
        self._connecting = connecting
        connecting.addCallbacks(self._connected, self._unreachable)

    def _connected(self, connection: _Connection) -> None:
        self._connecting = None
        self._connection = connection

    def _unreachable(self, failure: Failure) -> None:
        self._connecting = None
        self._lost_for_now(failure.getErrorMessage())

    def _lost_for_now(self, why: str) -> None:
        if self._closed:
            return
        if not self._told:
            self._told = True
            self._log.warn("no connection to the node at {path}: {why}", path=self._path, why=why)
        if self._sending or self._serving:
            self._again = self._reactor.callLater(self._pause, self._connect)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def welcomed(self, body: bytes) -> None:
        """The node says how much may be under way: serve and send."""
        self._window, self._bytes = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
        self._pause = _FIRST_PAUSE
        if self._told:
            self._told = False
            self._log.info("connected to the node at {path} again", path=self._path)
        assert self._connection is not None
        for serving in self._serving.values():
            self._connection.write(serving.frame())
        self._pump()

    def lost(self, reason: Failure) -> None:
        """The daemon is gone: what has a key is sent again, what has none is not known."""
        self._connection = None
        self._flying = self._flying_bytes = 0
        for tag, sending in list(self._sending.items()):
            was_under_way, sending.under_way = sending.under_way, False
            if was_under_way and not sending.keyed:
                self._end(tag, SendRefused("node-lost", "the node's daemon ended before it had answered"))
        self._waiting = deque(self._sending)
        self._lost_for_now(reason.getErrorMessage())

    def frame(self, frame: MessageFrame) -> None:
        """What the node says. @raise FrameRefused: if it breaks the protocol."""
        kind, tag, body = frame
        if kind is FrameType.SENT:
            self._end(tag, body[4:])
        elif kind is FrameType.ANSWER:
            self._end(tag, body)
        elif kind is FrameType.FAILED:
            self._failed(tag, SendRefused(*read_failed(body)))
        elif kind is FrameType.SERVING:
            serving = self._serving.get(tag)
            if serving is not None and not serving.ready.called:
                serving.ready.callback(None)
        elif kind is FrameType.MESSAGE:
            self._given(tag, GivenMessage.decode(body))
        else:
            raise FrameRefused("malformed", f"a node sends no {kind.name}")

    def _failed(self, tag: int, refusal: SendRefused) -> None:
        serving = self._serving.get(tag)
        if serving is None:
            self._end(tag, refusal)
        elif not serving.ready.called:
            del self._serving[tag]
            serving.ready.errback(refusal)
        else:  # another took its place while the daemon was away
            self._log.error(
                "{service} is not served any more: {why}", service=serving.service, why=refusal.detail
            )

    def _given(self, tag: int, message: GivenMessage) -> None:
        serving, connection = self._serving.get(message.serve), self._connection
        if serving is None or connection is None:
            return
        dealt_with = maybeDeferred(_called, serving.handler, message)
        dealt_with.addCallback(connection.done, tag)
        dealt_with.addErrback(connection.refuse, tag, serving.service)


async def _called(handler: Handler, message: GivenMessage) -> Any:
    result = handler(message)
    return await result if isinstance(result, Awaitable) else result


class _Connection(Protocol):
    """One connection to the daemon, as long as it lasts."""

    transport: Any

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._head: bytes | None = b""
        self._reader = MessageFrameReader()
        self._over = False
        self.welcome = False

    def connectionMade(self) -> None:
        self.transport.write(_REQUEST)

    def dataReceived(self, data: bytes) -> None:
        try:
            if self._head is not None:
                self._head += data
                head, end, data = self._head.partition(_END)
                if not end:
                    return
                self._head = None
                if not head.startswith(b"HTTP/1.1 101"):
                    raise FrameRefused("refused", head.partition(b"\r\n")[0].decode("latin-1"))
            for frame in self._reader.feed(data):
                if frame.kind is FrameType.WELCOME:
                    self.welcome = True
                    self._mesh.welcomed(frame.body)
                else:
                    self._mesh.frame(frame)
        except FrameRefused as refusal:
            self._mesh._log.error("the node's socket: {why}", why=refusal.detail)
            self.hang_up()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._over = True
        self._mesh.lost(reason)

    def hang_up(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()

    def write(self, frame: MessageFrame) -> None:
        if not self._over:
            self.transport.write(frame.encode())

    def done(self, result: Any, tag: int) -> None:
        self.write(MessageFrame(FrameType.DONE, tag, result if isinstance(result, bytes) else b""))

    def refuse(self, failure: Failure, tag: int, service: str) -> None:
        error = failure.value
        said = error.detail if isinstance(error, GmeshError) else "the receiver failed"
        if not isinstance(error, GmeshError):
            self._mesh._log.failure("the handler of {service} failed", failure, service=service)
        self.write(MessageFrame(FrameType.REFUSE, tag, said.encode("utf-8", "replace")[:200]))
