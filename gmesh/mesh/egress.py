# SPDX-License-Identifier: MIT
"""
Packs the frames of one link into records, one write a reactor turn, never far ahead of the socket.

While the transport keeps up, frames go straight into the open record.  After L{WRITE_AHEAD} bytes
the rest waits in the queue until the transport has passed everything on, so that a control frame
never stands behind more than that.  The transport is asked for it with a pull producer, registered
only while something waits: one that stays registered would be polled for ever under TLS.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IPullProducer, IReactorTime
from zope.interface import implementer

from gmesh.interfaces import ISecureTransport
from gmesh.mesh.counters import Counters
from gmesh.mesh.limits import MAX_DATA_FRAME, REKEY_INTERVAL, REKEY_RECORDS, WRITE_AHEAD
from gmesh.mesh.queues import EgressQueue
from gmesh.wire.frames import Kind, pack_frame
from gmesh.wire.limits import MAX_RECORD_PLAINTEXT

__all__ = ["Egress"]


@implementer(IPullProducer)
class Egress:
    """
    The sending half of one link.

    @ivar blocked_since: since when the transport has not taken what was written, or None.
    @ivar drained: called once when everything is written after L{finish}.
    """

    def __init__(self, transport: ISecureTransport, clock: IReactorTime, counters: Counters) -> None:
        self._transport = transport
        self._clock = clock
        self._counters = counters
        self.queue = EgressQueue(counters)
        self.blocked_since: float | None = None
        self._open: list[bytes | memoryview] = []
        self._open_bytes = 0
        self._room = WRITE_AHEAD
        self._call: IDelayedCall | None = None
        self._registering = False
        self._last: bytes | None = None
        self._drained: Callable[[], None] | None = None
        self._records = 0
        self._rekeyed = clock.seconds()
        self._stopped = False

    def control(self, frame: bytes) -> bool:
        """Queue a control frame. @return: False if the queue is full: the link cannot go on."""
        if self._stopped:
            return True
        if not self.queue.push_control(frame):
            return False
        self._arm()
        return True

    def data(self, frame: bytes | memoryview, flow: bytes) -> bool:
        """Send or queue a data frame. @return: False if it was dropped, and counted."""
        size = len(frame)
        if self._stopped or size > MAX_DATA_FRAME:
            self._counters.count("data-link-closed" if self._stopped else "data-too-large")
            return False
        if self._room > 0 and not self.queue.data_bytes:
            self._open.append(frame)
            self._open_bytes += size
            self._room -= size
            if self._call is None:
                self._call = self._clock.callLater(0, self.flush)
            return True
        return self.queue.push_data(frame, flow)

    def flush(self) -> None:
        """Seal and write what is ready, unless the transport still has to pass on the last of it."""
        self._disarm()
        if self._stopped or self.blocked_since is not None:
            return
        while self._room > 0 or self._open:
            control = self.queue.take_control(MAX_RECORD_PLAINTEXT)
            size = sum(map(len, control))
            self._room -= size
            if self.queue.data_bytes and self._room > 0 and not self.queue.control_bytes:
                self._fill()
            if control and size + self._open_bytes > MAX_RECORD_PLAINTEXT:
                self._write(control)
                control = []
            frames: list[bytes | memoryview] = [*control, *self._open]
            if not frames:
                break
            self._open = []
            self._open_bytes = 0
            self._write(frames)
        if self._last is not None and not self.queue:
            self._finished()
        elif self._room <= 0:
            self._wait()

    def finish(self, last: bytes, drained: Callable[[], None]) -> None:
        """Send what waits, then C{last}, then call C{drained}; take nothing more."""
        self._last = last
        self._drained = drained
        if self.blocked_since is None:
            self.flush()

    def stop(self) -> None:
        """Drop everything at once."""
        self._stopped = True
        self._disarm()
        self._resume_none()
        self._open = []
        self._open_bytes = 0
        self.queue.clear()

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
        self.blocked_since = None
        self._room = WRITE_AHEAD
        self.flush()
        if self.blocked_since is None:
            self._resume_none()

    def stopProducing(self) -> None:
        """The connection is lost; its protocol hears of it by other means."""

    def _arm(self) -> None:
        if self._call is None and self.blocked_since is None:
            self._call = self._clock.callLater(0, self.flush)

    def _disarm(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def _fill(self) -> None:
        frames = self.queue.take_data(self._room)
        size = sum(map(len, frames))
        self._open.extend(frames)
        self._open_bytes += size
        self._room -= size

    def _write(self, frames: list[bytes] | list[bytes | memoryview]) -> None:
        self._transport.send_record(b"".join(frames))
        self._records += 1
        if self._records >= REKEY_RECORDS:
            self.rekey_if_due()

    _registered = False

    def _wait(self) -> None:
        self.blocked_since = self._clock.seconds()
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
