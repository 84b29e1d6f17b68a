# SPDX-License-Identifier: MIT
"""
The streams of nodes that are joined in memory: all of L{gmesh.interfaces.IStreams}, without a mesh below it.

For tests of what stands on streams: local API, endpoints, exposures, forwards.  The tests of what streams
promise run over these and over real ones.  Tests: C{tests/streams/test_stream_manners.py}.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from itertools import count

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProtocol, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from gmesh.addresses import MeshAddress
from gmesh.endtoend.services import is_reserved, valid_service
from gmesh.errors import ConfigurationError
from gmesh.interfaces import IStreamOffer, IStreams
from gmesh.stream_errors import dial_refused
from gmesh.testing.memory_stream import MemoryStream

__all__ = ["MemoryOffer", "MemoryStreams", "joined"]

OFFER_TIMEOUT = 30.0
"""Seconds that an offer waits for its taker."""
_LATE = ("timed-out", f"nobody took it for {OFFER_TIMEOUT:g} s")

Take = Callable[["MemoryOffer"], None]
Build = Callable[[MeshAddress], IProtocol | None]
Lost = Callable[[], object]


@implementer(IStreamOffer)
class MemoryOffer:
    """A stream that somebody has opened to here."""

    def __init__(self, stream: MemoryStream, accepted: Callable[[], None]) -> None:
        self.stream = stream.stream
        self.peer = stream.getPeer()
        self.gone: Deferred[None] = Deferred()
        self._end = stream
        self._accepted = accepted
        self._open = True
        stream.gone.addCallback(lambda _: self.close())

    def accept(self, protocol: IProtocol) -> bool:
        """As L{IStreamOffer} has it."""
        if not self._open:
            return False
        self._open = False
        self._accepted()
        self._end.connect(protocol)
        return True

    def refuse(self, reason: str, detail: str = "") -> None:
        """As L{IStreamOffer} has it."""
        if self._open:
            self._end.reset(reason, detail)
            self.close()

    def close(self) -> None:
        """There is nothing to accept any more."""
        if self._open:
            self._open = False
            self.gone.callback(None)


class _Listening:
    """A taker in its place, until C{stopListening}."""

    def __init__(self, takers: dict[str, Take], service: str) -> None:
        self._takers = takers
        self._service = service

    def stopListening(self) -> None:
        self._takers.pop(self._service, None)


@implementer(IStreams)
class MemoryStreams:
    """
    The streams of one node.

    @param delay: seconds from here to any other node, one way.
    @ivar refusing: by (node, service): the reason and detail that a dial from here gets, without asking.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, name: str, delay: float = 0.0, roles: Iterable[str] = (), serial: int = 1
    ) -> None:
        self.name = name
        self.roles = tuple(roles)
        self.serial = serial
        self.nodes: dict[str, MemoryStreams] = {name: self}
        self.refusing: dict[tuple[str, str], tuple[str, str]] = {}
        self._clock = clock
        self._delay = delay
        self._takers: dict[str, Take] = {}
        self._streams: dict[int, MemoryStream] = {}
        self._numbers = count(1)
        self._held: dict[str, list[MemoryOffer]] = {}
        self._holding_until = self._patience = 0.0

    def join(self, other: MemoryStreams) -> None:
        """Let each of these two reach the other."""
        self.nodes[other.name] = other
        other.nodes[self.name] = self

    def address(self, service: str) -> MeshAddress:
        """This node, as others see who they talk to."""
        node_id = hashlib.sha256(self.name.encode()).hexdigest()[:32]
        return MeshAddress(self.name, node_id, self.roles, self.serial, service)

    def dial(
        self, node: str, service: str, build: Build, timeout: float = 30.0, lost: Lost | None = None
    ) -> Deferred[IProtocol]:
        """As L{IStreams} has it."""
        far = self.nodes.get(node)
        refused = self.refusing.get((node, service))
        if far is None and refused is None:
            refused = ("unknown-node", f"no node called {node!r} is known here")
        result: Deferred[IProtocol] = Deferred(lambda _: near.abortConnection())
        if far is None or refused is not None:
            failed: Deferred[IProtocol] = Deferred()
            reason, detail = refused or ("", "")
            failed.errback(dial_refused(reason, detail))
            return failed
        near = self._make(True, far.address(service), service)
        other = far._make(False, self.address(service), service)
        near.far, other.far = other, near
        waiting: list[IDelayedCall] = []

        def over(_: None) -> None:
            if waiting[0].active():
                waiting[0].cancel()
            if not near.connected and not result.called:
                result.errback(dial_refused(*near.why))

        def accepted() -> None:
            if near.disconnecting:
                return
            waiting[0].cancel()
            try:
                protocol = build(far.address(service))
            except Exception:
                result.errback()
                protocol = None
            if protocol is None:
                near.reset("aborted", "the program that opened it gave up")
                return
            if lost is not None:
                near.left = lost
            near.connect(protocol)
            result.callback(protocol)

        detail = f"nobody answered for {service} at {node} in {timeout:g} s"
        waiting.append(self._clock.callLater(timeout, near.reset, "timed-out", detail))
        near.gone.addCallback(over)
        self._keep(near)
        near.way.say(far._opened, other, service, accepted)
        return result

    def listen(self, service: str, take: Take) -> _Listening:
        """As L{IStreams} has it."""
        if is_reserved(service):
            raise ConfigurationError("reserved-service", f"{service} is a service of gmesh itself")
        if not valid_service(service):
            raise ConfigurationError("bad-service", f"{service!r} cannot name a service")
        if service in self._takers:
            raise ConfigurationError("service-taken", f"{service} has a taker already")
        self._takers[service] = take
        for offer in self._held.pop(service, ()):
            self._give(offer, take)
        return _Listening(self._takers, service)

    def hold(self, window: float, patience: float) -> None:
        """As L{IStreams} has it."""
        self._holding_until, self._patience = self._clock.seconds() + window, patience

    def open_streams(self) -> list[MemoryStream]:
        """As L{IStreams} has it."""
        return list(self._streams.values())

    def break_all(self, reason: str, detail: str = "") -> None:
        """Reset every stream of this node, as a change of policy, a revocation or its stop would."""
        for stream in self.open_streams():
            stream.reset(reason, detail)

    def _make(self, opened: bool, peer: MeshAddress, service: str) -> MemoryStream:
        number = next(self._numbers)
        return MemoryStream(number, opened, self.address(service), peer, self._clock, self._delay)

    def _keep(self, stream: MemoryStream) -> None:
        self._streams[stream.stream] = stream
        stream.gone.addCallback(lambda _: self._streams.pop(stream.stream, None))

    def _opened(self, stream: MemoryStream, service: str, accepted: Callable[[], None]) -> None:
        take = self._takers.get(service)
        held = take is None and self._clock.seconds() < self._holding_until
        if take is None and not held:
            stream.reset(*self._nothing(service))
            return
        waiting: list[IDelayedCall] = []

        def settled() -> None:
            if waiting[0].active():
                waiting[0].cancel()

        def accept() -> None:
            settled()
            self._keep(stream)
            stream.way.say(accepted)

        offer = MemoryOffer(stream, accept)
        late = (self._patience, *self._nothing(service)) if held else (OFFER_TIMEOUT, *_LATE)
        waiting.append(self._clock.callLater(late[0], offer.refuse, *late[1:]))
        stream.gone.addCallback(lambda _: settled())
        if take is None:
            self._held.setdefault(service, []).append(offer)
        else:
            self._give(offer, take)

    def _give(self, offer: MemoryOffer, take: Take) -> None:
        try:
            take(offer)
        except Exception:
            self._log.failure("a taker of streams failed")
            offer.refuse("refused", "the service failed")

    def _nothing(self, service: str) -> tuple[str, str]:
        return "no-such-service", f"{self.name} has no service {service}"


def joined(
    clock: IReactorTime, delay: float = 0.0, names: tuple[str, str] = ("a", "b")
) -> tuple[MemoryStreams, MemoryStreams]:
    """The streams of two nodes that reach each other."""
    one, other = (MemoryStreams(clock, name, delay) for name in names)
    one.join(other)
    return one, other
