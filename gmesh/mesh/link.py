# SPDX-License-Identifier: MIT
"""
A link: HELLO both ways, then frames to receivers, keepalive, rekey, one reason for its end.

It exists for routing only after the peer's HELLO was read and L{gmesh.mesh.neighbours.Neighbours}
admitted it, since a dialler finishes the handshake before the other end has judged it.  All that can come
due (HELLO deadline, PING, doubt, death, expiry, rekey, a stuck writer) shares one timer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from random import Random

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocolFactory, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.errors import FrameRefused, GmeshError, PeerRefused
from gmesh.interfaces import INeighbourLink, ISecureTransport
from gmesh.mesh.capture import FrameTrace
from gmesh.mesh.control_budget import ControlBudgets, ControlTurns
from gmesh.mesh.counters import Counters, Refusals
from gmesh.mesh.dispatcher import Dispatcher, Receive, check_unclaimed
from gmesh.mesh.egress import Egress
from gmesh.mesh.egress_queue import DataRoom
from gmesh.mesh.join_links import Joins
from gmesh.mesh.limits import REKEY_BURST, REKEY_RATE, WAN, KeepaliveProfile
from gmesh.mesh.link_ending import Ending
from gmesh.mesh.liveness import Alarm, LinkTimers, Liveness, Pinger
from gmesh.mesh.neighbour import Neighbour
from gmesh.mesh.neighbours import Neighbours, close_reason
from gmesh.mesh.noise import (
    NO_HANDSHAKE,
    TIMED_OUT,
    DialObserver,
    NoiseContext,
    NoiseFactory,
    RecordProtocol,
    RecordProtocolFactory,
)
from gmesh.mesh.peer_identity import Peer
from gmesh.mesh.renewal_links import RenewalLink, Renewals
from gmesh.mesh.spaced_log import SpacedLog
from gmesh.token_bucket import TokenBucket
from gmesh.wire.frames import Kind, is_data, iter_frames, pack_frame
from gmesh.wire.limits import FRAME_HEADER
from gmesh.wire.messages import Close, CloseReason, Hello, decode_rekey

__all__ = ["MeshContext", "MeshFactory", "MeshProtocol"]


@dataclass
class MeshContext:
    """
    What every link of this node shares.

    @ivar wall: Unix seconds, for the expiry of certificates.
    @ivar random: jitter and nonces of PINGs.
    @ivar budgets: of CPU time for control frames, by neighbour.
    @ivar room: for the data that waits for all links.
    @ivar lines: what is logged of links that others bring up and down.
    @ivar hello: our HELLO for a link: initiator flag, the peer's address as we see it.
    """

    clock: IReactorTime
    wall: Callable[[], float]
    random: Random
    neighbours: Neighbours
    dispatcher: Dispatcher
    hello: Callable[[bool, str], Hello]
    refusals: Refusals
    budgets: ControlBudgets
    renewals: Renewals
    joins: Joins
    counters: Counters = field(default_factory=Counters)
    profile: KeepaliveProfile = WAN
    room: DataRoom = field(default_factory=DataRoom)
    lines: SpacedLog = field(default_factory=SpacedLog)


class State(Enum):
    """How far a link has come."""

    GREETING = "greeting"
    UP = "up"
    DRAINING = "draining"
    GONE = "gone"


@implementer(INeighbourLink)
class MeshProtocol(RecordProtocol):
    """One link from the judged peer to its end."""

    log = Logger()

    def __init__(
        self,
        context: MeshContext,
        transport: ISecureTransport,
        deadline: float,
        observer: DialObserver | None,
    ):
        self._context = context
        self._transport = transport
        self._observer = observer
        self._clock = context.clock
        self._state = State.GREETING
        self._reason: str | None = None
        self._peer: Peer = transport.peer
        self._neighbour: Neighbour | None = None
        self._table: dict[int, Receive] = {Kind.HELLO: self._hello_received, Kind.CLOSE: self._close_received}
        if transport.initiator:
            self._table[Kind.RENEWAL] = self._renewal_received
        self._liveness = Liveness(context.profile, context.random, context.clock.seconds())
        self._egress = Egress(transport, context.clock, context.counters, context.room)
        self._ending = Ending(context.clock, transport, self._egress)
        self._pinger = Pinger(context.clock, context.random, self._liveness, self.send_control)
        self._turns = ControlTurns(
            context.budgets, self._peer.handle, self._read, self._refused, self._flooded
        )
        self._rekeys = TokenBucket(REKEY_RATE, REKEY_BURST, context.clock.seconds())
        self.send_data = self._egress.data
        self.hold = self._egress.hold
        self.release = self._egress.release
        self._timers = LinkTimers(
            context.clock,
            context.wall,
            self._liveness,
            self._egress,
            deadline,
            self._peer.not_after,
            self._came_due,
        )
        self.initiator: bool = transport.initiator
        self.address: str = transport.address
        self.handshake_hash: bytes = transport.handshake_hash
        self.own_hello = context.hello(self.initiator, self.address)
        self.hello: Hello = self.own_hello

    # ILink

    @property
    def peer(self) -> Peer:
        """The node at the other end, under its newest certificate."""
        return self._peer

    @property
    def over(self) -> str:
        """What it runs over: C{tls via http://proxy.example:3128}."""
        return self._transport.over if self._state is not State.GONE else ""

    @property
    def rtt(self) -> float | None:
        """Smoothed round trip in seconds, or None before the first PONG."""
        return self._liveness.rtt

    @property
    def suspect(self) -> bool:
        """A PONG is missing: no new paths over this link."""
        return self._liveness.suspect

    @property
    def backlog(self) -> int:
        """Bytes of data that wait for the transport."""
        return self._egress.queue.data_bytes

    @property
    def control_backlog(self) -> int:
        """Bytes of control frames that wait for the transport."""
        return self._egress.queue.control_bytes

    def send_control(self, kind: int, body: bytes) -> None:
        """Queue a control frame; a peer that lets them pile up loses the link."""
        if self._state is State.UP and not self._egress.control(pack_frame(kind, body)):
            self._end("control-queue-full", CloseReason.OVERLOAD)

    def register_sender(self, flow: bytes, producer: IPushProducer) -> None:
        """Pause C{producer}, which writes C{flow} on this host, instead of dropping what it sends."""
        self._egress.queue.add_sender(flow, producer)

    def unregister_sender(self, flow: bytes) -> None:
        """It has sent its last frame; queued frames still go."""
        self._egress.queue.remove_sender(flow)

    def capture(self, seconds: float, count: int) -> Deferred[list[FrameTrace]]:
        """The headers of the next C{count} frames, or of those within C{seconds} or until the link ends."""
        if self._state is not State.UP:
            return succeed([])
        return self._egress.captures.start(seconds, count)

    def close(self, reason: CloseReason) -> None:
        """Send what is queued and CLOSE, then disconnect."""
        if self._state in (State.DRAINING, State.GONE):
            return
        self._leave(reason.slug)
        self._state = State.DRAINING
        self._table = {Kind.REKEY: self._rekey_received, Kind.CLOSE: self._close_received}
        self._ending.drain(reason)

    def give_way(self, heir: INeighbourLink) -> None:
        """
        C{heir} is the link to the same node from now on.

        What is queued here is sent, what is under way from there is handed to C{heir}'s receivers; when
        both ends have said CLOSE, nothing is under way any more.
        """
        self._leave(CloseReason.DUPLICATE.slug)
        self._state = State.DRAINING
        self._heir = heir
        self._table = {Kind.REKEY: self._rekey_received, Kind.CLOSE: self._close_received}
        self._ending.hand_over()

    def inherit(self, kind: int, record: memoryview, start: int, end: int) -> None:
        """A frame came late, by a session that gave way to this one."""
        receive = self._table.get(kind)
        if receive is not None:
            receive(kind, record, start, end)
        elif self._heir is not None:
            self._heir.inherit(kind, record, start, end)

    def cut(self, reason: CloseReason) -> None:
        """Drop everything, send CLOSE if that needs no waiting, and disconnect."""
        self._end(reason.slug, reason)

    # INeighbourLink

    def probe(self) -> None:
        """Show life within one PONG's time or die."""
        if self._state is State.UP:
            self._liveness.probe(self._clock.seconds())
            self._pinger.ask()
            self._timers.start()

    def renew(self, peer: Peer) -> None:
        """Go on under a newer certificate of the same keys."""
        self._tell("link-renewed", "{name} renewed its certificate, serial {serial}", serial=peer.serial)
        self._peer = peer
        self._timers.not_after = peer.not_after
        self._timers.start()
        self._changed()

    def purge(self, handle: bytes) -> None:
        """Drop what is queued from or to a node."""
        self._egress.queue.purge(handle)

    # from the secure transport

    def secure_connection_made(self) -> None:
        """Say HELLO, and wait for the peer's."""
        self._context.neighbours.enter(self)
        self._egress.control(pack_frame(Kind.HELLO, self.own_hello.encode()))
        self._egress.flush()
        self._timers.start()

    def record_received(self, record: bytes) -> None:
        """Hand each frame to its receiver."""
        if self._state is State.GONE:
            return
        if self._renewal is not None:
            self._renewal.record_received(record)
            return
        self._egress.hold()
        if self._liveness.suspect:
            self._liveness.heard(self._clock.seconds())
            self._changed()
        else:
            self._liveness.heard(self._clock.seconds())
        if self._egress.captures.active:
            self._egress.captures.record(False, record)
        view = memoryview(record)
        try:
            for kind, start, end in iter_frames(record):
                receive = self._table.get(kind)
                if receive is not None:
                    receive(kind, view, start, end)
                else:
                    self._no_receiver(kind, view, start, end)
        except GmeshError as error:
            self._refused(error)

    def records_ended(self) -> None:
        """Let the answers go."""
        self._turns.turn_over()
        self._egress.release()

    def secure_connection_lost(self, reason: str) -> None:
        """The connection is gone, whichever end closed it."""
        if self._renewal is not None:
            self._renewal.secure_connection_lost(reason)
        self._leave(self._reason or reason)
        self._state = State.GONE
        self._ending.ended()
        self._egress.stop()
        self._context.neighbours.leave(self)
        if self._observer is not None:
            self._observer.ended(self._reason or reason, self._peer)

    # frames of the link itself

    def _hello_received(self, kind: int, record: memoryview, start: int, end: int) -> None:
        hello = Hello.decode(record[start + FRAME_HEADER : end])
        if hello.initiator == self.initiator:
            raise FrameRefused("bad-hello", "both ends say that they dialled, or that neither did")
        self.hello = hello
        context = self._context
        admitted = context.neighbours.admit(self)
        if isinstance(admitted, CloseReason):
            self.close(admitted)
            return
        self._state = State.UP
        self._neighbour = admitted
        table = {
            **context.dispatcher.receivers(admitted),
            Kind.PING: self._pinger.ping_received,
            Kind.PONG: self._pinger.pong_received,
        }
        self._table = {
            **{kind: take if is_data(kind) else self._turns.measured(take) for kind, take in table.items()},
            Kind.REKEY: self._rekey_received,
            Kind.CLOSE: self._close_received,
        }
        self._tell("link-up", "Link to {name} at {address} is up", address=self.address)
        context.neighbours.up(admitted)
        self.hello, self.own_hello = hello.without_digest(), self.own_hello.without_digest()
        if self._state is State.UP:
            self._timers.up()
            self._pinger.ask()
            self._timers.start()
            if self._observer is not None:
                self._observer.linked(self._peer)

    def _renewal_received(self, kind: int, record: memoryview, start: int, end: int) -> None:
        """Our certificate has ended: this is no link, but by it we may ask an anchor for the next one."""
        if "anchor" not in self._peer.roles:
            raise FrameRefused("no-anchor", f"{self._peer.name} is none, and passes on no request")
        self._table = {}
        self._timers.stop()
        self._reason = CloseReason.EXPIRED.slug
        self._renewal = self._context.renewals.dialled(self._transport)

    def _rekey_received(self, kind: int, record: memoryview, start: int, end: int) -> None:
        decode_rekey(record[start + FRAME_HEADER : end])
        if end != len(record):
            raise FrameRefused("bad-frame", "a REKEY is not the last frame of its record")
        if not self._rekeys.take(self._clock.seconds()):
            raise FrameRefused("rekey-rate", "new keys come far more often than they are due")
        self._transport.rekey_inbound()

    def _close_received(self, kind: int, record: memoryview, start: int, end: int) -> None:
        reason = Close.decode(record[start + FRAME_HEADER : end]).reason
        self._ending.close_heard()
        if self._state is State.DRAINING:
            return
        if reason is CloseReason.DUPLICATE and self._context.neighbours.rivalled(self):
            self._reason = reason.slug
            self._ending.limit()
            return
        if reason is CloseReason.TWIN:
            self._context.neighbours.twins.refused_us(self._peer.name)
        self._tell("link-closed", "{name} closed the link: {reason}", reason=reason.slug)
        self._end(reason.slug, None)

    def _no_receiver(self, kind: int, record: memoryview, start: int, end: int) -> None:
        if self._heir is not None:
            self._heir.inherit(kind, record, start, end)
        if self._state in (State.DRAINING, State.GONE):
            return
        check_unclaimed(kind, self._state is State.GREETING)
        self._context.counters.count("no-receiver")
        self._turns.charge()

    # what control frames may cost

    def _read(self, more: bool) -> None:
        if more:
            self._transport.resumeProducing()
        else:
            self._context.counters.count("control-paused")
            self._transport.pauseProducing()

    def _flooded(self) -> None:
        self.log.warn("{name} floods us with control frames: its link is left", name=self._peer.name)
        self._context.counters.count("control-flood")
        self._end(CloseReason.FLOOD.slug, CloseReason.FLOOD)

    def _refused(self, error: Exception) -> None:
        """A frame was; or what takes it is at fault, which costs the link as well."""
        if not isinstance(error, GmeshError):
            broken = partial(self.log.failure, failure=Failure(error))
            self._tell("frame-broke", "A frame of {name} broke its receiver", log=broken)
            self._end("broken", CloseReason.UNSPECIFIED)
            return
        self._context.refusals.refuse(error.reason, error.detail, self.address, self.initiator)
        self._end(error.reason, CloseReason.PROTOCOL)

    # the timer

    def _came_due(self, alarm: Alarm) -> None:
        if alarm is Alarm.PING:
            self._pinger.ask()
        elif alarm is Alarm.SUSPECT:
            self._changed()
        elif alarm is Alarm.STUCK:
            self._end(alarm.value, None)
        else:
            if alarm is Alarm.LATE and self.initiator:
                self._context.refusals.refuse(TIMED_OUT, NO_HANDSHAKE, self.address, True)
            self._end(alarm.value, CloseReason.EXPIRED if alarm is Alarm.EXPIRED else CloseReason.TIMEOUT)

    # endings

    _heir: INeighbourLink | None = None
    _renewal: RenewalLink | None = None

    def _end(self, reason: str, farewell: CloseReason | None) -> None:
        """The link ends now, for C{reason}; CLOSE is sent if that needs no waiting."""
        if self._state is State.GONE:
            return
        self._leave(reason)
        self._state = State.GONE
        self._heir = None
        self._table = {}
        self._context.neighbours.leave(self)
        self._ending.cut(farewell)

    def _leave(self, reason: str) -> None:
        """A link for routing no longer."""
        self._timers.stop()
        self._turns.stop()
        self._egress.captures.end()
        if self._reason is None:
            self._reason = reason
        if self._state is State.UP and self._neighbour is not None:
            self._state = State.DRAINING
            self._tell("link-down", "Link to {name} is down: {reason}", reason=reason)
            self._context.neighbours.down(self._neighbour, reason)

    def _tell(
        self, cause: str, text: str, log: Callable[..., object] | None = None, **values: object
    ) -> None:
        peer, now, log = self._peer, self._clock.seconds(), log or self.log.info
        self._context.lines.write(log, now, cause, peer.node_key, text, name=peer.name, **values)

    def _changed(self) -> None:
        """It is suspect, or no longer, or has another certificate."""
        if self._state is State.UP and self._neighbour is not None:
            self._context.neighbours.changed(self._neighbour)


class MeshFactory(RecordProtocolFactory):
    """
    Builds the links of one node; gives out the Twisted factories that listen and dial.

    @param noise: what its handshakes share.
    """

    def __init__(self, context: MeshContext, noise: NoiseContext) -> None:
        self._context = context
        self._noise = noise

    def accepting(self) -> IProtocolFactory:
        """The factory to listen with, on any number of stream server endpoints."""
        return NoiseFactory(self._noise, self, False)

    def dialling(self, observer: DialObserver | None = None) -> IProtocolFactory:
        """The factory for one dial; C{observer} is given its outcome."""
        return NoiseFactory(self._noise, self, True, observer)

    def build_secure(
        self, transport: ISecureTransport, deadline: float, observer: DialObserver | None
    ) -> MeshProtocol:
        """Called by the Noise layer once both ends were judged."""
        return MeshProtocol(self._context, transport, deadline, observer)

    def build_renewal(self, transport: ISecureTransport) -> RecordProtocol | None:
        """Called by the Noise layer for a dialler whose certificate has ended and that may renew it."""
        return self._context.renewals.accept(transport)

    def build_join(self, transport: ISecureTransport, group: str) -> RecordProtocol:
        """Called by the Noise layer for a dialler that has no certificate."""
        return self._context.joins.accept(transport, group)

    def farewell(self, error: PeerRefused) -> bytes:
        """The record that says to a refused peer why."""
        return pack_frame(Kind.CLOSE, Close(close_reason(error)).encode())
