# SPDX-License-Identifier: MIT
"""
Targets, and dials to them: few at once, each with a deadline, the end of each reported exactly once.

Tests: C{tests/mesh/test_dialler.py}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from enum import Enum

from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from gmesh.errors import CarrierRefused
from gmesh.mesh.limits import DIAL_DEADLINE, DIALS_AT_ONCE
from gmesh.mesh.noise import DialObserver
from gmesh.mesh.peer_identity import Peer
from gmesh.mesh.spaced_log import SpacedLog
from gmesh.mesh.timers import cancel_calls
from gmesh.mesh.ways import Ways
from gmesh.trust.address_scope import Scope, ShunnedHosts

__all__ = [
    "CERTIFICATE_REFUSALS",
    "Dial",
    "DialOwner",
    "DialTarget",
    "Dials",
    "TargetState",
    "may_help",
]


WHY_LIMIT = 500
"""Characters of what a failed dial was told: hosts of others have written some of them."""
DIALS_TOLD_APART = 16
"""Addresses of which failed dials are logged apart: records tell of as many as their origins like."""

CERTIFICATE_REFUSALS = frozenset(
    {
        "bad-certificate",
        "bad-genesis",
        "bad-key",
        "bad-signature",
        "expired",
        "handshake-failed",
        "key-mismatch",
        "not-admitted",
        "not-yet-valid",
        "revoked",
        "unknown-key",
        "unspecified",
        "version",
        "wrong-network",
    }
)
"""Reasons that stay until some document changes: asking again at once is useless."""


def may_help(kind: str, reason: str) -> bool:
    """Whether a change of the documents of this kind makes it worth asking again after that refusal."""
    return reason != "revoked" or kind in ("crl", "certificate")


class TargetState(Enum):
    """What the dialler is doing about a target."""

    WAITING = "waiting"
    QUEUED = "queued"
    DIALLING = "dialling"
    LINKED = "linked"
    REFUSED = "refused"
    OURSELVES = "ourselves"
    SPARE = "spare"
    STOPPED = "stopped"


class DialTarget:
    """
    One address and what came of it.

    @ivar reason: why the last dial or link ended, for C{gmesh doctor}.
    @ivar why: what the last dial that did not connect was told; empty since it led to a link.
    @ivar handle: of the node that answered last.
    @ivar reached: the address that the last connection led to; of a name it is one of several.
    @ivar ourselves: addresses of its host that led back to this node, and are left out of the next dial.
    @ivar bound: the nearest that it may lead to; of a name it is asked of each address.
    @ivar insist: dial even if there is a link to that node.
    @ivar spare: dial only while there are too few links.
    @ivar news: the kinds of documents that changed since its dial under way began.
    @ivar garbled: handshakes in a row that did not come out: one may be a byte that changed on the way.
    @ivar suite_turn: which of the allowed suites to propose: the first, until a peer hung up on it.
    """

    def __init__(self, address: str, spare: bool = False, bound: Scope = Scope.ANY) -> None:
        self.address = address
        self.bound = bound
        self.spare = spare
        self.garbled = 0
        self.suite_turn = 0
        self.state = TargetState.WAITING
        self.reason = ""
        self.why = ""
        self.handle: bytes | None = None
        self.reached = ""
        self.ourselves: set[str] = set()
        self.failures = 0
        self.insist = False
        self.news: set[str] = set()
        self.linked_at = 0.0
        self.timer: IDelayedCall | None = None
        self.dial: Dial | None = None

    @property
    def avoided(self) -> Collection[str]:
        """Addresses of its host that are not dialled."""
        ourselves = frozenset(self.ourselves)
        return ourselves if self.bound is Scope.ANY else ShunnedHosts(ourselves, self.bound)

    def cancel(self) -> None:
        """Forget the timer."""
        cancel_calls(self.timer)
        self.timer = None


class DialOwner:
    """Decides what to dial, and acts on the outcomes: L{gmesh.mesh.dialler.Dialler}."""

    def linked(self, dial: Dial, peer: Peer) -> None:
        """This dial led to a link."""

    def ended(self, dial: Dial, reason: str, peer: Peer | None) -> None:
        """It ended, whether or not it led to a link; called exactly once."""


class Dial(DialObserver):
    """One attempt, from the first packet to the end of the connection."""

    def __init__(self, dials: Dials, target: DialTarget) -> None:
        self._dials = dials
        self.target = target
        self.pending: Deferred[IProtocol] | None = None
        self.timer: IDelayedCall | None = None
        self.protocol: IProtocol | None = None
        self.endpoint: IStreamClientEndpoint | None = None
        self.counted = True

    def judge(self, good: bool) -> None:
        """It led to a link, or to none: which way to go the next time."""
        if isinstance(self.endpoint, Ways):
            self.endpoint.judge(good)

    @property
    def suite_turn(self) -> int:
        """@see: L{DialObserver.suite_turn}"""
        return self.target.suite_turn

    def linked(self, peer: Peer) -> None:
        """@see: L{DialObserver.linked}"""
        self._dials.linked(self, peer)

    def ended(self, reason: str, peer: Peer | None) -> None:
        """@see: L{DialObserver.ended}"""
        self._dials.ended(self, reason, peer)


class Dials:
    """
    The dials of one node.

    @ivar busy: how many have neither led to a link nor ended.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        connect: Callable[[str, Collection[str]], IStreamClientEndpoint],
        factory: Callable[[DialObserver], IProtocolFactory],
        owner: DialOwner,
    ) -> None:
        self._clock = clock
        self._lines = SpacedLog(DIALS_TOLD_APART)
        self._connect = connect
        self._factory = factory
        self._owner = owner
        self._queue: deque[DialTarget] = deque()
        self._pumping = False
        self.busy = 0

    def push(self, target: DialTarget) -> None:
        """Dial this target when it is its turn, unless its state is no longer C{QUEUED} then."""
        self._queue.append(target)
        self._pump()

    def give_up(self, dial: Dial) -> None:
        """Its outcome is not needed any more."""
        if dial.pending is not None:
            dial.pending.cancel()
        elif dial.protocol is not None:
            _abort(dial.protocol)

    # from dials

    def linked(self, dial: Dial, peer: Peer) -> None:
        """@see: L{DialOwner.linked}"""
        self._release(dial)
        dial.judge(True)
        dial.target.why = ""
        self._owner.linked(dial, peer)
        self._pump()

    def ended(self, dial: Dial, reason: str, peer: Peer | None) -> None:
        """@see: L{DialOwner.ended}"""
        if dial.counted and dial.protocol is not None and reason not in ("duplicate", "self"):
            dial.judge(False)
        self._release(dial)
        self._owner.ended(dial, reason, peer)
        self._pump()

    def _pump(self) -> None:
        """One loop, also for dials that end at once: how many there are is for others to say."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._queue and self.busy < DIALS_AT_ONCE:
                target = self._queue.popleft()
                if target.state is TargetState.QUEUED:
                    self._dial(target)
        finally:
            self._pumping = False

    def _dial(self, target: DialTarget) -> None:
        dial = target.dial = Dial(self, target)
        target.state = TargetState.DIALLING
        self.busy += 1
        try:
            endpoint = self._connect(target.address, target.avoided)
            dial.endpoint = endpoint
            pending = endpoint.connect(self._factory(dial))
        except (
            Exception
        ) as error:  # a target is text from outside: whatever is wrong with it concerns it alone
            self._not_connected(Failure(error), dial)
            return
        dial.pending = pending
        dial.timer = self._clock.callLater(DIAL_DEADLINE, pending.cancel)
        pending.addCallbacks(self._connected, self._not_connected, callbackArgs=(dial,), errbackArgs=(dial,))

    def _connected(self, protocol: IProtocol, dial: Dial) -> None:
        self._settle(dial)
        dial.protocol = protocol
        transport = getattr(protocol, "transport", None)
        if transport is not None:
            dial.target.reached = str(getattr(transport.getPeer(), "host", ""))
        if dial.target.dial is not dial and dial.counted:
            _abort(protocol)

    def _not_connected(self, failure: Failure, dial: Dial) -> None:
        self._settle(dial)
        dial.target.why = failure.getErrorMessage()[:WHY_LIMIT]
        self._lines.write(
            self.log.info,
            self._clock.seconds(),
            "dial-failed",
            dial.target.address,
            "Could not connect to {target}: {reason}",
            target=dial.target.address,
            reason=failure.getErrorMessage(),
        )
        nobody_else = bool(dial.target.ourselves) and failure.check(DNSLookupError) is not None
        error = failure.value
        reason = error.reason if isinstance(error, CarrierRefused) else "connect-failed"
        self.ended(dial, "self" if nobody_else else reason, None)

    def _settle(self, dial: Dial) -> None:
        dial.pending = None
        cancel_calls(dial.timer)
        dial.timer = None

    def _release(self, dial: Dial) -> None:
        if dial.counted:
            dial.counted = False
            self.busy -= 1


def _abort(protocol: IProtocol) -> None:
    abort = getattr(protocol, "abort", None)
    if abort is not None:
        abort()
