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
from math import inf
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IProtocol, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from gmesh.client.answers import AnswerRefused
from gmesh.client.endpoints import MeshClientEndpoint, MeshServerEndpoint
from gmesh.client.mesh_connection import MeshConnection
from gmesh.client.message_frames import (
    FrameType,
    GivenMessage,
    MessageFrame,
    pack_text,
    read_failed,
    send_frame,
)
from gmesh.client.one_shot import connect_once
from gmesh.client.service_events import choose_nodes
from gmesh.client.service_watch import ServiceWatch
from gmesh.client.serving import Handler, Serving
from gmesh.client.upgrade import socket_endpoint, socket_or_found
from gmesh.errors import FrameRefused, GmeshError, SendRefused

__all__ = ["Handler", "Mesh", "Serving"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two attempts to connect, doubling."""
_SETTLING = 10.0
"""Seconds after a daemon has come back in which it may not have found the other nodes yet."""
_UNSETTLED = frozenset({"no-route", "unknown-node", "stale"})
MARGIN, _LOOK_AGAIN = 2.0, 0.05
"""Seconds beyond the time allowed in which the node's own answer is waited for; those between two looks."""
_KEPT = 64
"""Tags of what ended before it was sent that are kept beside those that wait."""

_SENT = FrameType.SENT  # a member of an Enum is looked up by a function in Python 3.11
_MESSAGE = FrameType.MESSAGE


class _Sending:
    under_way = False
    waited = False  # for a daemon that was away, and has to find the others again

    def __init__(self, octets: bytes, keyed: bool, result: Deferred[bytes], size: int, ends: float) -> None:
        self.octets = octets  # the frame
        self.keyed = keyed
        self.result = result
        self.size = size
        self.ends = ends  # the node's own answer is not waited for any longer


class Mesh:
    """
    The mesh, as programs on this host see it.

    @param socket: path of the daemon's socket; where L{find_socket<gmesh.client.where.find_socket>} finds it,
        if left out.  Or an endpoint that connects to the daemon.
    @param reactor: the one that runs, if left out.
    """

    _log = Logger()

    def __init__(self, socket: str | IStreamClientEndpoint | None = None, reactor: Any = None) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self._reactor = reactor
        self._socket = socket_or_found(socket)
        self._tags = itertools.count(1)
        self._sending: dict[int, _Sending] = {}
        self._waiting: deque[int] = deque()
        self._serving: dict[int, Serving] = {}
        self._watching: dict[int, ServiceWatch] = {}
        self._ports: list[IListeningPort] = []
        self._listening: dict[Deferred[Any], None] = {}
        self._connection: MeshConnection | None = None
        self._connecting: Deferred[Any] | None = None
        self._again: IDelayedCall | None = None
        self._pause = _FIRST_PAUSE
        self._closed = False
        self._window = self._bytes = 0
        self._flying = self._flying_bytes = 0
        self._told = False
        self._since = 0.0  # the daemon is there
        self._ending: IDelayedCall | None = None
        self._first_end = inf
        self._unsettled: list[int] = []
        self._settling: IDelayedCall | None = None

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
        if self._closed:
            return fail(_closed())
        tag = next(self._tags)
        result: Deferred[bytes] = Deferred(lambda _: self._cancel(tag))
        try:
            octets = send_frame(tag, node, service, bytes(data), timeout, key)
        except FrameRefused as refusal:
            result.errback(SendRefused("too-large", refusal.detail))
            return result
        ends = self._reactor.seconds() + timeout + MARGIN
        if ends < self._first_end:
            self._look_at(ends)
        self._begin(tag, _Sending(octets, bool(key), result, len(data), ends))
        return result

    request = send
    """A question: its answer is what comes back."""

    def serve(self, service: str, handler: Handler, concurrency: int = 64) -> Serving:
        """
        Have C{handler} deal with the messages to C{service}, also after the daemon was restarted.

        Several programs of one user may serve one service, and share its messages.

        @param concurrency: how many messages it may be busy with.
        """
        serving = Serving(self.leave, next(self._tags), service, handler, concurrency)
        if self._closed:
            serving.ready.errback(_closed())
            return serving
        self._serving[serving.tag] = serving
        if self._connection is not None:
            self._connection.write(serving.frame())
        self._connect()
        return serving

    def open(self, node: str, service: str, factory: Any, timeout: float = 30.0) -> Deferred[IProtocol]:
        """
        Open a stream to a service of a node, as L{MeshClientEndpoint} does.

        @param factory: a Twisted factory, which makes the protocol.
        @return: Deferred of the protocol; fails with L{DialRefused<gmesh.stream_errors.DialRefused>}.
        """
        return MeshClientEndpoint(self._reactor, node, service, self._socket, timeout).connect(factory)

    def listen(self, service: str, factory: Any) -> Deferred[IListeningPort]:
        """
        Offer streams to a service, until L{close} or C{stopListening}, as L{MeshServerEndpoint} does.

        @return: Deferred of the port; fails with L{ListenRefused<gmesh.client.listening.ListenRefused>}, and
            with L{SendRefused} once this is closed.
        """
        if self._closed:
            return fail(_closed())
        listening = MeshServerEndpoint(self._reactor, service, self._socket).listen(factory)
        self._listening[listening] = None

        def begun(result: IListeningPort | Failure) -> IListeningPort | Failure:
            del self._listening[listening]
            if isinstance(result, Failure):
                return Failure(_closed()) if self._closed else result
            self._ports.append(result)
            return result

        return listening.addBoth(begun)

    def watch(self, service: str = "") -> ServiceWatch:
        """
        C{async for event in mesh.watch("readings")}: who offers it now, then who joins and leaves.

        @param service: all that there are, if left out.
        """
        watch, tag = ServiceWatch(service, self._watch_no_more), next(self._tags)
        if self._closed:
            watch.fail(_closed())
            return watch
        self._watching[tag] = watch
        if self._connection is not None:
            self._connection.write(_watch_frame(tag, watch))
        self._connect()
        return watch

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
            nodes = choose_nodes(await self.nodes(), service, role)
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
            self._end(tag, _closed())
        self._serving.clear()
        for watch in list(self._watching.values()):
            watch.stop()
        while self._ports:
            self._ports.pop().stopListening()
        for listening in list(self._listening):
            listening.cancel()
        for call in (self._again, self._settling, self._ending):
            if call is not None and call.active():
                call.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.hang_up()

    # sending

    def _ask(self, what: str) -> Deferred[Any]:
        if self._closed:
            return fail(_closed())
        tag = next(self._tags)
        result: Deferred[bytes] = Deferred(lambda _: self._cancel(tag))
        octets = MessageFrame(FrameType.ASK, tag, what.encode()).encode()
        self._begin(tag, _Sending(octets, True, result, 0, inf))
        read: Callable[[bytes], Any] = json.loads
        return result.addCallback(read)

    def _begin(self, tag: int, sending: _Sending) -> None:
        self._sending[tag] = sending
        if self._told:
            sending.waited = True
        self._waiting.append(tag)
        self._pump()
        if self._connection is None:
            self._connect()

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
            connection.put(sending.octets)

    def _cancel(self, tag: int) -> None:
        sending = self._sending.get(tag)
        if sending is not None and sending.under_way and self._connection is not None:
            self._connection.write(MessageFrame(FrameType.CANCEL, tag))
        self._end(tag, SendRefused("cancelled", "the caller gave up"))

    def _to_be_sent_later(self, tag: int, refusal: SendRefused) -> bool:
        """Whether it is sent again: the daemon has just come back, and has not found the others yet."""
        sending = self._sending.get(tag)
        settled = self._reactor.seconds() - self._since >= _SETTLING
        if sending is None or not sending.waited or settled or refusal.reason not in _UNSETTLED:
            return False
        if sending.under_way:
            sending.under_way = False
            self._flying -= 1
            self._flying_bytes -= sending.size
            self._later(tag)
        return True

    def _later(self, tag: int) -> None:
        self._unsettled.append(tag)
        if self._settling is None or not self._settling.active():
            self._settling = self._reactor.callLater(_FIRST_PAUSE, self._settled)

    def _settled(self) -> None:
        tags, self._unsettled = self._unsettled, []
        known = set(self._waiting)
        self._waiting.extend(tag for tag in tags if tag in self._sending and tag not in known)
        self._pump()

    def _look_at(self, ends: float) -> None:
        """One timer serves all messages: it is set to the first end there is, and looks for the next then."""
        if self._ending is not None and self._ending.active():
            self._ending.cancel()
        self._first_end = ends
        self._ending = self._reactor.callLater(max(0.0, ends - self._reactor.seconds()), self._look)

    def _look(self) -> None:
        self._first_end, now = inf, self._reactor.seconds()
        where = "the node has not answered" if self._connection else f"no node answers at {self._socket}"
        for tag in [tag for tag, sending in self._sending.items() if sending.ends <= now]:
            self._end(tag, SendRefused("timed-out", where))
        ends = min((sending.ends for sending in self._sending.values()), default=inf)
        if ends < self._first_end:
            self._look_at(max(ends, now + _LOOK_AGAIN))

    def _end(self, tag: int, result: bytes | GmeshError) -> None:
        sending = self._sending.pop(tag, None)
        if sending is None:
            return
        if sending.under_way:
            self._flying -= 1
            self._flying_bytes -= sending.size
        if len(self._waiting) > 2 * len(self._sending) + _KEPT:
            self._waiting = deque(tag for tag in self._waiting if tag in self._sending)
        if not sending.result.called:
            if isinstance(result, bytes):
                sending.result.callback(result)
            else:
                sending.result.errback(result)
        if self._waiting:
            self._pump()

    def leave(self, serving: Serving) -> None:
        """As L{Serving.stop}."""
        if self._serving.pop(serving.tag, None) is not None and self._connection is not None:
            self._connection.write(serving.leaving())

    def _watch_no_more(self, watch: ServiceWatch) -> None:
        for tag in [tag for tag, each in self._watching.items() if each is watch]:
            del self._watching[tag]
            if self._connection is not None:
                self._connection.write(MessageFrame(FrameType.LEAVE, tag))

    # the connection

    def _connect(self) -> None:
        waits = self._again is not None and self._again.active()
        if self._closed or waits or self._connection is not None or self._connecting is not None:
            return
        connection = MeshConnection(self._welcomed, self._heard, self._lost)
        connecting = connect_once(socket_endpoint(self._reactor, self._socket), connection)
        self._connecting = connecting
        connecting.addCallbacks(self._connected, self._unreachable)

    def _connected(self, connection: MeshConnection) -> None:
        self._connecting = None
        self._connection = connection

    def _unreachable(self, failure: Failure) -> None:
        self._connecting = None
        self._lost_for_now(failure.getErrorMessage())

    def _lost_for_now(self, why: str) -> None:
        if self._closed:
            return
        for sending in self._sending.values():
            sending.waited = True
        if not self._told:
            self._told = True
            self._log.warn("no connection to the node at {path}: {why}", path=str(self._socket), why=why)
        if self._sending or self._serving or self._watching:
            self._again = self._reactor.callLater(self._pause, self._connect)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _welcomed(self, body: bytes) -> None:
        """The node says how much may be under way: serve and send."""
        self._window, self._bytes = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
        self._pause, self._since = _FIRST_PAUSE, self._reactor.seconds()
        if self._told:
            self._told = False
            self._log.info("connected to the node at {path} again", path=str(self._socket))
        assert self._connection is not None
        for serving in self._serving.values():
            self._connection.write(serving.frame())
        for tag, watch in self._watching.items():
            self._connection.write(_watch_frame(tag, watch))
        self._pump()

    def _lost(self, why: str, refusal: AnswerRefused | None) -> None:
        """
        The daemon is gone: what has a key is sent again, what has none is not known.

        @param refusal: it does not serve this program; nobody waits for that to change but who was served.
        """
        self._connection = None
        self._flying = self._flying_bytes = 0
        for tag, sending in list(self._sending.items()):
            was_under_way, sending.under_way = sending.under_way, False
            if was_under_way and not sending.keyed:
                self._end(tag, SendRefused("node-lost", "the node's daemon ended before it had answered"))
        if refusal is not None:
            self._refused(SendRefused(refusal.reason, refusal.detail))
        self._waiting = deque(self._sending)
        self._lost_for_now(why)

    def _refused(self, error: SendRefused) -> None:
        for tag in (*self._sending, *self._watching):
            self._failed(tag, error)
        for tag in [tag for tag, serving in self._serving.items() if not serving.ready.called]:
            self._failed(tag, error)

    def _heard(self, frame: MessageFrame) -> None:
        """What the node says. @raise FrameRefused: if it breaks the protocol."""
        kind, tag, body = frame
        if kind is _SENT:
            self._end(tag, body[4:])
        elif kind is _MESSAGE:
            self._given(tag, GivenMessage.decode(body))
        elif kind is FrameType.ANSWER and tag in self._watching:
            self._watching[tag].hear(json.loads(body))
        elif kind is FrameType.ANSWER:
            self._end(tag, body)
        elif kind is FrameType.FAILED:
            self._failed(tag, SendRefused(*read_failed(body)))
        elif kind is FrameType.SERVING:
            serving = self._serving.get(tag)
            if serving is not None and not serving.ready.called:
                serving.ready.callback(None)
        else:
            raise FrameRefused("malformed", f"a node sends no {kind.name}")

    def _failed(self, tag: int, refusal: SendRefused) -> None:
        serving = self._serving.get(tag)
        if tag in self._watching:
            self._watching.pop(tag).fail(refusal)
        elif serving is None:
            if not self._to_be_sent_later(tag, refusal):
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
        serving.last = tag
        try:
            result = serving.handler(message)
            if result is None or type(result) is bytes or not isinstance(result, Awaitable):
                connection.done(result, tag)
                return
        except BaseException:  # it refuses the message so
            connection.refuse(Failure(), tag, serving.service)
            return
        waited = Deferred.fromCoroutine(_ended(result))
        waited.addCallback(connection.done, tag).addErrback(connection.refuse, tag, serving.service)


async def _ended(result: Awaitable[Any]) -> Any:
    return await result


def _closed() -> SendRefused:
    return SendRefused("stopped", "the program has closed its connection")


def _watch_frame(tag: int, watch: ServiceWatch) -> MessageFrame:
    return MessageFrame(FrameType.WATCH, tag, pack_text(watch.service))
