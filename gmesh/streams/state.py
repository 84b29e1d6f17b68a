# SPDX-License-Identifier: MIT
"""
What the frames of one stream do, at either end: two halves, the credit of each, and how they end.

L{gmesh.streams.stream.Stream} is the transport that applications see of it.
Tests: C{tests/streams/test_stream_manners.py}, C{tests/streams/test_hostile_peer.py}.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from gmesh.errors import FrameRefused
from gmesh.mesh.spaced_log import SpacedLog
from gmesh.stream_errors import StreamCode
from gmesh.streams.budget import CreditWindow, SendBudget
from gmesh.streams.receiving import ReceiveHalf
from gmesh.streams.sending import Piece, SendHalf
from gmesh.wire.frames import pack_frame
from gmesh.wire.messages import Inner
from gmesh.wire.stream_messages import (
    DATA_HEAD,
    StreamAccept,
    StreamCredit,
    StreamFin,
    StreamOpen,
    StreamStop,
)

__all__ = ["Frames", "StreamHome", "StreamState"]

_OPEN, _ACCEPT, _CREDIT, _FIN, _STOP = 1, 2, 4, 8, 16
"""Frames that a stream has to send beside data, as bits."""

_LAST = _FIN | _STOP
_DATA = int(Inner.DATA)
_HEAD = DATA_HEAD.size
_BODY = _HEAD - 3
_pack_head = DATA_HEAD.pack

Frames = list[bytes | memoryview]
"""Inner frames in pieces."""


class StreamHome:
    """
    What a stream asks of the streams with its peer.

    @ivar clock: the reactor.
    @ivar lines: spaces what peers can cause in the log.
    @ivar sends: counts what is under way.
    """

    clock: IReactorTime
    lines: SpacedLog
    sends: SendBudget

    def wake(self, stream: StreamState) -> None:
        """It has something to send."""
        raise NotImplementedError

    def ended(self, stream: StreamState, reason: str, detail: str) -> None:
        """It is over, and known no more. @param reason: C{done}, or why it broke."""
        raise NotImplementedError

    def say_reset(self, number: int, code: StreamCode, detail: str) -> None:
        """Tell the far end that a stream is over, or never begins."""
        raise NotImplementedError

    def holds(self, change: int) -> None:
        """So many pieces more wait for what belongs in front of them, or fewer."""
        raise NotImplementedError

    def agreed(self, stream: StreamState) -> None:
        """This end has accepted it."""
        raise NotImplementedError

    def round_trip(self) -> float | None:
        """Seconds, if it was measured."""
        raise NotImplementedError


class StreamState:
    """
    A stream without its application.

    @param home: the streams with the peer.
    @ivar number: as on the wire.
    @ivar service: at the end that did not open it.
    @ivar opened: True if this node opened it.
    @ivar sending: what this end writes.
    @ivar receiving: what the far end writes.
    @ivar credit: how much the far end may write.
    @ivar ready: True once both ends have agreed to the stream.
    @ivar over: True once it has ended.
    @ivar flowing: True while what comes in order goes straight to the application.
    """

    __slots__ = (
        "_broken",
        "_fin_heard",
        "_fin_queued",
        "_pending",
        "_read_over",
        "_stop",
        "_stop_heard",
        "_stopped",
        "credit",
        "flowing",
        "home",
        "number",
        "opened",
        "over",
        "ready",
        "receiving",
        "sending",
        "service",
    )

    def __init__(
        self, home: StreamHome, number: int, service: str, opened: bool, credit: CreditWindow
    ) -> None:
        self.home = home
        self.number = number
        self.service = service
        self.opened = opened
        self.credit = credit
        self.sending = SendHalf()
        self.receiving = ReceiveHalf()
        self.ready = False
        self.over = False
        self.flowing = False
        self._pending = _OPEN if opened else 0
        self._fin_queued = False  # since then a FIN is pending or under way
        self._fin_heard = False
        self._read_over = False  # nothing more is handed to the application
        self._stop: StreamCode | None = None  # what the far end is told of that
        self._stop_heard = False
        self._stopped = False  # the far end reads no more
        self._broken: tuple[str, str] | None = None

    # what leaves

    @property
    def sendable(self) -> bool:
        """True if L{fill} has something to give."""
        return self._pending != 0 or self.sending.sendable

    def fill(self, pieces: Frames, room: int, most: int) -> tuple[int, int, Piece | None]:
        """
        Add the frames that are sent next.

        @param room: bytes for them; those beside data may take a little more.
        @param most: bytes for them if one is lost data, which is sent as it was.
        @return: their bytes, and what is to be given to L{acknowledged} or L{lost} one day.
        """
        flags, size = self._pending, 0
        if flags:
            self._pending = 0
            size = self._fill_first(pieces, flags)
        sending = self.sending
        before = sending.offset
        piece = sending.cut(room - size - _HEAD, most - size - _HEAD)
        if piece is not None:
            pieces.append(_pack_head(_BODY + piece.size, _DATA, self.number, piece.offset))
            pieces += piece.views
            size += _HEAD + piece.size
            if sending.offset > before:
                self.home.sends.change(piece.size)
                if sending.ended and not sending.unsent:
                    self._fin_queued = True
                    flags |= _FIN
        if flags & _LAST:
            size += self._fill_last(pieces, flags)
        return size, flags, piece

    def acknowledged(self, flags: int, piece: Piece | None) -> int:
        """The far end has these. @return: how many bytes are under way no more."""
        if self.over:
            return 0
        size = 0 if piece is None else self.sending.acknowledge(piece)
        if flags & _LAST:
            self._stop_heard = self._stop_heard or flags & _STOP != 0
            self._fin_heard = self._fin_heard or flags & _FIN != 0
        if flags & _LAST or self._fin_heard:
            self._check_done()
        return size

    def lost(self, flags: int, piece: Piece | None) -> None:
        """They are lost: what still counts of them is sent again."""
        if self.over:
            return
        if piece is not None and not self._stopped:
            self.sending.lose(piece)
        if self.ready:
            flags &= ~_OPEN
        if self._read_over:
            flags &= ~_CREDIT
        if self._fin_heard or self._stopped:
            flags &= ~_FIN
        if self._stop_heard:
            flags &= ~_STOP
        self._pending |= flags

    def open_again(self) -> None:
        """The far end has begun anew before it agreed to the stream."""
        self._pending |= _OPEN
        self.home.wake(self)

    # what comes

    def on_accept(self, credit: int) -> None:
        """The far end agrees. @raise FrameRefused: C{unasked}."""
        if not self.opened:
            raise FrameRefused("unasked", "the far end accepts a stream that it opened itself")
        if not self.ready:
            self.ready = True
            self.sending.limit = max(self.sending.limit, credit)
            self._connected()

    def on_data(self, offset: int, data: bytes, may_hold: bool) -> bool:
        """
        Data came.

        @param may_hold: whether there is room for what comes too early.
        @return: False if it could not be held, and must come again.
        @raise FrameRefused: C{overrun}.
        """
        receiving, limit = self.receiving, self.credit.limit
        end = offset + len(data)
        if self.flowing and offset == receiving.next and receiving.simple and end <= limit:
            receiving.next = end  # as nearly always
            self._hand(data)
            return True
        if not (self.ready or self.opened):
            limit = 0  # the far end had to wait for our consent
        held = receiving.held
        ready = receiving.take(offset, data, limit, may_hold)
        if ready is None:
            return False
        if receiving.held != held:
            self.home.holds(receiving.held - held)
        if self._read_over:
            self._drop_held()
            if self._stop is StreamCode.DONE and not self._stop_heard:
                self._say_stop(StreamCode.ABORTED)  # not all that came was read, after all
        elif ready:
            self._readable(ready)
        return True

    def on_fin(self, size: int) -> None:
        """The far end writes no more. @raise FrameRefused: C{overrun}."""
        self.receiving.end(size, self.credit.limit if self.ready or self.opened else 0)
        if not self._read_over:
            self._readable([])

    def on_credit(self, limit: int) -> None:
        """The far end allows more."""
        if limit > self.sending.limit:
            self.sending.limit = limit
            if self.sending.sendable:
                self.home.wake(self)

    def on_stop(self, code: StreamCode) -> None:
        """The far end reads no more."""
        if self._stopped:
            return
        if code is not StreamCode.DONE or not self.sending.whole:
            self._not_read()
        self._stopped = True
        self._pending &= ~_FIN
        self.home.sends.change(-self.sending.drop())
        self._write_stopped()
        self._check_done()

    def on_reset(self, code: StreamCode, detail: str) -> None:
        """The far end has broken it, or refused it."""
        if code is StreamCode.DONE:
            code = StreamCode.ABORTED  # a reset is never a clean end
        self.finish(code.slug, detail or f"the far end ended the stream: {code.slug}")

    # what the application does

    def agree(self) -> None:
        """Accept the stream that the far end opened."""
        self.ready = True
        self._pending |= _ACCEPT
        self.home.agreed(self)
        self.home.wake(self)

    def end_writing(self) -> None:
        """Nothing more will be written: say so behind what was."""
        sending = self.sending
        if sending.ended or self.over:
            return
        sending.ended = True
        if not sending.unsent and not self._stopped:
            self._fin_queued = True
            self._pending |= _FIN
            self.home.wake(self)
        self._check_done()

    def end_reading(self, unread: bool) -> None:
        """
        Nothing more will be read.

        @param unread: something that came was not.
        """
        if self._read_over or self.over:
            return
        self._read_over = True
        self.flowing = False
        unread = unread or self.receiving.held > 0
        self._drop_held()
        self.credit.close()
        if unread or not self.receiving.complete:
            self._say_stop(StreamCode.ABORTED if unread else StreamCode.DONE)
        self._check_done()

    def consumed(self, size: int) -> None:
        """The application took so many bytes."""
        credit = self.credit
        credit.consumed += size
        if (
            credit.consumed >= credit.due
            and self.receiving.size is None
            and not self._read_over
            and credit.grant(self.home.clock.seconds(), self.home.round_trip())
        ):
            self._pending |= _CREDIT
            self.home.wake(self)

    def finish(self, reason: str, detail: str) -> None:
        """It ends here and now. @param reason: C{done}, or why it broke."""
        if self.over:
            return
        self.over = True
        self.flowing = False
        self._pending = 0
        self.home.sends.change(-self.sending.drop())
        self._drop_held()
        self.credit.close()
        self.home.ended(self, reason, detail)
        self._ended(reason, detail)

    # what the transport makes of it

    def sent_some(self) -> None:
        """Something of it has left."""

    def _connected(self) -> None:
        """The far end has agreed."""

    def _hand(self, data: bytes) -> None:
        """This goes straight to the application."""

    def _readable(self, data: list[bytes]) -> None:
        """This came in order, or the end of it all."""

    def _write_stopped(self) -> None:
        """The far end reads no more."""

    def _ended(self, reason: str, detail: str) -> None:
        """The stream is over."""

    def _not_read(self) -> None:
        """Something was written that the far end does not read: this cannot end cleanly."""
        if self._broken is None:
            self._broken = (StreamCode.ABORTED.slug, "the far end stopped reading before all was written")

    def _drop_held(self) -> None:
        if self.receiving.held:
            self.home.holds(-self.receiving.held)
            self.receiving.drop()

    def _say_stop(self, code: StreamCode) -> None:
        self._stop = code
        self._stop_heard = False
        self._pending |= _STOP
        self.home.wake(self)

    def _check_done(self) -> None:
        """Is there nothing left to say, either way?"""
        written = self._stopped or (self._fin_heard and self.sending.whole)
        if written and self._read_over and (self._stop is None or self._stop_heard):
            self.finish(*(self._broken or (StreamCode.DONE.slug, "")))

    def _fill_first(self, pieces: Frames, flags: int) -> int:
        size = len(pieces)
        if flags & _OPEN:
            pieces.append(
                pack_frame(Inner.OPEN, StreamOpen(self.number, self.credit.limit, self.service).encode())
            )
        if flags & _ACCEPT:
            pieces.append(pack_frame(Inner.ACCEPT, StreamAccept(self.number, self.credit.limit).encode()))
        if flags & _CREDIT:
            pieces.append(pack_frame(Inner.CREDIT, StreamCredit(self.number, self.credit.limit).encode()))
        return sum(map(len, pieces[size:]))

    def _fill_last(self, pieces: Frames, flags: int) -> int:
        size = len(pieces)
        if flags & _FIN:
            pieces.append(pack_frame(Inner.FIN, StreamFin(self.number, self.sending.offset).encode()))
        if flags & _STOP:
            code = self._stop or StreamCode.DONE
            pieces.append(pack_frame(Inner.STOP, StreamStop(self.number, code).encode()))
        return sum(map(len, pieces[size:]))
