# SPDX-License-Identifier: MIT
"""
All streams with one peer, under which sealed sessions and the association with it may come and go.

What its frames say is read by L{gmesh.streams.frame_reader}.
Tests: C{tests/streams/test_mux.py}, C{tests/node/test_streams.py}.
"""

from __future__ import annotations

from zope.interface import implementer

from gmesh.interfaces import IPeerStreams
from gmesh.mesh.peer_identity import Peer
from gmesh.stream_errors import StreamCode
from gmesh.streams import limits
from gmesh.streams.budget import CreditBudget, CreditWindow, SendBudget
from gmesh.streams.frame_reader import FrameReader
from gmesh.streams.lane import Lane, SegmentsOwner
from gmesh.streams.mux_owner import MuxOwner
from gmesh.streams.peer_address import address_of
from gmesh.streams.segments import Segments
from gmesh.streams.state import StreamState
from gmesh.streams.stream import Stream
from gmesh.token_bucket import TokenBucket
from gmesh.wire.frames import pack_frame
from gmesh.wire.messages import Feature, Inner
from gmesh.wire.stream_messages import Goaway, StreamOpen, StreamReset, printable

__all__ = ["StreamMux"]

_NO_STREAMS = "no-streams"
_RUNS = 2**24
"""So many muxes of a node begin with segment numbers far apart, of 64 bits; then the first come again."""


@implementer(IPeerStreams)
class StreamMux(FrameReader, SegmentsOwner):
    """
    The streams with one peer.

    @param owner: the node.
    @param lane: the way out.
    @param side: as of L{FrameReader}.
    @ivar goaway: why the peer wants no more streams, or None.
    """

    def __init__(self, owner: MuxOwner, peer: Peer, lane: Lane, side: int) -> None:
        run = next(owner.runs)
        super().__init__(peer, side, run << 32, owner.counters)
        self.clock = owner.clock
        self.lines = owner.lines
        self.goaway: StreamCode | None = None
        self._owner = owner
        self._credit = CreditBudget(limits.PEER_CREDIT, owner.credit)
        self.sends = SendBudget(owner.sends)
        first = run % _RUNS << 40
        self.segments = Segments(self, lane, first, owner.clock, owner.random, self.sends, owner.counters)
        self._opens = TokenBucket(*limits.OPENS, owner.clock.seconds())
        self._unaccepted: set[int] = set()
        self._boot: bytes | None = None
        self._features = 0
        self._sequence: int | None = None

    # opening

    def open(self, service: str) -> Stream | tuple[str, str]:
        """
        Open a stream to C{service} of the peer.

        @return: the stream; or why not, as a slug and a sentence.
        """
        if self.goaway is not None:
            return self.goaway.slug, f"{self.peer.name} opens no more streams"
        if self._boot is not None and not self._features & Feature.STREAMS:
            return _NO_STREAMS, self._owner.unable(self.peer)
        credit = self._credit.first()
        if len(self.streams) >= limits.MAX_PEER_STREAMS or not credit:
            return StreamCode.BUSY.slug, f"too many streams with {self.peer.name} are open"
        number = self.next << 1 | self.side
        self.next += 1
        stream = self._add(number, service, True, credit)
        self.wake(stream)
        return stream

    def _add(self, number: int, service: str, opened: bool, credit: int) -> Stream:
        owner, now = self._owner, self.clock.seconds()
        stream = Stream(
            self,
            number,
            next(owner.numbers),
            opened,
            address_of(owner.own(), service),
            address_of(self.peer, service),
            CreditWindow(self._credit, credit, now),
        )
        self.streams[number] = stream
        self.segments.watch()
        owner.begun(stream)
        return stream

    def opened(self, opening: StreamOpen) -> None:
        """As L{FrameReader.opened}."""
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
            refusal = self._owner.refusal(self.peer, opening.service)
        if refusal is not None:
            self._counters[f"stream-refused-{refusal[0].slug}"] += 1
            self.say_reset(opening.stream, *refusal)
            return
        stream = self._add(opening.stream, opening.service, False, credit)
        stream.sending.limit = opening.credit
        self._unaccepted.add(opening.stream)
        self._owner.offer(stream)

    def opens_no_more(self, code: StreamCode) -> None:
        """As L{FrameReader.opens_no_more}."""
        self.goaway = code
        for stream in list(self.streams.values()):
            if stream.opened and not stream.ready:
                stream.finish(code.slug, f"{self.peer.name} opens no more streams")

    # StreamHome

    def wake(self, stream: StreamState) -> None:
        """As L{StreamHome.wake<gmesh.streams.state.StreamHome.wake>}."""
        self.segments.wake(stream)

    def ended(self, stream: StreamState, reason: str, detail: str) -> None:
        """As L{StreamHome.ended<gmesh.streams.state.StreamHome.ended>}."""
        found = self.streams.pop(stream.number, None)
        self._unaccepted.discard(stream.number)
        self.segments.forget(stream)
        if found is not None:
            self._owner.ended(found, reason, detail)
        self.rest()

    def say_reset(self, number: int, code: StreamCode, detail: str) -> None:
        """As L{StreamHome.say_reset<gmesh.streams.state.StreamHome.say_reset>}."""
        reset = StreamReset(number, code, printable(detail))
        self.segments.say(pack_frame(Inner.RESET, reset.encode()))

    def holds(self, change: int) -> None:
        """As L{StreamHome.holds<gmesh.streams.state.StreamHome.holds>}."""
        self.held += change

    def agreed(self, stream: StreamState) -> None:
        """As L{StreamHome.agreed<gmesh.streams.state.StreamHome.agreed>}."""
        self._unaccepted.discard(stream.number)

    def round_trip(self) -> float | None:
        """As L{StreamHome.round_trip<gmesh.streams.state.StreamHome.round_trip>}."""
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
                stream.finish(_NO_STREAMS, self._owner.unable(self.peer))
            self.segments.close()
        elif not self.segments.open:
            self.segments.open = True
            self.segments.pump()

    def ready(self) -> None:
        """As L{IPeerStreams.ready}: the lane resumes its producers itself."""

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
            self.rest()
            return
        reason = StreamCode.STOPPED.slug if reason == "closed" else reason
        self._end_all(reason, f"{self.peer.name} is not talked to any more: {reason}")
        self.segments.close()
        self.segments.detach()
        self.rest()

    # what changes

    def renewed(self, peer: Peer) -> None:
        """The peer is heard under another certificate than before, or has a newer one."""
        former = self.peer
        if peer.serial >= former.serial:
            self.peer = peer
        if peer.serial > former.serial and self.streams:
            self._owner.judge(self)

    def look(self, sequence: int) -> None:
        """The peer's record has this sequence number: with a new one, see whether it is the same run."""
        former, self._sequence = self._sequence, sequence
        if former not in (None, sequence) and self.streams:
            self.segments.ask()

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
        self.forget_opened()
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
        self._owner.associate(self.peer)

    def silent(self) -> None:
        """As L{SegmentsOwner.silent}."""
        self._end_all(StreamCode.TIMED_OUT.slug, f"nothing was heard of {self.peer.name} for too long")
        self.segments.close()
        self.rest()

    def _end_all(self, reason: str, detail: str) -> None:
        for stream in list(self.streams.values()):
            stream.finish(reason, detail)

    def rest(self) -> None:
        """With nothing open and nothing under way, leave no timer; without an association, be forgotten."""
        if not self.active:
            self.segments.rest()
            if not self.segments.attached:
                self._owner.forget(self)
