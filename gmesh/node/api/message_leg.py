# SPDX-License-Identifier: MIT
"""
A program's messages in frames, both ways, on one connection that has left HTTP behind.

L{gmesh.client.message_frames} says what is a frame.  What a program has sent and what it was given are both
bounded, so that its acknowledgements never wait behind what it sends; a program that does not read what it is
told is read no further itself once L{MAX_LEG_UNREAD} bytes wait for it.
Tests: C{tests/node/api/test_message_leg.py}.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.client.message_frames import (
    FrameType,
    MessageFrame,
    MessageFrameReader,
    SendRequest,
    failed_body,
    given_frame,
    sent_frame,
    take_text,
)
from gmesh.client.write_now import write_now
from gmesh.endtoend.datagrams import Datagrams
from gmesh.endtoend.limits import MAX_DATAGRAM, MAX_RELIABLE_BYTES, MAX_RELIABLE_MESSAGES
from gmesh.endtoend.reliable_queue import Delivered
from gmesh.endtoend.service_queue import Delivery, Taker
from gmesh.endtoend.services import Registration, is_reserved
from gmesh.errors import FrameRefused, GmeshError, RequestRefused, SendRefused
from gmesh.node.api.service_watches import Follow, ServiceFeed, ServiceWatches
from gmesh.node.api.waiting_sends import UnderWay, WaitingSends
from gmesh.node.limits import MAX_LEG_ASKED, MAX_LEG_CONCURRENT, MAX_LEG_SERVICES, MAX_LEG_UNREAD

__all__ = ["LegNode", "MessageLeg"]

LONGEST = MAX_DATAGRAM + 1024
"""Bytes of a body that a program may send: a message and its texts."""


AT_ONCE, ENOUGH = 64, 64 * 1024
"""So many frames, or bytes, leave together: the program begins with them while the node goes on."""


class LegNode:
    """
    What a leg needs of a node.

    @ivar describe: this node, for WELCOME.
    @ivar tables: what may be asked for, by name.
    @ivar count: counts a cause.
    @ivar send: sends a message of a program, which waits for room if there is none.
    @ivar begin: the same without a Deferred.
    @ivar ended: a program is done with a message that it was given.
    @ivar refused: it refuses it.
    @ivar feed: tells who offers what.
    """

    def __init__(
        self,
        datagrams: Datagrams,
        describe: Callable[[], dict[str, Any]],
        tables: dict[str, Callable[[], list[dict[str, Any]]]],
        count: Callable[[str], object],
        follow: Follow,
        clock: IReactorTime,
    ) -> None:
        self.datagrams = datagrams
        waiting = WaitingSends(datagrams, clock)
        self.send, self.begin = waiting.send, waiting.begin
        self.ended, self.refused = datagrams.services.ended, datagrams.services.refused
        self.describe = describe
        self.tables = tables
        self.count = count
        self.feed = ServiceFeed(tables.get("services", list), follow)


@implementer(IPushProducer)
class MessageLeg(Protocol):
    """
    One connection.

    @param owner: whose program it is.
    @param admit: raises L{GmeshError} if that user may not serve a service.
    @ivar services: what it serves, by tag.
    """

    transport: Any

    def __init__(self, node: LegNode, owner: object, admit: Callable[[str], object]) -> None:
        self._node = node
        self._owner = owner
        self._admit = admit
        self._reader = MessageFrameReader(LONGEST)
        self._turn = node.datagrams.turn
        self._size = 0
        self._gathered: list[bytes] = []  # what the program is told once all was read that is read now
        self._sent: dict[int, UnderWay | None] = {}
        self._sent_bytes = 0
        self._serving: dict[int, Registration] = {}
        self._left: list[Registration] = []  # that have messages which are not ended
        self.services: dict[int, str] = {}
        self._given: dict[int, Delivery] = {}
        self._watches = ServiceWatches(node.feed, self._answer)
        self._asked: deque[tuple[int, str]] = deque()  # tables that wait until the program reads
        self._full = False  # it does not read what it was told
        self._unread = 0
        self._early: list[bytes] | None = None  # what is given before SERVING is written
        self._number = 0
        self._over = False
        self._handlers = {
            FrameType.SEND: self._send,
            FrameType.CANCEL: self._cancel,
            FrameType.SERVE: self._serve,
            FrameType.LEAVE: self._leave,
            FrameType.DONE: self._done,
            FrameType.REFUSE: self._refuse,
            FrameType.ASK: self._ask,
            FrameType.WATCH: self._watch,
        }

    def connectionMade(self) -> None:
        """Say who this is, and how much may be under way."""
        self.transport.registerProducer(self, True)
        bounds = MAX_RELIABLE_MESSAGES.to_bytes(4, "big") + MAX_RELIABLE_BYTES.to_bytes(4, "big")
        self._write(FrameType.WELCOME, 0, bounds + json.dumps(self._node.describe()).encode())

    def dataReceived(self, data: bytes) -> None:
        """Frames of the program; one that breaks the protocol ends the connection."""
        if self._over:
            return
        handlers, began = self._handlers, self._turn.hold()
        try:
            for kind, tag, body in self._reader.feed(data):
                handler = handlers.get(kind)
                if handler is None:
                    raise FrameRefused("malformed", f"a program sends no {kind.name}")
                handler(tag, body)
        except FrameRefused:
            self._node.count("leg-malformed")
            self._hang_up()
        finally:
            if began:
                self._turn.release()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The program has gone: nobody waits for what it sent, and what it had is for the next one."""
        self._over = True
        if self._sent:
            self._node.count("caller-gone")
        for under_way in list(self._sent.values()):
            if under_way is not None:
                under_way.cancel()
        for registration in (*self._serving.values(), *self._left):
            registration.gone()
        self._given.clear()
        self._asked.clear()
        self._watches.stop()

    def forbidden(self, error: RequestRefused) -> None:
        """Its user may not do what it does any more; the program hears why when it connects again."""
        self._hang_up()

    def _hang_up(self) -> None:
        self._flush()
        self._over = True
        self.transport.unregisterProducer()
        if self._full:  # what it does not read would hold the connection, and its services, for ever
            self.transport.abortConnection()
        else:
            self.transport.loseConnection()

    def pauseProducing(self) -> None:
        """
        The program does not read: tables wait, and so does what it says once much waits for it.

        A transport says so again at each write.
        """
        if not self._full:
            self._full = True
            self._unread = 0
            self._watches.pauseProducing()

    def resumeProducing(self) -> None:
        """It has read all."""
        if self._over:
            return
        self._full = False
        if self._unread > MAX_LEG_UNREAD:
            self.transport.resumeProducing()
        while self._asked and not self._full:
            tag, name = self._asked.popleft()
            self._answer(tag, self._node.tables[name]())
        if not self._full:
            self._watches.resumeProducing()

    def stopProducing(self) -> None:
        """The connection is gone: L{connectionLost} follows."""

    def _wrote(self, size: int) -> None:
        """So much was written to a program that does not read."""
        before, self._unread = self._unread, self._unread + size
        if before <= MAX_LEG_UNREAD < self._unread:
            self.transport.pauseProducing()

    def _write(self, kind: FrameType, tag: int, body: bytes = b"") -> None:
        self._put(MessageFrame(kind, tag, body).encode())

    def _put(self, octets: bytes) -> None:
        """A frame: at once, or with all others that follow of what is read now."""
        if self._over:
            return
        if not self._turn.held:
            self.transport.write(octets)
            if self._full:
                self._wrote(len(octets))
            return
        gathered = self._gathered
        if not gathered:
            self._turn.then(self._flush)
        gathered.append(octets)
        self._size += len(octets)
        if len(gathered) >= AT_ONCE or self._size >= ENOUGH:
            self._flush()

    def _flush(self) -> None:
        """Write what was gathered."""
        gathered, size = self._gathered, self._size
        self._gathered, self._size = [], 0
        if gathered and not self._over:
            write_now(self.transport, b"".join(gathered))
            if self._full:
                self._wrote(size)

    def _failed(self, tag: int, error: GmeshError) -> None:
        self._write(FrameType.FAILED, tag, failed_body(error.reason, error.detail))

    # what it sends

    def _send(self, tag: int, body: bytes) -> None:
        request = SendRequest.decode(body)
        size = len(request.data)
        if is_reserved(request.service):
            self._failed(tag, RequestRefused("bad-service", f"{request.service} is of gmesh itself"))
            return
        if tag in self._sent:
            raise FrameRefused("malformed", f"the tag {tag} waits for its answer")
        sent = self._sent
        if len(sent) >= MAX_RELIABLE_MESSAGES or self._sent_bytes + size > MAX_RELIABLE_BYTES:
            self._failed(tag, SendRefused("busy", "more messages under way than this node allows a program"))
            return
        sent[tag] = None
        self._sent_bytes += size
        under_way = self._node.begin(request, partial(self._told, tag, size))
        if tag in sent:
            sent[tag] = under_way

    def _told(self, tag: int, size: int, became: Delivered | SendRefused) -> None:
        """What became of a SEND."""
        del self._sent[tag]
        self._sent_bytes -= size
        if not isinstance(became, Delivered):
            self._failed(tag, became)
        else:
            rtt, answer = became
            self._put(sent_frame(tag, int(1000 * rtt + 0.5) if rtt else 0, answer))

    def _cancel(self, tag: int, body: bytes) -> None:
        under_way = self._sent.get(tag)
        if under_way is not None:
            under_way.cancel()

    # what it serves

    def _serve(self, tag: int, body: bytes) -> None:
        concurrent = int.from_bytes(body[:2], "big")
        service, _ = take_text(body, 2)
        if tag in self._serving:
            raise FrameRefused("malformed", f"the tag {tag} is that of another service")
        try:
            if not 0 < concurrent <= MAX_LEG_CONCURRENT:
                raise RequestRefused("invalid-field", f"concurrent is 1 to {MAX_LEG_CONCURRENT}")
            if len(self._serving) >= MAX_LEG_SERVICES:
                raise RequestRefused("busy", f"a connection serves at most {MAX_LEG_SERVICES} services")
            if is_reserved(service):
                raise RequestRefused("bad-service", f"{service} is of gmesh itself")
            self._admit(service)
            self._early = []
            self._serving[tag] = self._node.datagrams.register(
                service,
                partial(self._give, tag),
                concurrent=concurrent,
                owner=self._owner,
                shared=True,
                keeps=True,
            )
        except GmeshError as error:
            self._failed(tag, error)
        else:
            self.services[tag] = service
            self._write(FrameType.SERVING, tag)
            for octets in self._early:
                self._put(octets)
        finally:
            self._early = None

    def _give(self, tag: int, delivery: Delivery) -> None:
        name, node_id, roles, _, data, key, redelivered = delivery.message
        self._number = number = (self._number + 1) & 0xFFFFFFFF
        octets = given_frame(number, tag, name, node_id, roles, data, key, redelivered)
        self._given[number] = delivery
        if self._early is None:
            self._put(octets)
        else:
            self._early.append(octets)

    def _leave(self, tag: int, body: bytes) -> None:
        self.services.pop(tag, None)
        registration = self._serving.pop(tag, None)
        if registration is not None:
            registration.unregister(self._take_back(registration.taker, body))
            self._left = [each for each in (*self._left, registration) if each.taker.pending]
        else:
            self._watches.end(tag)

    def _take_back(self, taker: Taker, last: bytes) -> list[Delivery]:
        """What was given after the last message that the program has read, if it says which that was."""
        after = int.from_bytes(last[:4], "big") + 1
        unread = [
            number
            for number, delivery in self._given.items()
            if last and delivery in taker.pending and (number - after) & 0xFFFFFFFF < 2**31
        ]
        return [self._given.pop(number) for number in unread]

    def _done(self, tag: int, body: bytes) -> None:
        given = self._given.pop(tag, None)
        if given is not None:
            self._node.ended(given, body)

    def _refuse(self, tag: int, body: bytes) -> None:
        given = self._given.pop(tag, None)
        if given is not None:
            error = SendRefused("refused", body.decode("utf-8", "replace") or "refused")
            self._node.refused(given, error)

    # what it asks

    def _ask(self, tag: int, body: bytes) -> None:
        name = body.decode("ascii", "replace")
        table = self._node.tables.get(name)
        if table is None:
            self._failed(tag, RequestRefused("not-found", "ask for nodes or services"))
        elif not self._full:
            self._answer(tag, table())
        elif len(self._asked) < MAX_LEG_ASKED:
            self._asked.append((tag, name))
        else:
            self._failed(tag, SendRefused("busy", "read the answers to what was asked before"))

    def _answer(self, tag: int, rows: list[dict[str, Any]]) -> None:
        try:
            self._write(FrameType.ANSWER, tag, json.dumps(rows, separators=(",", ":")).encode())
        except FrameRefused as error:
            self._failed(tag, error)

    def _watch(self, tag: int, body: bytes) -> None:
        service, _ = take_text(body, 0)
        try:
            self._watches.begin(tag, service)
        except RequestRefused as error:
            self._failed(tag, error)
