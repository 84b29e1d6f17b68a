# SPDX-License-Identifier: MIT
"""
The byte streams of a node: to dial a service of another by name, and to take what others dial.

The policy is asked at both ends when a stream is opened, and again for each that is open whenever it could
decide otherwise.
Tests: C{tests/streams/test_dialling.py}, C{tests/node/test_streams.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, cast

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IProtocol, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.endtoend.association import Associations
from gmesh.endtoend.authorization import Authorization
from gmesh.endtoend.batching import BatchSender
from gmesh.errors import SendRefused
from gmesh.interfaces import IStreams
from gmesh.mesh.peer_identity import Peer
from gmesh.stream_errors import StreamCode, dial_refused
from gmesh.streams import limits
from gmesh.streams.listeners import StreamListener, StreamListeners, no_such_service
from gmesh.streams.mux_owner import MuxOwner
from gmesh.streams.offers import Build, Lost, StreamOffer, StreamOpening, Take
from gmesh.streams.tally import Tally
from gmesh.wire.messages import Feature

if TYPE_CHECKING:  # a node without streams does not load what carries them
    from gmesh.streams.frame_reader import FrameReader
    from gmesh.streams.lane import Lane
    from gmesh.streams.loop import LoopLane
    from gmesh.streams.mux import StreamMux
    from gmesh.streams.stream import Stream

__all__ = ["Streams"]


@implementer(IStreams)
class Streams(MuxOwner):
    """
    All streams of one node.

    @param record: what the record of a node says it runs, and the record's sequence number.
    @param advertise: called when this node takes streams to other services than before.
    @ivar listeners: who takes the streams to which service.
    @ivar tally: what is counted of streams by service.
    """

    _log = Logger()

    def __init__(
        self,
        associations: Associations,
        authorization: Authorization,
        clock: IReactorTime,
        random: Random,
        record: Callable[[Peer], tuple[str, int]],
        advertise: Callable[[], None],
    ) -> None:
        super().__init__(clock, random)
        self.listeners = StreamListeners(clock, advertise)
        self.tally = Tally()
        self._associations = associations
        self._authorization = authorization
        self._record = record
        self._muxes: dict[bytes, StreamMux] = {}
        self._loop: tuple[StreamMux, StreamMux] | None = None
        self._lanes: tuple[LoopLane, ...] = ()
        self._streams: dict[int, Stream] = {}
        self._judge_call: IDelayedCall | None = None
        self._lapsed = False
        associations.serve(self._streams_with)

    # IStreams

    def dial(
        self,
        node: str,
        service: str,
        build: Build,
        timeout: float = limits.OPEN_TIMEOUT,
        lost: Lost | None = None,
    ) -> Deferred[IProtocol]:
        """As L{IStreams.dial}."""
        if not timeout > 0:
            return fail(dial_refused("bad-timeout", "a timeout is more than 0 seconds"))
        opening = StreamOpening(self.clock, build, timeout, f"{service} at {node}", lost)
        self._authorization.seek(node).addCallback(self._open, node, service, opening).addErrback(
            self._failed, opening
        )
        return opening.result

    def listen(self, service: str, take: Take, builtin: bool = False) -> StreamListener:
        """As L{IStreams.listen}. @param builtin: True for a service of gmesh itself."""
        listener = self.listeners.listen(service, take, builtin)
        self.tally.name(service)
        return listener

    def hold(self, window: float, patience: float) -> None:
        """As L{IStreams.hold}."""
        self.listeners.hold(window, patience)

    def open_streams(self) -> list[Stream]:
        """As L{IStreams.open_streams}."""
        return list(self._streams.values())

    # life

    def stop(self) -> None:
        """Tell every far end, and end every stream."""
        self.listeners.stop()
        for mux in self._all():
            mux.stop(StreamCode.STOPPED.slug)
        for mux in self._loop or ():
            mux.gone(StreamCode.STOPPED.slug)
        for lane in self._lanes:
            lane.close()
        self._loop, self._lanes = None, ()

    # what is believed or allowed changes

    def trust_changed(self, kind: str) -> None:
        """A document changed: judge every open stream again, in this turn."""
        self.judge_all()

    def certified(self, peer: Peer) -> None:
        """There is a newer certificate of a peer, whose roles may be others."""
        mux = self._muxes.get(peer.handle)
        if mux is not None:
            mux.renewed(peer)

    def judge_all(self) -> None:
        """Ask again about every open stream, and end those that may not go on."""
        self._lapsed = self._authorization.lapsed()
        for mux in self._loop or ():
            mux.renewed(self._authorization.own)
        for mux in self._all():
            self.judge(mux)

    def _look(self) -> None:
        """Touch with the authority is lost by time alone; who has a new record may have been restarted."""
        self._judge_call = None
        if self._streams:
            for mux in list(self._muxes.values()):
                mux.look(self._record(mux.peer)[1])
            if self._authorization.lapsed() is not self._lapsed:
                self.judge_all()
            self._look_later()

    def _look_later(self) -> None:
        if self._judge_call is None and self._streams:
            self._judge_call = self.clock.callLater(limits.JUDGE_EVERY, self._look)

    # opening

    def _open(self, _: None, node: str, service: str, opening: StreamOpening) -> None:
        try:
            peer = self._authorization.admit(node, service)
            mux = self._mux_of(peer)
        except SendRefused as refusal:
            opening.refused(refusal.reason, str(refusal))
            return
        if len(self._streams) >= limits.MAX_STREAMS:
            opening.refused(StreamCode.BUSY.slug, f"{limits.MAX_STREAMS} streams are open on this node")
            return
        opened = mux.open(service)
        if isinstance(opened, tuple):
            opening.refused(*opened)
        else:
            opening.begin(opened)

    def _failed(self, failure: Failure, opening: StreamOpening) -> None:
        self._log.failure("a stream could not be opened", failure)
        opening.refused("refused", "this node failed")

    def _mux_of(self, peer: Peer) -> StreamMux:
        if peer.handle == self._authorization.own.handle:
            return self._own_loop()[0]
        return cast("StreamMux", self._associations.streams(peer))

    def _streams_with(self, peer: Peer, batch: BatchSender, wanted: bool) -> StreamMux | None:
        """The streams with a peer, as L{Associations.serve} asks for them."""
        mux = self._muxes.get(peer.handle)
        if mux is not None:
            mux.attach(batch)
            mux.renewed(peer)
        elif wanted:
            side = int(self._authorization.own.handle > peer.handle)
            mux = self._muxes[peer.handle] = self._make_mux(peer, batch, side)
        return mux

    def _make_mux(self, peer: Peer, lane: Lane, side: int) -> StreamMux:
        from gmesh.streams.mux import StreamMux

        return StreamMux(self, peer, lane, side)

    def _own_loop(self) -> tuple[StreamMux, StreamMux]:
        if self._loop is None:
            from gmesh.streams.loop import LoopLane

            own = self._authorization.own
            there = LoopLane(self.clock, lambda plaintext: self._from_here(1, plaintext))
            back = LoopLane(self.clock, lambda plaintext: self._from_here(0, plaintext))
            self._lanes = there, back
            self._loop = self._make_mux(own, there, 0), self._make_mux(own, back, 1)
            for mux in self._loop:
                mux.heard(b"", Feature.STREAMS)
        return self._loop

    def _from_here(self, end: int, plaintext: bytes) -> None:
        """This node says something to itself, under the certificate that it has now."""
        self._own_loop()[end].received(self._authorization.own, plaintext)

    # MuxOwner

    def own(self) -> Peer:
        """As L{MuxOwner.own}."""
        return self._authorization.own

    def refusal(self, peer: Peer, service: str) -> tuple[StreamCode, str] | None:
        """As L{MuxOwner.refusal}."""
        refusal = self._authorization.judge(peer, service, False)
        if refusal is not None:
            return StreamCode.of_slug(refusal.reason), str(refusal)
        if not self.listeners.has(service):
            reason, detail = no_such_service(service)
            return StreamCode.of_slug(reason), detail
        if len(self._streams) >= limits.MAX_STREAMS:
            return StreamCode.BUSY, "too many streams"
        return None

    def begun(self, stream: Stream) -> None:
        """As L{MuxOwner.begun}."""
        self._streams[stream.stream] = stream
        if stream.opened:
            self.tally.name(stream.service)
        self._look_later()

    def offer(self, stream: Stream) -> None:
        """As L{MuxOwner.offer}."""
        self.listeners.offer(StreamOffer(self.clock, stream))

    def ended(self, stream: Stream, reason: str, detail: str) -> None:
        """As L{MuxOwner.ended}: a line, unless many of the peer ended lately; without what it carried."""
        self._streams.pop(stream.stream, None)
        if not self._streams and self._judge_call is not None:
            self._judge_call.cancel()
            self._judge_call = None
        self.tally.ended(stream, reason)
        peer = stream.getPeer()
        self.lines.write(
            self._log.info,
            self.clock.seconds(),
            "stream-to" if stream.opened else "stream-from",
            (peer.node_id, reason == StreamCode.DONE.slug),
            "stream {stream} {direction} {peer} ended after {seconds:.1f} s, "
            "{sent} bytes sent, {received} received: {why}",
            stream=stream.stream,
            direction="to" if stream.opened else "from",
            peer=str(peer),
            seconds=self.clock.seconds() - stream.since,
            sent=stream.sent,
            received=stream.received,
            why=f"{reason} ({detail})" if detail and detail != reason else reason,
        )

    def judge(self, mux: FrameReader) -> None:
        """As L{MuxOwner.judge}."""
        reasons: dict[tuple[str, bool], SendRefused | None] = {}
        for stream in list(mux.streams.values()):
            key = stream.service, stream.opened
            if key not in reasons:
                reasons[key] = self._authorization.judge(mux.peer, *key)
            refusal = reasons[key]
            if refusal is not None:
                stream.reset(refusal.reason, str(refusal))

    def forget(self, mux: FrameReader) -> None:
        """As L{MuxOwner.forget}."""
        if self._muxes.get(mux.peer.handle) is mux:
            del self._muxes[mux.peer.handle]

    def associate(self, peer: Peer) -> None:
        """As L{MuxOwner.associate}."""
        try:
            self._associations.streams(peer)
        except SendRefused:
            self.counters["stream-no-association"] += 1

    def unable(self, peer: Peer) -> str:
        """As L{MuxOwner.unable}."""
        return f"{peer.name} runs {self._record(peer)[0]}, which has no streams"

    def _all(self) -> list[StreamMux]:
        return [*self._muxes.values(), *(self._loop or ())]
