# SPDX-License-Identifier: MIT
"""Datagrams that leave: one L{Outbox} a peer, its timer, and what its messages come to."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from gmesh.endtoend import limits
from gmesh.endtoend.lanes import Lanes
from gmesh.endtoend.outbox import Outbox, Outgoing
from gmesh.endtoend.sessions import Sessions
from gmesh.errors import SendRefused
from gmesh.interfaces import IRouteEngine
from gmesh.mesh.peer_identity import Peer
from gmesh.trust.state import TrustState
from gmesh.wire.messages import Outcome, Receipt

__all__ = ["Outbound"]

_DETAILS = {
    "timed-out": "{name} did not acknowledge in time",
    "no-route": "no way to {name} at present",
    "busy": "the receiver of {service} at {name} is busy",
    "no-such-service": "{name} has no receiver for {service}",
    "denied": "{name} denies {service}: its policy forbids it, or it has lost touch with the authority",
    "refused": "the receiver of {service} at {name} refused or failed",
    "too-large": "the message is too large for {name}",
    "revoked": "the node {name} is revoked",
    "expired": "the certificate of {name} has expired and no newer one arrived",
    "cancelled": "the caller gave up",
    "stopped": "this node is stopping",
}


class _Line:
    """All that leaves for one peer."""

    __slots__ = ("outbox", "peer", "timer")

    def __init__(self, peer: Peer, start: int) -> None:
        self.peer = peer
        self.outbox = Outbox(start)
        self.timer: IDelayedCall | None = None


class Outbound:
    """
    What this node sends to every peer.

    @param lanes: what was posted before a message leaves before it.
    @param start: upper half of the numbers of its acknowledged messages.
    """

    def __init__(
        self,
        sessions: Sessions,
        lanes: Lanes,
        trust: TrustState,
        routes: IRouteEngine,
        clock: IReactorTime,
        start: int,
    ) -> None:
        self._sessions = sessions
        self._lanes = lanes
        self._trust = trust
        self._routes = routes
        self._clock = clock
        self._start = start
        self._lines: dict[bytes, _Line] = {}
        self._counters = sessions.counters

    def add(self, peer: Peer, service: str, data: bytes, timeout: float) -> Deferred[float]:
        """
        Send until acknowledged.

        @return: Deferred of the round trip in seconds.
        @raise SendRefused: C{busy}.
        """
        line = self._lines.get(peer.handle)
        if line is None:
            line = self._lines[peer.handle] = _Line(peer, self._start)
        line.peer = peer
        now = self._clock.seconds()
        result: Deferred[float] = Deferred(lambda _: self._finish(line, message, "cancelled"))
        message = Outgoing(service, data, now + timeout, result)
        line.outbox.add(message)
        try:
            self._pump(line, now)
        except SendRefused:
            line.outbox.remove(message)
            raise
        return result

    def receipt(self, peer: Peer, receipt: Receipt) -> None:
        """C{peer} says what became of a message."""
        line = self._lines.get(peer.handle)
        message = line.outbox.flying(receipt.message) if line is not None else None
        if line is None or message is None:
            self._counters["stray-receipt"] += 1
        elif receipt.outcome is Outcome.BUSY:
            message.reason = "busy"
        elif receipt.outcome is Outcome.DELIVERED:
            now = self._clock.seconds()
            elapsed = line.outbox.answered(message, now)
            message.result.callback(elapsed)
            self._pump(line, now)
        else:
            self._finish(line, message, receipt.outcome.slug)
            self._pump(line, self._clock.seconds())

    def ready(self, handle: bytes) -> None:
        """There are keys to seal with."""
        line = self._lines.get(handle)
        if line is not None:
            self._pump(line, self._clock.seconds())

    def bounced(self, handle: bytes, counter: int) -> None:
        """A relay did not pass on the frame with this counter."""
        line = self._lines.get(handle)
        if line is not None:
            now = self._clock.seconds()
            line.outbox.pace.dropped(now)
            if line.outbox.bounced(counter, now) is not None:
                self._arm(line, now)

    def gone(self, handle: bytes, reason: str) -> None:
        """The peer was given up; so are the messages to it, unless new keys would do."""
        line = self._lines.get(handle)
        if line is None:
            return
        if reason not in ("idle", "evicted", "closed"):
            self._fail_all(line, reason)
        elif not len(line.outbox):
            self._close(line)

    def stop(self) -> None:
        """Fail everything."""
        for line in list(self._lines.values()):
            self._fail_all(line, "stopped")

    def _fail_all(self, line: _Line, reason: str) -> None:
        self._close(line)
        for message in line.outbox:
            self._finish(line, message, reason)

    def _close(self, line: _Line) -> None:
        if line.timer is not None and line.timer.active():
            line.timer.cancel()
        if self._lines.get(line.peer.handle) is line:
            del self._lines[line.peer.handle]

    def _finish(self, line: _Line, message: Outgoing, reason: str) -> None:
        line.outbox.remove(message)
        self._counters[f"failed-{reason}"] += 1
        detail = _DETAILS.get(reason, "{name} is not believed any more: " + reason)
        if not message.result.called:
            message.result.errback(
                SendRefused(reason, detail.format(name=line.peer.name, service=message.service))
            )

    def _pump(self, line: _Line, now: float) -> None:
        """Send what the windows allow, if there are keys; ask for keys if there are none."""
        if self._trust.revoked(line.peer.serial, line.peer.node_id):
            self._fail_all(line, "revoked")
            return
        if len(line.outbox) and self._sessions.ready(line.peer):
            self._lanes.flush(line.peer.handle)
            message = line.outbox.next()
            while message is not None:
                self._transmit(line, message, now)
                message = line.outbox.next()
        self._arm(line, now)

    def _transmit(self, line: _Line, message: Outgoing, now: float) -> None:
        counters: list[int] = []
        for frame in message.frames:
            counter = self._sessions.send(line.peer, frame)
            if counter is None:
                line.outbox.pace.dropped(now)
                break
            counters.append(counter)
        if message.reason != "busy":
            no_way = self._routes.path(line.peer.handle, now) is None
            message.reason = "no-route" if no_way else "timed-out"
        line.outbox.sent(message, counters, now)

    def _arm(self, line: _Line, now: float) -> None:
        deadline = line.outbox.deadline()
        if deadline is None:
            return
        delay = max(limits.TIMER_GRAIN, deadline - now)
        if line.timer is None or not line.timer.active():
            line.timer = self._clock.callLater(delay, self._tick, line)
        elif line.timer.getTime() > now + delay:
            line.timer.reset(delay)

    def _tick(self, line: _Line) -> None:
        now = self._clock.seconds()
        for message in line.outbox.overdue(now):
            self._finish(line, message, message.reason)
        if not len(line.outbox):
            return
        try:
            due = line.outbox.due(now)
            if due:
                self._resend(line, due, now)
            self._pump(line, now)
        except SendRefused as refusal:
            self._fail_all(line, refusal.reason)

    def _resend(self, line: _Line, due: Sequence[Outgoing], now: float) -> None:
        if not self._sessions.ready(line.peer):
            for message in due:
                message.due = now + line.outbox.pace.rto
            return
        self._counters["resent"] += len(due)
        if any(not message.hurried for message in due):
            line.outbox.pace.timed_out()
        worst = max(message.tries for message in due)
        if worst == limits.TRIES_BEFORE_BLAME:
            self._sessions.blame(line.peer)
        for message in due:
            self._transmit(line, message, now)
