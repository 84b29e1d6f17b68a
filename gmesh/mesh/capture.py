# SPDX-License-Identifier: MIT
"""
A look at one link: the headers of the frames that pass, never what they carry.

Costs nothing until it is asked for, then a look at each record; ends by itself after so many frames
or seconds, or with the link.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from gmesh.errors import FrameRefused
from gmesh.wire.frames import Kind, is_data, iter_frames
from gmesh.wire.paths import PathHeader, read_path

__all__ = ["Capture", "Captures", "FrameTrace"]

_NAMES = {int(kind): kind.name for kind in Kind}


@dataclass(frozen=True, slots=True)
class FrameTrace:
    """
    One frame as it was seen.

    @ivar at: seconds since the capture began.
    @ivar sent: True if this node sent it.
    @ivar kind: the name of its kind, or the number where it has none.
    @ivar size: bytes of the whole frame.
    @ivar header: the path header of a data frame, which relays read.
    """

    at: float
    sent: bool
    kind: str
    size: int
    header: PathHeader | None = None


class Capture:
    """
    Looks at records in clear and keeps what their frame headers say.

    @param count: how many frames to keep.
    @ivar done: fires with the traces.
    """

    def __init__(
        self, clock: IReactorTime, seconds: float, count: int, ended: Callable[[Capture], None]
    ) -> None:
        self._clock = clock
        self._began = clock.seconds()
        self._count = count
        self._ended = ended
        self._traces: list[FrameTrace] = []
        self._timer = clock.callLater(seconds, self.end)
        self.done: Deferred[list[FrameTrace]] = Deferred(lambda cancelled: self._stop())

    def record(self, sent: bool, record: bytes | bytearray | memoryview) -> None:
        """One record passed, in clear."""
        at = self._clock.seconds() - self._began
        try:
            frames = iter_frames(record)
        except FrameRefused:
            return
        for kind, start, end in frames:
            if len(self._traces) < self._count:
                header = _header(kind, record, start, end)
                self._traces.append(FrameTrace(at, sent, _NAMES.get(kind, str(kind)), end - start, header))
        if len(self._traces) == self._count:
            self.end()

    def end(self) -> None:
        """Enough: hand over what was seen. May be called twice."""
        if not self.done.called:
            self._stop()
            self.done.callback(self._traces)

    def _stop(self) -> None:
        if self._timer.active():
            self._timer.cancel()
        self._ended(self)


class Captures:
    """
    Those who look at one link.

    @ivar active: empty most of the time, so asked before anything else is done.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.active: list[Capture] = []

    def start(self, seconds: float, count: int) -> Deferred[list[FrameTrace]]:
        """The headers of the next C{count} frames, or of those within C{seconds} or until L{end}."""
        capture = Capture(self._clock, seconds, count, self.active.remove)
        self.active.append(capture)
        return capture.done

    def record(self, sent: bool, record: bytes | bytearray | memoryview) -> None:
        """One record passed, in clear."""
        for capture in tuple(self.active):
            capture.record(sent, record)

    def end(self) -> None:
        """The link is gone."""
        for capture in tuple(self.active):
            capture.end()


def _header(kind: int, record: bytes | bytearray | memoryview, start: int, end: int) -> PathHeader | None:
    if not is_data(kind):
        return None
    try:
        return read_path(record, start, end)[0]
    except FrameRefused:
        return None
