# SPDX-License-Identifier: MIT
"""
Packs the frames of one link into records, one write per reactor turn, never far ahead of the socket.

Frames wait for the end of the turn, so that one record carries all of them; those sent while records
are received wait only until all of these were read, since that is when the answers are complete.
While the transport keeps up, frames go straight into the open record.  What is written ahead of the
transport is bounded, by time where it is slow; the rest waits in the queue until the transport has
passed everything on, so that a control frame never stands behind more than that.  The transport is
asked for it with a pull producer, when half of what may be written ahead is: so one that keeps up never
makes a sender wait.  It is registered only until then: Twisted's own TLS polls one
that stays, endlessly.
Tests: C{tests/mesh/test_link_sockets.py}, C{tests/mesh/test_local_senders.py}.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IPullProducer, IReactorTime
from zope.interface import implementer

from gmesh.interfaces import ISecureTransport
from gmesh.mesh.capture import Captures
from gmesh.mesh.counters import Counters
from gmesh.mesh.egress_queue import DataRoom, EgressQueue
from gmesh.mesh.limits import (
    AHEAD_FIRST,
    AHEAD_LEAST,
    AHEAD_MOST,
    AHEAD_TIME,
    MAX_DATA_FRAME,
    PACE_WEIGHT,
    RECORD_CLOSE,
    REKEY_INTERVAL,
    REKEY_RECORDS,
    TCP_UNSENT_LOW_WATER,
)
from gmesh.wire.frames import Kind, pack_frame
from gmesh.wire.limits import MAX_RECORD_PLAINTEXT

__all__ = ["Egress"]


@implementer(IPullProducer)
class Egress:
    """
    The sending half of one link.

    @param room: for data that waits, shared by the links of the node.
    @ivar blocked_since: since when the transport has not taken what was written, or None.
    @ivar drained: called once when everything is written after L{finish}.
    """

    def __init__(
        self, transport: ISecureTransport, clock: IReactorTime, counters: Counters, room: DataRoom
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._counters = counters
        self.queue = EgressQueue(counters, room=room)
        self.captures = Captures(clock)
        self.blocked_since: float | None = None
        # Of what may be written ahead, so much is left; of the open record, so much room.  There is room
        # only while nothing is queued and the link lives: the fast path asks nothing else.
        self._ahead = self._left = AHEAD_FIRST
        self._unsent = TCP_UNSENT_LOW_WATER
        self._room = RECORD_CLOSE
        self._open: list[bytes | memoryview] = []
        self._call: IDelayedCall | None = None
        self._armed = False
        self._registering = False
        self._last: bytes | None = None
        self._drained: Callable[[], None] | None = None
        self._records = 0
        self._rekeyed = self._began = clock.seconds()
        self._stopped = False

    def control(self, frame: bytes) -> bool:
        """Queue a control frame. @return: False if the queue is full: the link cannot go on."""
        if self._stopped:
            return True
        if not self.queue.push_control(frame):
            return False
        if not self._armed:
            self._arm()
        return True

    def data(self, frame: bytes, flow: bytes, rest: bytes | memoryview = b"") -> bool:
        """
        Send or queue a data frame.

        @param rest: the end of it, where that is large and elsewhere: it is copied into a record only.
        @return: False if it was dropped, and counted.
        """
        size = len(frame) + len(rest)
        if size > self._room > 0 and self._open:
            self._proceed()
        if self._room > 0 and size <= MAX_DATA_FRAME:
            self._open += (frame, rest)
            self._room -= size
            if self._room <= 0:
                self._proceed()
            elif not self._armed:
                self._arm()
            return True
        closed = self._stopped or self._last is not None
        if closed or size > MAX_DATA_FRAME:
            self._counters.count("data-link-closed" if closed else "data-too-large")
            return False
        return self.queue.push_data(b"".join((frame, rest)), flow, self._clock.seconds())

    def hold(self) -> bool:
        """
        Several frames follow, such as the answers to what was received: they leave with L{release}.

        @return: False if they leave at another end, which comes later.
        """
        began, self._armed = not self._armed, True
        return began

    def release(self) -> None:
        """All are here: they wait for the reactor no longer."""
        if self._call is None:
            self._armed = False
            if self._open or self.queue:
                self.flush()

    def flush(self) -> None:
        """Seal and write what is ready, unless the transport still has to pass on the last of it."""
        self._disarm()
        if self._stopped or self.blocked_since is not None:
            return
        self._proceed()
        if self._last is not None and not self.queue:
            self._finished()

    def finish(self, last: bytes, drained: Callable[[], None]) -> None:
        """Send what is queued, then C{last}, then call C{drained}; take nothing more."""
        self._last = last
        self._drained = drained
        self.queue.stop_senders()
        if self.blocked_since is None:
            self.flush()

    def stop(self) -> None:
        """Drop everything at once."""
        self._stopped = True
        self._disarm()
        self._resume_none()
        self._room = 0
        self._open = []
        self.queue.clear()
        self.queue.stop_senders()

    def part(self, last: bytes) -> None:
        """Drop everything, but write C{last} if the transport is keeping up."""
        self._disarm()
        if self.blocked_since is None and not self._stopped:
            self._transport.send_record(last)
        self.stop()

    def rekey_if_due(self) -> None:
        """Announce and switch the outbound key after so many records or so long."""
        if self._records == 0 or self._stopped:
            return
        if self._records >= REKEY_RECORDS or self._clock.seconds() >= self._rekeyed + REKEY_INTERVAL:
            self._records = 0
            self._rekeyed = self._clock.seconds()
            self._transport.send_record(pack_frame(Kind.REKEY))
            self._transport.rekey_outbound()

    # IPullProducer

    def resumeProducing(self) -> None:
        """The transport has passed everything on."""
        if self._registering or self._stopped:
            return
        if self._left < self._ahead:
            self._adapt()
        self.blocked_since = None
        self._left = self._ahead
        self.flush()
        self.queue.resume_senders()
        self.flush()
        if self.blocked_since is None:
            self._resume_none()

    def stopProducing(self) -> None:
        """The connection is lost; its protocol hears of it by other means."""

    def _arm(self) -> None:
        if self.blocked_since is None:
            self._armed = True
            self._call = self._clock.callLater(0, self.flush)

    def _disarm(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
        self._armed = False

    def _adapt(self) -> None:
        """Slower than before counts at once, faster gradually; a trickle is slow too."""
        queue, now = self.queue, self._clock.seconds()
        pace = (now - self._began) / (self._ahead - self._left)
        self._began = now
        queue.pace = max(pace, queue.pace + PACE_WEIGHT * (pace - queue.pace))
        ahead = self._ahead = max(AHEAD_LEAST, min(AHEAD_MOST, int(AHEAD_TIME / (queue.pace or 1e-9))))
        if not self._unsent < 2 * ahead < 4 * self._unsent:
            self._unsent = ahead
            self._transport.keep_unsent(ahead)

    def _proceed(self) -> None:
        """Write records while there is something to write, and it may be written."""
        while self._left > 0 and (self._open or self.queue):
            self._write_record()
        if self._left > 0:
            self._room = min(self._left, RECORD_CLOSE)
            if self._left < self._ahead // 2:
                self._ask()
        else:
            self._room = 0
            self.blocked_since = self._clock.seconds()
            self._ask()

    def _write_record(self) -> None:
        """One record, control first; two where control alone nearly fills one."""
        queue = self.queue
        control = b"".join(queue.take_control(MAX_RECORD_PLAINTEXT))
        frames, self._open = self._open, []
        if queue.data_bytes and not queue.control_bytes:
            frames += queue.take_data(min(self._left, RECORD_CLOSE) - len(control))
        data = b"".join(frames)
        self._left -= len(control) + len(data)
        if control and len(control) + len(data) > MAX_RECORD_PLAINTEXT:
            self._seal(control)
            control = b""
        self._seal(control + data if control else data)

    def _seal(self, plaintext: bytes) -> None:
        self._transport.send_record(plaintext)
        if self.captures.active:
            self.captures.record(True, plaintext)
        self._records += 1
        if self._records >= REKEY_RECORDS:
            self.rekey_if_due()

    _registered = False

    def _ask(self) -> None:
        """Have L{resumeProducing} called when the transport has passed everything on."""
        if not self._registered:
            # Right after a write the transport has something to pass on, so it will call again;
            # the call that registering itself makes says nothing.
            self._registered = self._registering = True
            self._transport.registerProducer(self, False)
            self._registering = False

    def _resume_none(self) -> None:
        if self._registered:
            self._registered = False
            self._transport.unregisterProducer()

    def _finished(self) -> None:
        last, drained = self._last, self._drained
        assert last is not None and drained is not None
        self._transport.send_record(last)
        self.stop()
        drained()
