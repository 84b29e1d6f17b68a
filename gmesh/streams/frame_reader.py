# SPDX-License-Identifier: MIT
"""
What a peer's frames say of streams: each is read, and given to its stream.

Whatever a peer gets wrong costs the stream that it is about, at most.
Tests: C{tests/streams/test_hostile_peer.py}, C{tests/streams/test_mux.py}.
"""

from __future__ import annotations

from collections import Counter

from gmesh.endtoend.limits import ANSWER_BURST, ANSWER_RATE
from gmesh.endtoend.replay import ReplayWindow
from gmesh.errors import FrameRefused
from gmesh.mesh.peer_identity import Peer
from gmesh.stream_errors import StreamCode
from gmesh.streams import limits
from gmesh.streams.segments import Segments
from gmesh.streams.state import StreamHome
from gmesh.streams.stream import Stream
from gmesh.token_bucket import TokenBucket
from gmesh.wire.frames import HEADER
from gmesh.wire.messages import LAST_STREAM_KIND, Inner
from gmesh.wire.stream_messages import (
    BULK_HEAD,
    SEGMENT_HEAD,
    Goaway,
    Seen,
    StreamAccept,
    StreamCredit,
    StreamData,
    StreamFin,
    StreamOpen,
    StreamReset,
    StreamStop,
)

__all__ = ["FrameReader"]

_SEGMENT = int(Inner.SEGMENT)
_DATA = int(Inner.DATA)
_SEEN = int(Inner.SEEN)
_BULK = BULK_HEAD.size
_unpack_bulk = BULK_HEAD.unpack_from
_unpack = HEADER.unpack_from


class FrameReader(StreamHome):
    """
    Reads what one peer sends.

    @param first: the first counter of the streams that this end opens.
    @param side: 1 at the end with the larger handle, 0 at the other.
    @ivar peer: as its newest certificate says.
    @ivar streams: by their numbers on the wire.
    @ivar next: the next counter of a stream that this end opens.
    @ivar held: pieces that came before what belongs in front of them.
    """

    segments: Segments

    def __init__(self, peer: Peer, side: int, first: int, counters: Counter[str]) -> None:
        self.peer = peer
        self.side = side
        self.streams: dict[int, Stream] = {}
        self.first = self.next = first
        self.held = 0
        self._counters = counters
        self._work = TokenBucket(ANSWER_RATE, ANSWER_BURST, 0.0)
        self._opened_from: float
        self.forget_opened()
        self._taking = {
            int(Inner.OPEN): self._on_open,
            int(Inner.ACCEPT): self._on_accept,
            int(Inner.DATA): self._on_data,
            int(Inner.FIN): self._on_fin,
            int(Inner.CREDIT): self._on_credit,
            int(Inner.STOP): self._on_stop,
            int(Inner.RESET): self._on_reset,
            int(Inner.GOAWAY): self._on_goaway,
            int(Inner.SEEN): self._on_seen,
        }

    def opened(self, opening: StreamOpen) -> None:
        """The peer opens a stream."""
        raise NotImplementedError

    def opens_no_more(self, code: StreamCode) -> None:
        """The peer wants no more streams."""
        raise NotImplementedError

    def renewed(self, peer: Peer) -> None:
        """The peer is heard under another certificate."""
        raise NotImplementedError

    def rest(self) -> None:
        """Perhaps nothing is under way any more."""
        raise NotImplementedError

    def received(self, peer: Peer, plaintext: bytes) -> int:
        """As L{IPeerStreams.received<gmesh.interfaces.IPeerStreams.received>}."""
        if peer is not self.peer:
            self.renewed(peer)
        segments = self.segments
        segments.heard_at = now = self.clock.seconds()
        size = len(plaintext)
        at, number, whole = 0, -1, True
        if size > _BULK:
            first, kind, number, length, inner, stream, offset = _unpack_bulk(plaintext)
            if kind != _SEGMENT or first != 8:
                number = -1
            elif inner == _DATA and _BULK < (end := 14 + length) <= size:
                found = self.streams.get(stream)
                if found is None:
                    self._unknown(_DATA, stream)
                else:
                    whole = self._data(found, offset, plaintext[_BULK:end])
                at = end
            else:
                at = SEGMENT_HEAD.size
        while size - at >= 3:
            length, kind = _unpack(plaintext, at)
            end = at + 3 + length
            if not _SEGMENT <= kind <= LAST_STREAM_KIND or end > size:
                break
            if kind != _SEGMENT:
                if number < 0 and kind != _SEEN:
                    self._counters["stream-loose"] += 1
                elif kind != _DATA and not self._work.take(now):
                    self._counters["stream-spent"] += 1
                    whole = False
                else:
                    whole = self._frame(kind, plaintext[at + 3 : end]) and whole
            elif at == 0 and length == 8:
                number = int.from_bytes(plaintext[3:11], "big")
            else:
                self._counters["stream-malformed"] += 1
            at = end
        if number >= 0 and whole:
            segments.came(number, now)
        return at

    def received_seen(self, body: bytes) -> None:
        """As L{IPeerStreams.received_seen<gmesh.interfaces.IPeerStreams.received_seen>}."""
        self.segments.heard_at = now = self.clock.seconds()
        if self._work.take(now):
            self._frame(_SEEN, body)

    def _frame(self, kind: int, body: bytes) -> bool:
        """One frame. @return: False if it has to come again."""
        take = self._taking.get(kind)
        if take is None:
            return True  # PROBE: to be acknowledged is all
        try:
            return take(body) is not False
        except FrameRefused as refusal:
            self._counters[f"stream-{refusal.reason}"] += 1
            if len(body) >= 8 and kind not in (_SEEN, Inner.GOAWAY):
                self._violated(int.from_bytes(body[:8], "big"), str(refusal))
        return True

    def _mark(self, counter: int) -> None:
        """The peer has opened it."""
        self._opened.mark(counter)
        self._opened_from = min(self._opened_from, counter)

    def forget_opened(self) -> None:
        """The far end has begun anew, and its numbers with it."""
        self._opened = ReplayWindow(limits.OPENED_REMEMBERED)
        self._opened_from = float("inf")

    def _violated(self, number: int, why: str) -> None:
        stream = self.streams.get(number)
        if stream is not None:
            stream.reset(StreamCode.PROTOCOL.slug, why)

    def _find(self, kind: int, number: int) -> Stream | None:
        stream = self.streams.get(number)
        if stream is None:
            self._unknown(kind, number)
        return stream

    def _unknown(self, kind: int, number: int) -> None:
        """A frame of a stream that is not here: one that has ended, or never was."""
        counter, mine = number >> 1, number & 1 == self.side
        if mine:
            ended = self.first <= counter < self.next
        else:
            ended = self._opened_from <= counter and not self._opened.fresh(counter)
        if ended or kind in (Inner.RESET, Inner.STOP):
            self._counters["stream-late"] += 1
            if not ended and not mine:
                self._mark(counter)  # its OPEN may still come
        else:
            self._counters["stream-unknown"] += 1
            self.say_reset(number, StreamCode.UNKNOWN_STREAM, "")

    def _data(self, stream: Stream, offset: int, data: bytes) -> bool:
        try:
            return stream.on_data(offset, data, self.held < limits.MAX_PIECES)
        except FrameRefused as refusal:
            self._counters[f"stream-{refusal.reason}"] += 1
            stream.reset(StreamCode.PROTOCOL.slug, str(refusal))
            return True

    def _on_open(self, body: bytes) -> None:
        opening = StreamOpen.decode(body)
        counter = opening.stream >> 1
        if opening.stream & 1 == self.side:
            raise FrameRefused("unasked", "the far end opens a stream with a number of this one")
        if self._opened.fresh(counter):
            self._mark(counter)
            self.opened(opening)

    def _on_accept(self, body: bytes) -> None:
        accept = StreamAccept.decode(body)
        stream = self._find(Inner.ACCEPT, accept.stream)
        if stream is not None:
            stream.on_accept(accept.credit)

    def _on_data(self, body: bytes) -> bool:
        data = StreamData.decode(body)
        stream = self._find(Inner.DATA, data.stream)
        return stream is None or self._data(stream, data.offset, data.data)

    def _on_fin(self, body: bytes) -> None:
        fin = StreamFin.decode(body)
        stream = self._find(Inner.FIN, fin.stream)
        if stream is not None:
            stream.on_fin(fin.size)

    def _on_credit(self, body: bytes) -> None:
        credit = StreamCredit.decode(body)
        stream = self._find(Inner.CREDIT, credit.stream)
        if stream is not None:
            stream.on_credit(credit.limit)

    def _on_stop(self, body: bytes) -> None:
        stop = StreamStop.decode(body)
        stream = self._find(Inner.STOP, stop.stream)
        if stream is not None:
            stream.on_stop(stop.code)

    def _on_reset(self, body: bytes) -> None:
        reset = StreamReset.decode(body)
        stream = self._find(Inner.RESET, reset.stream)
        if stream is not None:
            stream.on_reset(reset.code, reset.detail)

    def _on_goaway(self, body: bytes) -> None:
        self.opens_no_more(Goaway.decode(body).code)

    def _on_seen(self, body: bytes) -> None:
        self.segments.seen(Seen.decode(body), self.clock.seconds())
        self.rest()
