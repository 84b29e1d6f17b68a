# SPDX-License-Identifier: MIT
"""
All that can come due on one link, behind one timer: too late, expired, stuck, silent, rekey.

The expiry of the certificate is a wall-clock time, everything else runs on the reactor's clock.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from gmesh.mesh.egress import Egress
from gmesh.mesh.limits import BLOCKED_DEADLINE
from gmesh.mesh.liveness import Liveness, Verdict
from gmesh.trust.limits import CERTIFICATE_LEEWAY

__all__ = ["Alarm", "Watch"]


class Alarm(Enum):
    """What came due."""

    EXPIRED = "expired"
    LATE = "handshake-timeout"
    STUCK = "stuck"
    DEAD = "dead"
    SUSPECT = "suspect"
    PING = "ping"


_VERDICTS = {Verdict.DEAD: Alarm.DEAD, Verdict.SUSPECT: Alarm.SUSPECT, Verdict.PING: Alarm.PING}


class Watch:
    """
    The timer of one link.

    @param deadline: by when the link must be L{up}.
    @param alarm: called with what came due; it may L{stop} this.
    @ivar not_after: when the peer's certificate ends, Unix seconds.
    """

    def __init__(
        self,
        clock: IReactorTime,
        wall: Callable[[], float],
        liveness: Liveness,
        egress: Egress,
        deadline: float,
        not_after: int,
        alarm: Callable[[Alarm], None],
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._liveness = liveness
        self._egress = egress
        self._deadline: float | None = deadline
        self._alarm = alarm
        self._timer: IDelayedCall | None = None
        self._stopped = False
        self.not_after = not_after

    def up(self) -> None:
        """The link exists: from now on it has to show signs of life."""
        self._deadline = None

    def start(self) -> None:
        """Set the timer, or set it again because something changed."""
        self._cancel()
        if self._stopped:
            return
        now = self._clock.seconds()
        due = self._liveness.due() if self._deadline is None else self._deadline
        if self._egress.blocked_since is not None:
            due = min(due, self._egress.blocked_since + BLOCKED_DEADLINE)
        ends = now + self.not_after + CERTIFICATE_LEEWAY - self._wall()
        self._timer = self._clock.callLater(max(0.0, min(due, ends) - now), self._ring)

    def stop(self) -> None:
        """For good."""
        self._stopped = True
        self._cancel()

    def _cancel(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _ring(self) -> None:
        self._timer = None
        alarm = self._due(self._clock.seconds())
        if alarm is not None:
            self._alarm(alarm)
        self.start()

    def _due(self, now: float) -> Alarm | None:
        blocked = self._egress.blocked_since
        if self._wall() >= self.not_after + CERTIFICATE_LEEWAY:
            return Alarm.EXPIRED
        if self._deadline is not None:
            return Alarm.LATE if now >= self._deadline else None
        if blocked is not None and now >= blocked + BLOCKED_DEADLINE:
            return Alarm.STUCK
        self._egress.rekey_if_due()
        return _VERDICTS.get(self._liveness.verdict(now))
