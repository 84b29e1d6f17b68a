# SPDX-License-Identifier: MIT
"""
One sealed session between two ends: a Noise IK handshake, then frames under explicit counters.

Tests: C{tests/endtoend/test_sessions.py}, C{tests/endtoend/test_hostile_relay.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gmesh.endtoend import limits
from gmesh.endtoend.handshake_mac import HandshakeMacs
from gmesh.endtoend.replay import ReplayWindow
from gmesh.errors import FrameRefused, GmeshError, PeerRefused
from gmesh.mesh.peer_identity import Peer, allowed_suites, peer_of
from gmesh.trust.documents import Certificate, Document, parse_document
from gmesh.trust.keys import NoiseKey
from gmesh.trust.state import TrustState
from gmesh.wire.limits import E2E_MAC
from gmesh.wire.messages import E2eInit, E2eResponse, EndParameters
from gmesh.wire.noise import NoiseSession, StaticKey
from gmesh.wire.paths import FrameTemplate, PathHeader, TrafficClass, associated_data, pack_counter
from gmesh.wire.preamble import end_prologue
from gmesh.wire.suites import Suite

__all__ = ["Handshaker", "Initiation", "SealedSession"]

_SILENT = EndParameters()
_NORMAL = int(TrafficClass.NORMAL)  # a member of an Enum is looked up by a function in Python 3.11


class SealedSession:
    """
    Keys shared with one peer, after the handshake; pure.

    @ivar peer: the verified node at the other end.
    @ivar initiator: True if this end wrote message 1.
    @ivar local_index: what the peer puts into the headers of its frames to us.
    @ivar remote_index: what we put into ours.
    @ivar number: the number of the handshake that made it.
    @ivar began: when this end wrote its message of the handshake, monotonic.
    @ivar born: when it finished the handshake.
    @ivar due_at: when it is old enough for the next handshake, monotonic.
    @ivar flow: own handle and the peer's: what the queues of links know its frames by.
    @ivar heard: True once a frame was opened: the peer holds the keys and uses them.
    @ivar sent: frames sealed.
    @ivar wiped: True once the keys are forgotten.
    @ivar peer_crl: number of the newest CRL the peer held when it made the handshake.
    @ivar boot: another one each time the peer starts, empty if it does not say; like C{features} to be
        believed once the session is heard.
    @ivar features: what the peer can do, as bits of L{gmesh.wire.session_messages.Feature}.
    """

    __slots__ = (
        "_associated",
        "_noise",
        "_path",
        "_template",
        "_window",
        "began",
        "boot",
        "born",
        "due_at",
        "features",
        "flow",
        "heard",
        "initiator",
        "local_index",
        "number",
        "peer",
        "peer_crl",
        "remote_index",
        "sent",
        "wiped",
    )

    def __init__(
        self,
        noise: NoiseSession,
        peer: Peer,
        own: bytes,
        initiator: bool,
        local: int,
        remote: int,
        number: int,
        born: float,
    ) -> None:
        self.peer = peer
        self.initiator = initiator
        self.local_index = local
        self.remote_index = remote
        self.number = number
        self.born = self.began = born
        self.due_at = born + (limits.REKEY_AFTER_TIME if initiator else limits.REKEY_AFTER_TIME_RESPONDER)
        self.heard = False
        self.sent = 0
        self.wiped = False
        self.peer_crl = 0
        self.boot, self.features = _SILENT
        self._noise = noise
        self._window = ReplayWindow()
        self._associated = FrameTemplate((peer.handle, own), local).associated
        self._path: Sequence[bytes] = (own, peer.handle)
        self._template = FrameTemplate(self._path, remote)
        self.flow = self._template.flow

    def usable(self, now: float) -> bool:
        """True while it may still seal."""
        return now - self.born < limits.REJECT_AFTER_TIME and self.sent < limits.REJECT_AFTER_MESSAGES

    def due(self, now: float) -> bool:
        """True when this end should begin the next handshake, if the session is in use."""
        return now >= self.due_at or self.sent >= limits.REKEY_AFTER_MESSAGES

    def seal(self, plaintext: bytes, path: Sequence[bytes]) -> tuple[bytes, bytes]:
        """
        One E2E_DATA frame along C{path}, whose counter is L{sent} before. Ask L{usable} first.

        @return: the frame in two pieces: all before the ciphertext, and the ciphertext.
        """
        if path is not self._path and path != self._path:
            self._template = FrameTemplate(path, self.remote_index)
            self._path = path
        template = self._template
        counter = self.sent
        packed = pack_counter(counter)
        ciphertext = self._noise.seal_at(counter, template.associated + packed, plaintext)
        self.sent = counter + 1
        return template.head(packed, len(ciphertext)), ciphertext

    def open(self, header: PathHeader, ciphertext: bytes | memoryview) -> bytes:
        """
        The plaintext of one E2E_DATA frame for us: check the counter, decrypt, then mark it.

        @raise FrameRefused: C{replayed} or C{not-authentic}; nothing has changed then.
        """
        _, _, counter, _, traffic_class, _ = header
        window = self._window
        if counter <= window.highest and not window.fresh(counter):
            raise FrameRefused("replayed", "a sealed frame came twice or too late")
        if traffic_class == _NORMAL:
            associated = self._associated + pack_counter(counter)
        else:
            associated = associated_data(header)
        plaintext = self._noise.open_at(counter, associated, ciphertext)
        window.mark(counter)
        return plaintext

    @property
    def newest(self) -> int:
        """The greatest counter of the peer's frames that were opened, -1 before the first."""
        return self._window.highest

    def wipe(self) -> None:
        """Forget the keys; nothing is sealed or opened any more."""
        self.wiped = True
        self._noise.wipe()


class Initiation:
    """
    A handshake this end began and the peer has not answered.

    @ivar message: message 1; the payload of an E2E_INIT once the MAC is behind it.
    @ivar number: its handshake number, also in the header.
    """

    __slots__ = ("_noise", "_own", "local_index", "message", "number", "peer")

    def __init__(
        self, noise: NoiseSession, peer: Peer, own: bytes, local: int, number: int, payload: bytes
    ) -> None:
        self.peer = peer
        self.local_index = local
        self.number = number
        self._noise = noise
        self._own = own
        self.message = noise.write_message(payload)

    def finish(self, message: bytes | memoryview, now: float) -> SealedSession:
        """
        Read message 2.

        @raise GmeshError: if it is not the peer's answer to this handshake, which has then ended.
        """
        answer = E2eResponse.decode(self._noise.read_message(message))
        if answer.handshake != self.number:
            raise FrameRefused("wrong-number", "the answer names another handshake than the one it answers")
        session = SealedSession(
            self._noise, self.peer, self._own, True, self.local_index, answer.session, self.number, now
        )
        session.peer_crl = answer.crl
        session.boot, session.features = answer.parameters
        return session

    def wipe(self) -> None:
        """Forget the keys; the answer will be refused."""
        self._noise.wipe()


class Handshaker:
    """
    This node as its peers see it: what it needs to begin a handshake, and to answer one.

    A new handshake uses the first suite of the genesis; one of a peer whose genesis is older or newer
    may use any that ours allows.

    @param own_certificate: the certificate in use, a new one after each renewal.
    @param noise_keys: the X25519 keys that unexpired certificates of ours name, the current one's too.
    @param next_number: a handshake number above all this node ever used.
    @param parameters: what this node says of itself.
    @ivar trust: who is believed.
    @ivar wall: Unix seconds, to judge certificates.
    @ivar features: what this node says that it can do.
    """

    def __init__(
        self,
        *,
        trust: TrustState,
        own_certificate: Callable[[], Document[Certificate]],
        noise_keys: Callable[[], Sequence[NoiseKey]],
        next_number: Callable[[], int],
        wall: Callable[[], float],
        parameters: EndParameters = _SILENT,
    ) -> None:
        self.trust = trust
        self.wall = wall
        self._own_certificate = own_certificate
        self._noise_keys = noise_keys
        self._next_number = next_number
        self._parameters = parameters
        self.features = parameters.features
        self._macs = HandshakeMacs(trust.network_id)
        self._statics: dict[bytes, StaticKey] = {}
        self._own_of: Document[Certificate] | None = None
        self._own: Peer | None = None

    @property
    def own(self) -> Peer:
        """This node, as its current certificate says."""
        document = self._own_certificate()
        if self._own is None or document is not self._own_of:
            self._own = peer_of(document)
            self._own_of = document
        return self._own

    def begin(self, peer: Peer, index: int) -> Initiation:
        """
        Message 1 to C{peer}, which will answer to session C{index}.

        @raise GmeshError: if our own key or the peer's is of no use.
        """
        own = self.own
        suite = self._suites()[0]
        prologue = end_prologue(suite, self.trust.network_id, own.handle, peer.handle)
        for key in self._noise_keys():
            if key.public == own.noise_key:
                break
        else:
            raise PeerRefused(
                "key-mismatch", "none of this node's X25519 keys is the one its certificate names"
            )
        noise = NoiseSession("IK", suite, True, self._static(key), prologue, remote_static=peer.noise_key)
        number = self._next_number()
        payload = E2eInit(
            own.certificate.encode(), number, index, self._crl_number(), self._parameters
        ).encode()
        initiation = Initiation(noise, peer, own.handle, index, number, payload)
        initiation.message += self._macs.mac(
            key, peer.noise_key, own.handle + peer.handle, number, initiation.message
        )
        return initiation

    def proves(self, peer: Peer, header: PathHeader, body: bytes | memoryview, now: float) -> bool:
        """
        Has C{peer} written this message 1, as the MAC behind it shows?  No key is exchanged for it.

        False proves nothing: its certificate may name a newer key than the one known here.

        @param body: the payload of an E2E_INIT.
        """
        flow = header.source + header.destination
        return self._macs.proves(self._noise_keys(), peer.noise_key, flow, header.counter, body, now)

    def answer(
        self, header: PathHeader, body: bytes | memoryview, index: int, now: float
    ) -> tuple[SealedSession, bytes]:
        """
        Read message 1 and write message 2.

        @param body: the payload of an E2E_INIT; the MAC in it is the business of L{proves}.
        @return: the session, not to be used for sending before a frame of it was heard, and message 2.
        @raise GmeshError: if the handshake is not authentic, or its sender is not believed.
        """
        own = self.own
        noise, payload = self._read(body[:-E2E_MAC], header.source, own.handle)
        hello = E2eInit.decode(payload)
        if hello.handshake != header.counter:
            raise FrameRefused("wrong-number", "the handshake number in the header is not the sealed one")
        peer = self._judge(hello.certificate, header.source, noise.remote_static)
        reply = noise.write_message(
            E2eResponse(index, header.counter, self._crl_number(), own.serial, self._parameters).encode()
        )
        session = SealedSession(noise, peer, own.handle, False, index, hello.session, header.counter, now)
        session.peer_crl = hello.crl
        session.boot, session.features = hello.parameters
        return session, reply

    def _judge(self, certificate: bytes, source: bytes, remote_static: bytes | None) -> Peer:
        document = parse_document(certificate, Certificate)
        self.trust.judge_certificate(document, self.wall())
        peer = peer_of(document)
        if peer.handle != source:
            raise PeerRefused(
                "wrong-source", "the certificate in the handshake is not that of the source of the path"
            )
        if peer.noise_key != remote_static:
            raise PeerRefused(
                "key-mismatch", "the handshake was made with another key than the certified one"
            )
        return peer

    def _read(self, message: bytes | memoryview, source: bytes, own: bytes) -> tuple[NoiseSession, bytes]:
        refusal: GmeshError = PeerRefused("no-key", "this node holds no X25519 key")
        for suite in self._suites():
            prologue = end_prologue(suite, self.trust.network_id, source, own)
            for key in self._noise_keys():
                noise = NoiseSession("IK", suite, False, self._static(key), prologue)
                try:
                    return noise, noise.read_message(message)
                except GmeshError as error:
                    refusal = error
        raise refusal

    def _suites(self) -> tuple[Suite, ...]:
        suites = allowed_suites(self.trust.genesis.body)
        if not suites:
            raise PeerRefused("no-suite", "this version knows none of the cipher suites of the genesis")
        return suites

    def _static(self, key: NoiseKey) -> StaticKey:
        static = self._statics.get(key.public)
        if static is None:
            if len(self._statics) >= limits.MAX_STATIC_KEYS:
                self._statics.clear()
            static = self._statics[key.public] = StaticKey(key.private)
        return static

    def _crl_number(self) -> int:
        crl = self.trust.crl
        return 0 if crl is None else crl.body.number
