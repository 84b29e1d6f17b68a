# SPDX-License-Identifier: MIT
"""The reserved service C{_echo}: the round trip to a node, and to each hop on the path to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from gmesh.endtoend import limits
from gmesh.endtoend.datagrams import Datagrams
from gmesh.endtoend.path_selector import PathSelector
from gmesh.endtoend.services import Message, Registration
from gmesh.errors import FrameRefused, SendRefused
from gmesh.mesh.members import MemberDirectory
from gmesh.token_bucket import ClaimGate, Rate
from gmesh.wire.messages import EchoMessage

__all__ = ["ECHO_SERVICE", "EchoService", "Hop"]

ECHO_SERVICE = "_echo"
_ALL = Rate(limits.ECHO_RATE, limits.ECHO_BURST)
_EACH = Rate(limits.ECHO_PEER_RATE, limits.ECHO_PEER_BURST)
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Hop:
    """
    A node on the path.

    @ivar handle: its routing handle, hex.
    @ivar name: its name, or the handle in hex if no certificate of it is held here.
    @ivar rtt: seconds there and back, over this node's own path to it; None if it did not answer.
    @ivar reason: why it did not.
    """

    handle: str
    name: str
    rtt: float | None
    reason: str | None


@dataclass(slots=True)
class _Ping:
    node: str
    result: Deferred[float]
    deadline: float
    node_id: str = ""
    waits: bool = False
    again: IDelayedCall | None = None


class EchoService:
    """
    Answers pings, and asks others.

    @param directory: the members that are known here.
    @param entropy: as C{os.urandom}.
    """

    def __init__(
        self,
        *,
        datagrams: Datagrams,
        paths: PathSelector,
        directory: MemberDirectory,
        clock: IReactorTime,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._datagrams = datagrams
        self._paths = paths
        self._directory = directory
        self._clock = clock
        self._entropy = entropy
        self._pings: dict[int, _Ping] = {}
        self._gate = ClaimGate(_ALL, _EACH, clock.seconds())
        self._registration: Registration | None = None

    def start(self) -> None:
        """Answer from now on."""
        self._registration = self._datagrams.register(ECHO_SERVICE, self._received, reserved=True)

    def stop(self) -> None:
        """Answer no more; what is under way fails."""
        if self._registration is not None:
            self._registration.unregister()
            self._registration = None
        for nonce in list(self._pings):
            self._fail(nonce, SendRefused("stopped", "this node is stopping"))

    def ping(self, node: str, timeout: float = limits.PING_TIMEOUT) -> Deferred[float]:
        """
        Ask until answered; the round trip is that of the question the answer belongs to.

        @return: Deferred of seconds; fails with L{SendRefused}.
        """
        nonce = int.from_bytes(self._entropy(8), "big")
        result: Deferred[float] = Deferred(lambda _: self._drop(nonce))
        self._pings[nonce] = _Ping(node, result, self._clock.seconds() + timeout)
        self._datagrams.seek(node, timeout).addCallback(lambda _: self._ask(nonce))
        return result

    def trace(self, node: str, timeout: float = limits.PING_TIMEOUT) -> Deferred[tuple[Hop, ...]]:
        """
        Ask every node on the path to C{node} at once.

        @return: Deferred of the nodes after this one; fails with L{SendRefused} if there is no path.
        """
        deadline = self._clock.seconds() + timeout
        return self._datagrams.seek(node, timeout).addCallback(lambda _: self._trace(node, deadline))

    def _trace(self, node: str, deadline: float) -> Deferred[tuple[Hop, ...]]:
        own = self._datagrams.own
        try:
            target = self._datagrams.admit(node, ECHO_SERVICE)
        except SendRefused as refusal:
            return fail(refusal)
        path: tuple[bytes, ...] | None = (own.handle,)
        if target.handle != own.handle:
            path = self._paths.route(target.handle, self._clock.seconds())
        if path is None:
            return fail(SendRefused("no-route", f"no path to {node} at present"))
        left = deadline - self._clock.seconds()
        hops = [self._hop(handle, left) for handle in path[1:]]
        return gatherResults(hops, consumeErrors=True).addCallback(tuple)

    def _hop(self, handle: bytes, timeout: float) -> Deferred[Hop]:
        peer = self._directory.find_handle(handle)
        shown = handle.hex()
        if peer is None:
            return succeed(Hop(shown, shown, None, "unknown-node"))
        name = peer.name

        def refused(failure: Failure) -> Hop:
            if not isinstance(failure.value, SendRefused):
                failure.raiseException()
            return Hop(shown, name, None, failure.value.reason)

        asked = self.ping(name, timeout).addCallback(lambda rtt: Hop(shown, name, rtt, None))
        return asked.addErrback(refused)

    def _ask(self, nonce: int) -> None:
        ping = self._pings.get(nonce)
        if ping is None:
            return
        self._quiet(ping)
        now = self._clock.seconds()
        if now >= ping.deadline:
            self._fail(nonce, SendRefused("timed-out", f"{ping.node} did not answer in time"))
            return
        ping.again = self._clock.callLater(min(limits.PING_INTERVAL, ping.deadline - now), self._ask, nonce)
        try:
            peer = self._datagrams.admit(ping.node, ECHO_SERVICE)
            then = None if ping.waits else lambda: self._ask(nonce)
            if peer.handle != self._datagrams.own.handle and not self._datagrams.prepare(peer, then):
                ping.waits = True
                return
            ping.waits = False
            ping.node_id = peer.node_id
            question = EchoMessage(False, nonce, int(now * _MICROSECONDS))
            self._datagrams.post(ping.node, ECHO_SERVICE, question.encode())
        except SendRefused as refusal:
            if refusal.reason != "busy" and nonce in self._pings:
                self._fail(nonce, refusal)

    def _received(self, message: Message) -> None:
        try:
            echo = EchoMessage.decode(message.data)
        except FrameRefused as refusal:
            raise SendRefused("refused", refusal.detail) from refusal
        if echo.reply:
            ping = self._pings.get(echo.nonce)
            if ping is not None and ping.node_id == message.source_id:
                self._drop(echo.nonce)
                ping.result.callback(max(0.0, self._clock.seconds() - echo.stamp / _MICROSECONDS))
            return
        if not self._gate.admits(message.source_id.encode("ascii"), self._clock.seconds()):
            self._datagrams.counters["echo-flood"] += 1
            return
        answer = EchoMessage(True, echo.nonce, echo.stamp, echo.padding)
        try:
            self._datagrams.post(message.source_name, ECHO_SERVICE, answer.encode())
        except SendRefused:
            self._datagrams.counters["echo-unanswered"] += 1

    def _drop(self, nonce: int) -> None:
        ping = self._pings.pop(nonce, None)
        if ping is not None:
            self._quiet(ping)

    def _quiet(self, ping: _Ping) -> None:
        if ping.again is not None and ping.again.active():
            ping.again.cancel()

    def _fail(self, nonce: int, refusal: SendRefused) -> None:
        ping = self._pings[nonce]
        self._drop(nonce)
        ping.result.errback(refusal)
