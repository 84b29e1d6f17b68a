# SPDX-License-Identifier: MIT
"""
Whether a neighbour still answers, and the one timer of a link, behind which all that can come due stands.

L{Liveness} is sans-IO: events and C{now} in, what is due out.  The expiry of the certificate is a
wall-clock time, everything else runs on the reactor's clock.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from random import Random

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from gmesh.mesh.egress import Egress
from gmesh.mesh.limits import BLOCKED_DEADLINE, RTT_REFRESH, RTT_WEIGHT, KeepaliveProfile
from gmesh.mesh.timers import cancel_calls
from gmesh.trust.limits import CERTIFICATE_LEEWAY
from gmesh.wire.frames import Kind
from gmesh.wire.limits import FRAME_HEADER
from gmesh.wire.messages import Ping, Pong

__all__ = ["Alarm", "LinkTimers", "Liveness", "Pinger"]


class Alarm(Enum):
    """What came due."""

    EXPIRED = "expired"
    LATE = "handshake-timeout"
    STUCK = "stuck"
    DEAD = "dead"
    SUSPECT = "suspect"
    PING = "ping"


class Liveness:
    """
    One neighbour's signs of life.

    @ivar rtt: smoothed round trip in seconds, or None.
    @ivar suspect: a PONG is missing; the next sign of life ends it.
    """

    def __init__(self, profile: KeepaliveProfile, random: Random, now: float) -> None:
        self._profile = profile
        self._random = random
        self._heard = now
        self._asked: float | None = None
        self._give_up: float | None = None
        self._sampled = now - RTT_REFRESH
        self._next = now
        self._interval = 0.0
        self.rtt: float | None = None
        self.suspect = False

    def heard(self, now: float) -> None:
        """Any frame counts as life."""
        self._heard = now
        self._asked = self._give_up = None
        self.suspect = False

    def asked(self, now: float) -> None:
        """A PING was sent."""
        if self._asked is None:
            self._asked = now
        profile = self._profile
        self._interval = profile.ping_after * (1 + self._random.uniform(-profile.jitter, profile.jitter))
        self._next = now + self._interval

    def answered(self, sent: float, now: float) -> None:
        """The PONG to the PING sent at C{sent} came."""
        sample = max(0.0, now - sent)
        self.rtt = sample if self.rtt is None else self.rtt + RTT_WEIGHT * (sample - self.rtt)
        self._sampled = now

    def probe(self, now: float) -> None:
        """The link may be dead: it has a PONG's time to show that it is not. The caller sends a PING."""
        self._give_up = now + self._profile.pong_within

    def verdict(self, now: float) -> Alarm | None:
        """What is due at C{now}: C{DEAD}, C{SUSPECT}, C{PING} or nothing."""
        profile = self._profile
        if now >= self._heard + profile.dead_after or (self._give_up is not None and now >= self._give_up):
            return Alarm.DEAD
        if self._asked is not None and not self.suspect and now >= self._asked + profile.pong_within:
            self.suspect = True
            return Alarm.SUSPECT
        return Alarm.PING if now >= self._ping_at() else None

    def due(self) -> float:
        """The time at which L{verdict} has something new to say, if nothing happens before."""
        due = min(self._heard + self._profile.dead_after, self._ping_at())
        if self._give_up is not None:
            due = min(due, self._give_up)
        if self._asked is not None and not self.suspect:
            due = min(due, self._asked + self._profile.pong_within)
        return due

    def _ping_at(self) -> float:
        return max(self._next, min(self._heard + self._interval, self._sampled + RTT_REFRESH))


class Pinger:
    """
    PING and PONG of one link: what is asked, answered and learnt of the round trip.

    @param send: queues a control frame on the link: kind, body.
    """

    def __init__(
        self, clock: IReactorTime, random: Random, liveness: Liveness, send: Callable[[int, bytes], None]
    ) -> None:
        self._clock = clock
        self._random = random
        self._liveness = liveness
        self._send = send
        self._nonce = -1
        self._sent = 0.0

    def ask(self) -> None:
        """Send a PING."""
        now = self._sent = self._clock.seconds()
        self._nonce = self._random.getrandbits(64)
        self._send(Kind.PING, Ping(self._nonce, int(now * 1_000_000)).encode())
        self._liveness.asked(now)

    def ping_received(self, kind: int, record: memoryview, start: int, end: int) -> None:
        """Answer."""
        ping = Ping.decode(record[start + FRAME_HEADER : end])
        self._send(Kind.PONG, Pong(ping.nonce, ping.stamp).encode())

    def pong_received(self, kind: int, record: memoryview, start: int, end: int) -> None:
        """The answer to the newest PING shows the round trip."""
        if Pong.decode(record[start + FRAME_HEADER : end]).nonce == self._nonce:
            self._liveness.answered(self._sent, self._clock.seconds())


class LinkTimers:
    """
    All that can come due on one link, behind one timer: too late, expired, stuck, silent, rekey.

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
        cancel_calls(self._timer)
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
        return self._liveness.verdict(now)
