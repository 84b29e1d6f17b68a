# SPDX-License-Identifier: MIT
"""
The mesh for programs and scripts without Twisted: one thing at a time, in one thread.

Tests: C{tests/client/test_blocking_mesh.py}.
"""

from __future__ import annotations

import json
import select
import socket as sockets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gmesh.client.answers import MESSAGES_REQUEST
from gmesh.client.blocking import open_upgraded
from gmesh.client.message_frames import (
    FrameType,
    GivenMessage,
    MessageFrame,
    MessageFrameReader,
    SendRequest,
    pack_text,
    read_failed,
)
from gmesh.client.service_events import ServiceChanges, ServiceEvent, choose_nodes
from gmesh.errors import FrameRefused, SendRefused

if TYPE_CHECKING:
    from gmesh.client.blocking_stream import BlockingStream

__all__ = ["BlockingMesh", "ReceivedMessage"]

MARGIN = 2.0
"""Seconds beyond the time allowed after which the node's own answer is not waited for any more."""
_AT_ONCE = 256
"""Messages under way to many nodes: fewer than any daemon allows."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two attempts to connect, doubling."""
_PIECE = 64 * 1024


class ReceivedMessage:
    """
    A message that is to be dealt with: L{done}, or L{refuse}.

    @ivar source: name of the node that sent it, as certified.
    @ivar data: bytes.
    @ivar key: by which its sender knows it; empty without one.
    @ivar redelivered: it may have been handed over before.
    """

    def __init__(self, link: _Link, tag: int, message: GivenMessage) -> None:
        self._link = link
        self._tag = tag
        self.source = message.source
        self.source_id = message.source_id
        self.roles = message.roles
        self.data = message.data
        self.key = message.key
        self.redelivered = message.redelivered

    def done(self, answer: bytes = b"") -> None:
        """It is dealt with: its sender hears that, and gets C{answer}, unless the daemon has ended since."""
        self._link.ended(MessageFrame(FrameType.DONE, self._tag, answer))

    def refuse(self, why: str) -> None:
        """It is refused: its sender hears C{why}."""
        self._link.ended(MessageFrame(FrameType.REFUSE, self._tag, why.encode("utf-8", "replace")[:200]))


class _Link:
    """
    One connection to the daemon, as long as it lasts.

    @ivar lost: it is over, and whoever wants something connects again.
    """

    def __init__(self, socket: sockets.socket) -> None:
        self._socket = socket
        self._reader = MessageFrameReader()
        self._tag = 0
        self._given: dict[int, deque[MessageFrame]] = {}
        self._answers: dict[int, deque[MessageFrame]] = {}
        self._open: dict[int, int] = {}  # messages that the program has, and what was served
        self._last: dict[int, int] = {}  # the last message that it had of what is served
        self.lost = False
        self.wait(lambda: 0 in self._answers, time.monotonic() + MARGIN + 10.0)

    def begin(self, kind: FrameType, body: bytes) -> int:
        """Ask. @return: the tag of what will be answered."""
        self._tag += 1
        self._answers[self._tag] = deque()
        if kind is FrameType.SERVE:
            self._given[self._tag] = deque()
        self.write(MessageFrame(kind, self._tag, body))
        return self._tag

    def answer(self, tag: int, until: float | None) -> bytes:
        """
        Wait for an answer.

        @param until: by C{time.monotonic}; None waits for ever.
        @raise SendRefused: if it is FAILED.
        @raise TimeoutError: if it does not come; nobody waits for it any more.
        """
        try:
            self.wait(lambda: bool(self._answers[tag]), until)
        except TimeoutError:
            self.forget(tag)
            self.write(MessageFrame(FrameType.CANCEL, tag))
            raise
        frame = self._answers[tag].popleft()
        if frame.kind is FrameType.FAILED:
            self.forget(tag)
            raise SendRefused(*read_failed(frame.body))
        return frame.body

    def forget(self, tag: int) -> None:
        """No further answer to it is wanted."""
        self._answers.pop(tag, None)
        self._given.pop(tag, None)

    def message(self, serve: int) -> MessageFrame:
        """Wait for a message to what is served."""
        self.wait(lambda: bool(self._given[serve]), None)
        frame = self._given[serve].popleft()
        self._open[frame.tag], self._last[serve] = serve, frame.tag
        return frame

    def wait(self, ready: Callable[[], bool], until: float | None) -> None:
        """Read until it is so. @raise TimeoutError: if time is over before."""
        while not ready():
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError("the node's daemon has not answered")
            self._socket.settimeout(left)
            self._hear()

    def look(self) -> None:
        """Hear what was said meanwhile, perhaps that the daemon has ended."""
        with suppress(ConnectionResetError):
            while not self.lost and self._events(select.POLLIN, 0):
                self._hear()

    def _events(self, asked: int, timeout: int | None) -> int:
        """Which of them the socket is ready for. @param timeout: in milliseconds; None waits for ever."""
        poll = select.poll()
        poll.register(self._socket, asked)
        found = poll.poll(timeout)
        return found[0][1] if found else 0

    def _hear(self) -> None:
        for frame in self._read():
            if frame.kind is FrameType.MESSAGE:
                serve = int.from_bytes(frame.body[:4], "big")
                if serve in self._given:
                    self._given[serve].append(frame)
            elif frame.kind is FrameType.WELCOME or frame.tag in self._answers:
                self._answers.setdefault(frame.tag, deque()).append(frame)

    def _read(self) -> list[MessageFrame]:
        try:
            data = self._socket.recv(_PIECE)
            if not data:
                raise ConnectionResetError("the node's daemon hung up")
            return self._reader.feed(data)
        except TimeoutError:
            raise TimeoutError("the node's daemon has not answered") from None
        except (OSError, FrameRefused) as error:
            self.close()
            raise ConnectionResetError(str(error)) from error

    def write(self, frame: MessageFrame) -> None:
        """
        Say something, and hear meanwhile: a daemon that is not heard does not listen either.

        @raise OSError: if the daemon is gone.
        """
        octets = memoryview(frame.encode())
        try:
            self._socket.settimeout(None)
            while octets:
                try:
                    octets = octets[self._socket.send(octets, sockets.MSG_DONTWAIT) :]
                except BlockingIOError:
                    if self._events(select.POLLIN | select.POLLOUT, None) & ~select.POLLOUT:
                        self._hear()
        except OSError:
            self.close()
            raise

    def say(self, frame: MessageFrame) -> None:
        """The same to a daemon that may be gone: what it had given comes again anyway."""
        with suppress(OSError):
            self.write(frame)

    def ended(self, frame: MessageFrame) -> None:
        """The program is done with a message."""
        self.say(frame)
        serve = self._open.pop(frame.tag, None)
        if serve is not None and serve not in self._given:
            self.leave(serve)

    def leave(self, tag: int) -> None:
        """
        Nobody asks for more of it.

        A service of which the program has a message is served on: that comes again if it dies.
        """
        self.forget(tag)
        if tag not in self._open.values():
            self.say(MessageFrame(FrameType.LEAVE, tag, self._last.pop(tag, 0).to_bytes(4, "big")))

    def close(self) -> None:
        """Hang up."""
        self.lost = True
        self._socket.close()


class BlockingMesh:
    """
    The mesh, as scripts on this host see it.

    It connects at once, and again whenever it is used after the daemon has ended.

    @param socket: path of the daemon's socket; where L{find_socket<gmesh.client.where.find_socket>} finds it,
        if left out.
    @param connect: gives a socket on which messages in frames follow, where that is no path.
    @raise SocketRefused: if the daemon does not serve this user.
    @raise OSError: if the daemon cannot be reached.
    """

    def __init__(
        self, socket: str | None = None, connect: Callable[[], sockets.socket] | None = None
    ) -> None:
        self._path = socket
        self._open = connect or self._by_path
        self._connected: _Link | None = _Link(self._open())
        self._closed = False

    def __enter__(self) -> BlockingMesh:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._closed = True
        if self._connected is not None:
            self._connected.close()

    def send(self, node: str, service: str, data: bytes, timeout: float = 10.0, key: str = "") -> bytes:
        """
        Send a message, and wait until its receiver has dealt with it.

        @param key: names the message over several calls; acknowledged once, it is never handed over again.
        @return: what the receiver gave back, often nothing.
        @raise SendRefused: with C{reason} and C{detail}, if it was not delivered.
        @raise OSError: if the daemon is gone; whether it was delivered is not known then.
        """
        request = SendRequest(node, service, bytes(data), timeout, key)
        return self._asked(FrameType.SEND, request.encode(), timeout + MARGIN)[4:]

    request = send
    """A question: its answer is what comes back."""

    def send_to(
        self,
        service: str,
        data: bytes,
        *,
        role: str | None = None,
        nodes: Iterable[str] | None = None,
        timeout: float = 10.0,
    ) -> dict[str, bytes | SendRefused]:
        """
        Send a message to C{service} of many nodes at once, as L{gmesh.client.Mesh.send_to}.

        @return: by node what it gave back, or why it was not delivered.
        @raise OSError: as L{send}.
        """
        chosen = deque(choose_nodes(self.nodes(), service, role) if nodes is None else nodes)
        link, found = self._link(), dict[str, bytes | SendRefused]()
        under_way: deque[tuple[str, int, float]] = deque()
        while chosen or under_way:
            if chosen and len(under_way) < _AT_ONCE:
                node = chosen.popleft()
                body = SendRequest(node, service, bytes(data), timeout).encode()
                until = time.monotonic() + timeout + MARGIN
                under_way.append((node, link.begin(FrameType.SEND, body), until))
                continue
            node, tag, until = under_way.popleft()
            try:
                found[node] = link.answer(tag, until)[4:]
            except SendRefused as refusal:
                found[node] = refusal
            link.forget(tag)
        return found

    def nodes(self) -> list[dict[str, Any]]:
        """Every node that is known here: C{name}, C{roles}, C{reachable}, C{services} and more."""
        return list(json.loads(self._asked(FrameType.ASK, b"nodes", MARGIN)))

    def services(self) -> list[dict[str, Any]]:
        """Every service of the mesh, and the C{nodes} that have it now."""
        return list(json.loads(self._asked(FrameType.ASK, b"services", MARGIN)))

    def watch(self, service: str = "") -> Iterator[ServiceEvent]:
        """
        Who offers a service now, then who joins and leaves, for ever, also when the daemon was restarted.

        @param service: all that there are, if left out.
        @raise SendRefused: if the daemon does not tell.
        """
        changes = ServiceChanges()
        while True:
            try:
                link, tag = self._begun(FrameType.WATCH, pack_text(service))
                try:
                    while True:
                        changes.hear(json.loads(link.answer(tag, None)))
                        while (event := changes.next()) is not None:
                            yield event
                finally:
                    link.leave(tag)
            except OSError as error:
                self._wait_for_daemon(error)

    def receive(self, service: str, concurrency: int = 1, again: bool = True) -> Iterator[ReceivedMessage]:
        """
        The messages to a service, for ever; what is not dealt with when the program ends comes again.

        @param concurrency: how many of them may be open at a time.
        @param again: wait for a daemon that was restarted, and serve it again, with a line in the log at each
            end; else it raises C{OSError} when the daemon ends.
        @raise SendRefused: if it may not be served, before the first message.
        """
        body = concurrency.to_bytes(2, "big") + pack_text(service)
        while True:
            try:
                link, tag = self._begun(FrameType.SERVE, body)
                try:
                    link.answer(tag, None)
                    while True:
                        frame = link.message(tag)
                        yield ReceivedMessage(link, frame.tag, GivenMessage.decode(frame.body))
                finally:
                    link.leave(tag)
            except OSError as error:
                if not again:
                    raise
                self._wait_for_daemon(error)

    def open(self, node: str, service: str, timeout: float = 30.0) -> BlockingStream:
        """
        Open a stream to a service of a node, on a connection of its own.

        @raise SocketRefused: if it is refused.
        @raise OSError: if the daemon cannot be reached.
        """
        from gmesh.client.blocking_stream import open_stream

        return open_stream(node, service, self._path, timeout)

    def listen(self, service: str) -> Iterator[BlockingStream]:
        """
        The streams to a service, one after the other, for ever.

        @raise SocketRefused: if this program may not have it.
        @raise OSError: if the daemon cannot be reached, or ends.
        """
        from gmesh.client.blocking_stream import accept_stream

        while True:
            yield accept_stream(service, self._path)

    # the connection

    def _by_path(self) -> sockets.socket:
        return open_upgraded(MESSAGES_REQUEST, 101, self._path, MARGIN + 10.0)[0]

    def _link(self) -> _Link:
        link = self._connected
        if self._closed:
            raise ConnectionAbortedError("this connection to the mesh was closed")
        if link is not None:
            link.look()
        if link is None or link.lost:
            link = self._connected = _Link(self._open())
        return link

    def _begun(self, kind: FrameType, body: bytes) -> tuple[_Link, int]:
        link = self._link()
        return link, link.begin(kind, body)

    def _asked(self, kind: FrameType, body: bytes, timeout: float) -> bytes:
        link, tag = self._begun(kind, body)
        try:
            return link.answer(tag, time.monotonic() + timeout)
        finally:
            link.forget(tag)

    def _wait_for_daemon(self, why: OSError) -> None:
        """
        Connect again, however long it takes; a line in the log at each end.

        @raise OSError: C{why}, if the program has closed this.
        """
        if self._closed:
            raise why
        import logging

        log, pause = logging.getLogger("gmesh.client"), _FIRST_PAUSE
        log.warning("no connection to the node: %s", why)
        while not self._closed:
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            try:
                self._link()
            except (OSError, SendRefused):
                continue
            log.warning("connected to the node again")
            return
