# SPDX-License-Identifier: MIT
"""
Noise XX over any stream transport: preamble, handshake, both ends judged, then sealed records.

The dialler writes the preamble, which with the network_id is the prologue, and message 1 with its
genesis version in clear.  Messages 2 and 3 carry certificates; each end judges the other through
L{IPeerVerifier<gmesh.interfaces.IPeerVerifier>}, the dialler before it sends message 3.  Until then
a stranger has a deadline, a slot among the half-open and one bounded record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    IProducer,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.errors import FrameRefused, GmeshError, PeerRefused
from gmesh.interfaces import INoiseSession, IPeerVerifier, IPreparable, ISecureTransport
from gmesh.mesh.counters import Refusals
from gmesh.mesh.handshake_gate import HandshakeGate, HandshakeSlot
from gmesh.mesh.hop_sessions import HopSessions
from gmesh.mesh.limits import DRAIN_DEADLINE, HANDSHAKE_DEADLINE, PARTING_DEADLINE
from gmesh.mesh.peer_identity import Peer
from gmesh.mesh.sockets import carried_by, display_address, keep_unsent, read_much, tune_socket
from gmesh.mesh.timers import cancel_calls
from gmesh.wire.handshake import HandshakePayload, decode_genesis_version, encode_genesis_version
from gmesh.wire.limits import INITIATOR_READS, RESPONDER_READS
from gmesh.wire.preamble import PREAMBLE_SIZE, encode_preamble, read_preamble
from gmesh.wire.records import RecordReader, frame_record, record_head
from gmesh.wire.suites import Suite

__all__ = [
    "NO_HANDSHAKE",
    "TIMED_OUT",
    "DialObserver",
    "NoiseContext",
    "NoiseFactory",
    "NoiseProtocol",
    "RecordProtocol",
    "RecordProtocolFactory",
]

TIMED_OUT = "handshake-timeout"
NO_HANDSHAKE = (
    "it takes connections, and no handshake came to its end in time: another program has the port, or large"
    " packets are lost on the way"
)
QUIET = frozenset({"not-gmesh", "http"})
_HTTP = (b"GET ", b"POST", b"HEAD", b"PUT ", b"OPTI", b"CONN", b"PRI ")


class DialObserver:
    """The dialler's side of one dial: is given its outcome."""

    @property
    def suite_turn(self) -> int:
        """Which of the allowed suites to propose, from 0, wrapping around."""
        raise NotImplementedError

    def linked(self, peer: Peer) -> None:
        """The link exists for routing."""

    def ended(self, reason: str, peer: Peer | None) -> None:
        """The connection is gone; called exactly once if it was made at all."""


class RecordProtocol:
    """What stands on a L{NoiseProtocol}: L{gmesh.mesh.link.MeshProtocol}."""

    def secure_connection_made(self) -> None:
        """Both ends of the handshake are known; records may be sent."""

    def record_received(self, record: bytes) -> None:
        """One opened record."""

    def records_ended(self) -> None:
        """All that arrived at once was handed over."""

    def secure_connection_lost(self, reason: str) -> None:
        """No more records. C{reason} is a slug."""


class RecordProtocolFactory:
    """Builds the protocol for each judged peer: L{gmesh.mesh.link.MeshFactory}."""

    def build_secure(
        self, transport: ISecureTransport, deadline: float, observer: DialObserver | None
    ) -> RecordProtocol:
        """@param deadline: the time on the clock by which the link must exist."""
        raise NotImplementedError

    def build_renewal(self, transport: ISecureTransport) -> RecordProtocol | None:
        """The protocol for a dialler whose certificate has ended, if it may ask for the next one here."""
        raise NotImplementedError

    def build_join(self, transport: ISecureTransport, group: str) -> RecordProtocol:
        """
        The protocol for a dialler that has no certificate yet.

        @param group: the address it comes from, as L{gmesh.mesh.handshake_gate.address_group} names it.
        @raise PeerRefused: if it may not join here.
        """
        raise NotImplementedError

    def farewell(self, error: PeerRefused) -> bytes:
        """The record that says to a refused peer why."""
        raise NotImplementedError


@dataclass
class NoiseContext:
    """
    What every handshake of this node shares.

    @ivar suites: those the genesis allows, in its order; the first is proposed.
    """

    clock: IReactorTime
    sessions: HopSessions
    suites: Callable[[], Sequence[Suite]]
    verifier: IPeerVerifier
    gate: HandshakeGate
    refusals: Refusals


@implementer(IPreparable, ISecureTransport)
class NoiseProtocol(Protocol):
    """One connection: judged first, then a secure transport for the protocol above it."""

    def __init__(
        self,
        context: NoiseContext,
        upper: RecordProtocolFactory,
        observer: DialObserver | None,
        initiator: bool,
    ):
        self.initiator = initiator
        self.address = ""
        self._context = context
        self._upper_factory = upper
        self._observer = observer
        self._upper: RecordProtocol | None = None
        self._peer: Peer | None = None
        self._session: INoiseSession | None = None
        self._first = b""
        self._prepared: object = None
        self._reader = RecordReader(INITIATOR_READS if initiator else RESPONDER_READS)
        self._preamble = b"" if not initiator else None
        self._slot = HandshakeSlot(context.gate, self._give_way)
        self._located: object = None
        self._timer: IDelayedCall | None = None
        self._deadline = 0.0
        self._reason = "closed-in-handshake"
        self._closing = False

    # ISecureTransport

    @property
    def peer(self) -> Peer:
        """The judged node at the other end."""
        assert self._peer is not None, "judged before anything above exists"
        return self._peer

    @property
    def over(self) -> str:
        """What it runs over: L{carried_by}."""
        return carried_by(self.transport)

    @property
    def handshake_hash(self) -> bytes:
        """Equal at both ends of this session."""
        assert self._session is not None
        return cast(bytes, self._session.handshake_hash)

    def send_record(self, plaintext: bytes) -> None:
        """Seal and write one record; nothing once the transport is closing."""
        if not self._closing and self._session is not None and self.transport is not None:
            sealed = self._session.seal(plaintext)
            self.transport.writeSequence((record_head(sealed), sealed))  # the transport joins, once

    def rekey_outbound(self) -> None:
        """Switch the outbound key."""
        if self._session is not None:
            self._session.rekey_outbound()

    def rekey_inbound(self) -> None:
        """Switch the inbound key."""
        if self._session is not None:
            self._session.rekey_inbound()

    def keep_unsent(self, size: int) -> None:
        """Let the system below hold so many bytes unsent."""
        keep_unsent(self.transport, size)

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Passed to the transport below."""
        cast(IConsumer, self.transport).registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """Passed to the transport below."""
        cast(IConsumer, self.transport).unregisterProducer()

    def pauseProducing(self) -> None:
        """Passed to the transport below."""
        if self.transport is not None:
            cast(IPushProducer, self.transport).pauseProducing()

    def resumeProducing(self) -> None:
        """Passed to the transport below, unless that is closing."""
        if self.transport is not None and not self._closing:
            cast(IPushProducer, self.transport).resumeProducing()

    def lose(self, within: float = DRAIN_DEADLINE) -> None:
        """Close once all is written, or after C{within} seconds."""
        if self._closing or self.transport is None:
            return
        self._closing = True
        self._session = None
        self._cancel_timer()
        self._timer = self._context.clock.callLater(within, self.abort)
        self.transport.loseConnection()

    def abort(self) -> None:
        """Cut now."""
        self._closing = True
        self._session = None
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]  # ITransport has no abort, every stream transport does

    # IProtocol

    def connectionMade(self) -> None:
        """Enter among the half-open, start the deadline; a dialler speaks first."""
        tune_socket(self.transport)
        context = self._context
        self._deadline = context.clock.seconds() + HANDSHAKE_DEADLINE
        self._timer = context.clock.callLater(HANDSHAKE_DEADLINE, self._timed_out)
        self._locate()
        if self._closing or not self.initiator:
            return
        self.prepare()
        first, self._first, self._prepared = self._first, b"", None
        self.transport.write(first)  # type: ignore[union-attr]  # set before connectionMade

    def dataReceived(self, data: bytes) -> None:
        """Preamble, handshake messages, then records."""
        if self._closing:
            return
        try:
            if self._preamble is not None:
                data = self._read_preamble(data)
            for message in self._reader.feed(data):
                if self._upper is not None:
                    assert self._session is not None
                    self._upper.record_received(self._session.open(message))
                else:
                    self._read_handshake(message)
                if self._closing:
                    return
            if self._upper is not None:
                self._upper.records_ended()
        except (FrameRefused, PeerRefused) as error:
            self._refuse(error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Report it to the layer above exactly once, and leave nothing running."""
        self._cancel_timer()
        self._slot.leave()
        self._closing = True
        self._session = None
        if self._upper is not None:
            self._upper.secure_connection_lost(self._reason)
            return
        if self._reason == "closed-in-handshake":
            self._context.refusals.quiet(self._reason)
        if self._observer is not None:
            self._observer.ended(self._reason, self._peer)

    # IPreparable

    def prepare(self) -> None:
        """Of a dialler: what it says first; anew where our key or the genesis has changed since."""
        context = self._context
        suites, version = context.suites(), context.verifier.genesis_version()
        prepared = (suites, version, context.sessions.key)
        if self._prepared == prepared:
            return
        self._prepared = prepared
        suite = suites[self._observer.suite_turn % len(suites) if self._observer is not None else 0]
        self._session = context.sessions.begin(suite, self.initiator)
        message = self._session.write_message(encode_genesis_version(version))
        self._first = encode_preamble(suite) + frame_record(message)

    # the handshake

    def _locate(self) -> None:
        """Behind a proxy the peer's address is known from its first bytes only: then the place is moved."""
        address = self.transport.getPeer()  # type: ignore[union-attr]  # set before connectionMade
        if address == self._located:
            return
        self._located = address
        self.address = display_address(address)
        if self.initiator:
            return
        cause = self._slot.take(getattr(address, "host", ""))
        if cause is not None:
            self._give_up(cause)

    def _read_preamble(self, data: bytes) -> bytes:
        assert self._preamble is not None
        if not self._preamble:
            self._locate()
            if self._closing:
                return b""
        self._preamble += data
        if self._preamble.startswith(_HTTP):
            raise FrameRefused("http", "an HTTP request came to the port of the mesh")
        suite = read_preamble(self._preamble, self._context.suites())
        if suite is None:
            return b""
        rest = self._preamble[PREAMBLE_SIZE:]
        self._preamble = None
        self._session = self._context.sessions.begin(suite, self.initiator)
        return rest

    def _read_handshake(self, message: memoryview) -> None:
        session, verifier = self._session, self._context.verifier
        assert session is not None
        if self.initiator:
            payload = bytes(session.read_message(bytes(message)))
            self._judge(payload)
            version = HandshakePayload.decode(payload).genesis_version
            self._write_message(verifier.payload(version))
            self._secured(self._link())
        elif session.remote_static is None and not self._answered:
            cause = self._slot.begin()
            if cause is not None:
                self._give_up(cause)
                return
            version = decode_genesis_version(session.read_message(bytes(message)))
            self._answered = True
            self._write_message(verifier.payload(version))
        else:
            self._secured(self._judge_dialler(bytes(session.read_message(bytes(message)))))

    _answered = False

    def _write_message(self, payload: bytes) -> None:
        assert self._session is not None and self.transport is not None
        self.transport.write(frame_record(self._session.write_message(payload)))

    def _judge(self, payload: bytes) -> None:
        assert self._session is not None
        self._peer = self._context.verifier.verify(payload, self._session.remote_static)

    def _judge_dialler(self, payload: bytes) -> RecordProtocol:
        """One whose certificate has ended, or that has none, may be let in to get one, for nothing else."""
        if not payload:
            return self._upper_factory.build_join(self, self._slot.group)
        try:
            self._judge(payload)
        except PeerRefused as ended:
            if ended.reason != "expired":
                raise
            assert self._session is not None
            self._peer = self._context.verifier.verify_ended(payload, self._session.remote_static)
            renewal = self._upper_factory.build_renewal(self)
            if renewal is None:
                raise
            return renewal
        return self._link()

    def _link(self) -> RecordProtocol:
        return self._upper_factory.build_secure(self, self._deadline, self._observer)

    def _secured(self, upper: RecordProtocol) -> None:
        self._cancel_timer()
        if self._peer is not None:
            self._slot.judged()
            read_much(self.transport)
        else:
            self._slot.leave()
        self._reason = "connection-lost"
        self._upper = upper
        upper.secure_connection_made()

    # endings

    def _refuse(self, error: GmeshError) -> None:
        """The peer, or a record of it, is not to be believed."""
        self._reason = error.reason
        refusals = self._context.refusals
        if error.reason in QUIET:
            refusals.quiet(error.reason)
        else:
            refusals.refuse(error.reason, error.detail, self.address, self.initiator)
        session = self._session
        if isinstance(error, PeerRefused) and session is not None and session.finished:
            self.send_record(self._upper_factory.farewell(error))
            self.lose(PARTING_DEADLINE)
        else:
            self.abort()

    def _give_up(self, cause: str) -> None:
        self._reason = cause
        self._context.refusals.quiet(cause)
        self.abort()

    def _give_way(self) -> None:
        """A newer stranger takes the place."""
        self._give_up("half-open-limit")

    def _timed_out(self) -> None:
        self._timer = None
        if self.initiator:
            self._context.refusals.refuse(TIMED_OUT, NO_HANDSHAKE, self.address, True)
            self._reason = TIMED_OUT
            self.abort()
        else:
            self._give_up(TIMED_OUT)

    def _cancel_timer(self) -> None:
        cancel_calls(self._timer)
        self._timer = None


class NoiseFactory(Factory):
    """
    Builds a L{NoiseProtocol} for each connection.

    @param initiator: True to dial, False to listen.
    @param observer: of the dialler, if it wants the outcome.
    """

    noisy = False

    def __init__(
        self,
        context: NoiseContext,
        upper: RecordProtocolFactory,
        initiator: bool,
        observer: DialObserver | None = None,
    ) -> None:
        self._context = context
        self._upper = upper
        self._initiator = initiator
        self._observer = observer

    def buildProtocol(self, addr: IAddress | None) -> NoiseProtocol:
        """@param addr: not used: behind a proxy it is not the peer's."""
        return NoiseProtocol(self._context, self._upper, self._observer, self._initiator)
