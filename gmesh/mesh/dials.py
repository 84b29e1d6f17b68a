# SPDX-License-Identifier: MIT
"""Attempts to reach targets: few at once, each with a deadline, each told of exactly once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol as Shape

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from gmesh.mesh.limits import DIAL_DEADLINE, DIALS_AT_ONCE
from gmesh.mesh.noise_context import Attempt
from gmesh.mesh.peer_identity import Peer
from gmesh.mesh.targets import Target, TargetState

__all__ = ["Dial", "Dials", "Outcome"]


class Outcome(Shape):
    """Who decides what to dial: L{gmesh.mesh.dialler.Dialler}."""

    def linked(self, dial: Dial, peer: Peer) -> None:
        """This dial led to a link."""

    def ended(self, dial: Dial, reason: str, peer: Peer | None) -> None:
        """It is over, whether or not it ever did; called exactly once."""


class Dial:
    """One attempt, from the first packet to the end of the connection: an L{Attempt}."""

    def __init__(self, dials: Dials, target: Target[Dial]) -> None:
        self._dials = dials
        self.target = target
        self.pending: Deferred[IProtocol] | None = None
        self.timer: IDelayedCall | None = None
        self.protocol: IProtocol | None = None
        self.counted = True

    @property
    def suite_turn(self) -> int:
        """@see: L{Attempt.suite_turn}"""
        return self.target.suite_turn

    def linked(self, peer: Peer) -> None:
        """@see: L{Attempt.linked}"""
        self._dials.linked(self, peer)

    def ended(self, reason: str, peer: Peer | None) -> None:
        """@see: L{Attempt.ended}"""
        self._dials.ended(self, reason, peer)


class Dials:
    """
    The attempts of one node.

    @ivar busy: how many have neither led to a link nor ended.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        connect: Callable[[str], IStreamClientEndpoint],
        factory: Callable[[Attempt], IProtocolFactory],
        outcome: Outcome,
    ) -> None:
        self._clock = clock
        self._connect = connect
        self._factory = factory
        self._outcome = outcome
        self._queue: deque[Target[Dial]] = deque()
        self._pumping = False
        self.busy = 0

    def push(self, target: Target[Dial]) -> None:
        """Dial this target when it is its turn, unless its state is no longer C{QUEUED} then."""
        self._queue.append(target)
        self._pump()

    def give_up(self, dial: Dial) -> None:
        """Nobody wants the outcome any more."""
        if dial.pending is not None:
            dial.pending.cancel()
        elif dial.protocol is not None:
            _abort(dial.protocol)

    # from dials

    def linked(self, dial: Dial, peer: Peer) -> None:
        """@see: L{Outcome.linked}"""
        self._release(dial)
        self._outcome.linked(dial, peer)
        self._pump()

    def ended(self, dial: Dial, reason: str, peer: Peer | None) -> None:
        """@see: L{Outcome.ended}"""
        self._release(dial)
        self._outcome.ended(dial, reason, peer)
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

    def _dial(self, target: Target[Dial]) -> None:
        dial = target.dial = Dial(self, target)
        target.state = TargetState.DIALLING
        self.busy += 1
        try:
            pending = self._connect(target.address).connect(self._factory(dial))
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
        if dial.target.dial is not dial and dial.counted:
            _abort(protocol)

    def _not_connected(self, failure: Failure, dial: Dial) -> None:
        self._settle(dial)
        self.log.info(
            "Could not connect to {target}: {reason}",
            target=dial.target.address,
            reason=failure.getErrorMessage(),
        )
        self.ended(dial, "connect-failed", None)

    def _settle(self, dial: Dial) -> None:
        dial.pending = None
        if dial.timer is not None and dial.timer.active():
            dial.timer.cancel()
        dial.timer = None

    def _release(self, dial: Dial) -> None:
        if dial.counted:
            dial.counted = False
            self.busy -= 1


def _abort(protocol: IProtocol) -> None:
    abort = getattr(protocol, "abort", None)
    if abort is not None:
        abort()
