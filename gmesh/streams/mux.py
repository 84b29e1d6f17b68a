# SPDX-License-Identifier: MIT
"""
All streams with one peer, under which sealed sessions and the association with it may come and go.

Whatever a peer gets wrong costs the stream that it is about, at most.
Tests: C{tests/streams/test_mux.py}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from gmesh.addresses import MeshAddress
from gmesh.endtoend.replay import ReplayWindow
from gmesh.errors import FrameRefused
from gmesh.interfaces import IPeerStreams
from gmesh.mesh.peer_identity import Peer
from gmesh.stream_errors import StreamCode
from gmesh.streams import limits
from gmesh.streams.budget import CreditBudget, CreditWindow, SendBudget
from gmesh.streams.segments import Lane, Segments, SegmentsOwner
from gmesh.streams.state import StreamHome, StreamState
from gmesh.streams.stream import Stream
from gmesh.token_bucket import TokenBucket
from gmesh.wire.frames import HEADER, pack_frame
from gmesh.wire.messages import (
    BULK_HEAD,
    LAST_STREAM_KIND,
    SEGMENT_HEAD,
    Feature,
    Goaway,
    Inner,
    Seen,
    StreamAccept,
    StreamCredit,
    StreamData,
    StreamFin,
    StreamOpen,
    StreamReset,
    StreamStop,
    printable,
)

__all__ = ["MuxContext", "StreamMux", "address_of"]

_SEGMENT = int(Inner.SEGMENT)
_DATA = int(Inner.DATA)
_SEEN = int(Inner.SEEN)
_BULK = BULK_HEAD.size
_unpack_bulk = BULK_HEAD.unpack_from
_unpack = HEADER.unpack_from
_NO_STREAMS = "no-streams"


@dataclass(frozen=True, slots=True)
class MuxContext:
    """
    What the streams of a node share.

    @ivar credit: what all may be granted.
    @ivar sends: what all may have under way.
    @ivar next_stream: numbers of streams, unique on this node.
    @ivar next_mux: numbers of L{StreamMux}es: no two of them use a number of a segment or stream twice.
    @ivar own: this node.
    @ivar refusal: why a peer may not open a stream to a service, or None.
    @ivar begun: told of each stream, from either end.
    @ivar judge: asks again whether the streams with a peer may go on.
    @ivar offer: takes a stream that a peer has opened.
    @ivar ended: told of each stream that ends, with a slug and a sentence.
    @ivar forget: told when nothing is open or under way, and there is no way out.
    @ivar associate: finds another way out for the streams with a peer.
    @ivar unable: a sentence about a peer that has no streams.
    """

    clock: IReactorTime
    random: Random
    counters: Counter[str]
    credit: CreditBudget
    sends: SendBudget
    next_stream: Callable[[], int]
    next_mux: Callable[[], int]
    own: Callable[[], Peer]
    refusal: Callable[[Peer, str], tuple[StreamCode, str] | None]
    begun: Callable[[Stream], None]
    judge: Callable[[StreamMux], None]
    offer: Callable[[Stream], None]
    ended: Callable[[Stream, str, str], None]
    forget: Callable[[StreamMux], None]
    associate: Callable[[Peer], None]
    unable: Callable[[Peer], str]


@implementer(IPeerStreams)
class StreamMux(StreamHome, SegmentsOwner):
    """
    The streams with one peer.

    @param lane: the way out.
    @param side: 1 at the end with the larger handle, 0 at the other.
    @ivar peer: as its newest certificate says.
    @ivar streams: by their numbers on the wire.
    @ivar goaway: why the peer wants no more streams, or None.
    """

    def __init__(self, context: MuxContext, peer: Peer, lane: Lane, side: int) -> None:
        self.clock = context.clock
        self.peer = peer
        self.streams: dict[int, Stream] = {}
        self.goaway: StreamCode | None = None
        self._context = context
        self._counters = context.counters
        self._side = side
        run = context.next_mux()
        self._first = self._next = run << 32
        self._credit = CreditBudget(limits.PEER_CREDIT, context.credit)
        self.sends = SendBudget(context.sends)
        self.segments = Segments(
            self, lane, run << 40, context.clock, context.random, self.sends, context.counters
        )
        self._opens = TokenBucket(*limits.OPENS, context.clock.seconds())
        self._opened = ReplayWindow(limits.OPENED_REMEMBERED)
        self._unaccepted: set[int] = set()
        self._held = 0
        self._boot: bytes | None = None
        self._features = 0
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

    # opening

    def open(self, service: str) -> Stream | tuple[str, str]:
        """
        Open a stream to C{service} of the peer.

        @return: the stream; or why not, as a slug and a sentence.
        """
        if self.goaway is not None:
            return self.goaway.slug, f"{self.peer.name} opens no more streams"
        if self._boot is not None and not self._features & Feature.STREAMS:
            return _NO_STREAMS, self._context.unable(self.peer)
        credit = self._credit.first()
        if len(self.streams) >= limits.MAX_PEER_STREAMS or not credit:
            return StreamCode.BUSY.slug, f"too many streams with {self.peer.name} are open"
        number = self._next << 1 | self._side
        self._next += 1
        stream = self._add(number, service, True, credit)
        self.wake(stream)
        return stream

    def _add(self, number: int, service: str, opened: bool, credit: int) -> Stream:
        context, now = self._context, self.clock.seconds()
        stream = Stream(
            self,
            number,
            context.next_stream(),
            opened,
            address_of(context.own(), service),
            address_of(self.peer, service),
            CreditWindow(self._credit, credit, now),
        )
        self.streams[number] = stream
        self.segments.watch()
        context.begun(stream)
        return stream

    # StreamHome

    def wake(self, stream: StreamState) -> None:
        """As L{StreamHome.wake}."""
        self.segments.wake(stream)

    def ended(self, stream: StreamState, reason: str, detail: str) -> None:
        """As L{StreamHome.ended}."""
        found = self.streams.pop(stream.number, None)
        self._unaccepted.discard(stream.number)
        self.segments.forget(stream)
        if found is not None:
            self._context.ended(found, reason, detail)
        self._rest()

    def say_reset(self, number: int, code: StreamCode, detail: str) -> None:
        """As L{StreamHome.say_reset}."""
        reset = StreamReset(number, code, printable(detail))
        self.segments.say(pack_frame(Inner.RESET, reset.encode()))

    def holds(self, change: int) -> None:
        """As L{StreamHome.holds}."""
        self._held += change

    def agreed(self, stream: StreamState) -> None:
        """As L{StreamHome.agreed}."""
        self._unaccepted.discard(stream.number)

    def round_trip(self) -> float | None:
        """As L{StreamHome.round_trip}."""
        return self.segments.flight.srtt

    # IPeerStreams

    @property
    def active(self) -> bool:
        """True while a stream is open, or something of one is under way."""
        return bool(self.streams) or not self.segments.idle

    def attach(self, lane: Lane) -> None:
        """There is another way out."""
        if lane is not self.segments.lane:
            self.segments.attach(lane)

    def heard(self, boot: bytes, features: int) -> None:
        """As L{IPeerStreams.heard}."""
        former, self._boot, self._features = self._boot, boot, features
        if former is not None and former != boot:
            self._restarted()
        if not features & Feature.STREAMS:
            for stream in list(self.streams.values()):
                stream.finish(_NO_STREAMS, self._context.unable(self.peer))
            self.segments.close()
        elif not self.segments.open:
            self.segments.open = True
            self.segments.pump()

    def ready(self) -> None:
        """As L{IPeerStreams.ready}: the lane resumes its producers itself."""

    def received(self, peer: Peer, plaintext: bytes) -> int:
        """As L{IPeerStreams.received}."""
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
            elif inner == _DATA and _BULK <= (end := 14 + length) <= size:
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
        """As L{IPeerStreams.received_seen}."""
        self.segments.heard_at = self.clock.seconds()
        self._frame(_SEEN, body)

    def seen(self) -> bytes:
        """As L{IPeerStreams.seen}."""
        return self.segments.report()

    def bounced(self) -> None:
        """As L{IPeerStreams.bounced}."""
        self.segments.bounced()

    def gone(self, reason: str) -> None:
        """As L{IPeerStreams.gone}."""
        if reason in ("idle", "evicted", "timed-out"):
            self.segments.detach()
            self._rest()
            return
        reason = StreamCode.STOPPED.slug if reason == "closed" else reason
        self._end_all(reason, f"{self.peer.name} is not talked to any more: {reason}")
        self.segments.close()
        self.segments.detach()
        self._rest()

    def pauseProducing(self) -> None:
        """There is no room."""
        self.segments.pauseProducing()

    def resumeProducing(self) -> None:
        """There is."""
        self.segments.resumeProducing()

    def stopProducing(self) -> None:
        """The way out is closed."""
        self.segments.stopProducing()

    # what changes

    def renewed(self, peer: Peer) -> None:
        """The peer is heard under another certificate than before, or has a newer one."""
        former = self.peer
        if peer.serial >= former.serial:
            self.peer = peer
        if peer.serial > former.serial and self.streams:
            self._context.judge(self)

    def stop(self, reason: str) -> None:
        """This node stops: say so, and end every stream."""
        code = StreamCode.of_slug(reason)
        if self.active and self.segments.open:
            self.segments.say(pack_frame(Inner.GOAWAY, Goaway(code).encode()))
        for stream in list(self.streams.values()):
            stream.reset(reason, "the node stops")
        self.segments.pump()

    def _restarted(self) -> None:
        self.segments.close()
        self._opened = ReplayWindow(limits.OPENED_REMEMBERED)
        self.goaway = None
        for stream in list(self.streams.values()):
            if stream.opened and not stream.ready:
                stream.open_again()
            else:
                stream.finish(StreamCode.RESTARTED.slug, f"{self.peer.name} was restarted")

    # SegmentsOwner

    def busy(self) -> bool:
        """As L{SegmentsOwner.busy}."""
        return bool(self.streams)

    def reattach(self) -> None:
        """As L{SegmentsOwner.reattach}."""
        self._context.associate(self.peer)

    def silent(self) -> None:
        """As L{SegmentsOwner.silent}."""
        self._end_all(StreamCode.TIMED_OUT.slug, f"nothing was heard of {self.peer.name} for too long")
        self.segments.close()

    def _end_all(self, reason: str, detail: str) -> None:
        for stream in list(self.streams.values()):
            stream.finish(reason, detail)

    def _rest(self) -> None:
        if not self.active:
            self.segments.rest()
            if not self.segments.attached:
                self._context.forget(self)

    # what comes

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
        counter, mine = number >> 1, number & 1 == self._side
        ended = self._first <= counter < self._next if mine else not self._opened.fresh(counter)
        if ended or kind in (Inner.RESET, Inner.STOP):
            self._counters["stream-late"] += 1
            if not ended and not mine:
                self._opened.mark(counter)  # its OPEN may still come
        else:
            self._counters["stream-unknown"] += 1
            self.say_reset(number, StreamCode.UNKNOWN_STREAM, "")

    def _data(self, stream: Stream, offset: int, data: bytes) -> bool:
        try:
            return stream.on_data(offset, data, self._held < limits.MAX_PIECES)
        except FrameRefused as refusal:
            self._counters[f"stream-{refusal.reason}"] += 1
            stream.reset(StreamCode.PROTOCOL.slug, str(refusal))
            return True

    def _on_open(self, body: bytes) -> None:
        opening = StreamOpen.decode(body)
        number, service = opening.stream, opening.service
        counter = number >> 1
        if number & 1 == self._side:
            raise FrameRefused("unasked", "the far end opens a stream with a number of this one")
        if not self._opened.fresh(counter):
            return  # it came again
        self._opened.mark(counter)
        credit = self._credit.first()
        refusal: tuple[StreamCode, str] | None
        if (
            not self._opens.take(self.clock.seconds())
            or len(self._unaccepted) >= limits.MAX_UNACCEPTED
            or len(self.streams) >= limits.MAX_PEER_STREAMS
            or not credit
        ):
            refusal = StreamCode.BUSY, "too many streams"
        else:
            refusal = self._context.refusal(self.peer, service)
        if refusal is not None:
            self._counters[f"stream-refused-{refusal[0].slug}"] += 1
            self.say_reset(number, *refusal)
            return
        stream = self._add(number, service, False, credit)
        stream.sending.limit = opening.credit
        self._unaccepted.add(number)
        self._context.offer(stream)

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
        self.goaway = Goaway.decode(body).code
        for stream in list(self.streams.values()):
            if stream.opened and not stream.ready:
                stream.finish(self.goaway.slug, f"{self.peer.name} opens no more streams")

    def _on_seen(self, body: bytes) -> None:
        self.segments.seen(Seen.decode(body), self.clock.seconds())
        self._rest()


def address_of(peer: Peer, service: str) -> MeshAddress:
    """Where C{service} of C{peer} is."""
    return MeshAddress(peer.name, peer.node_id, tuple(peer.roles), peer.serial, service)
