# SPDX-License-Identifier: MIT
"""
The seams of gmesh, as zope interfaces: where one layer meets the next.

Each says what calls it and when.  Types of arguments stand in the providers; this module
imports only zope and Twisted interfaces, so every layer may import it.  Tests:
C{tests/mesh/test_noise.py}, C{tests/routing/test_engine.py}.
"""

from __future__ import annotations

from zope.interface import Attribute, Interface

__all__ = [
    "IControlCommand",
    "IFrameReceiver",
    "IFrameReceiverFactory",
    "ILink",
    "INeighbourLink",
    "INoiseSession",
    "IPeerStreams",
    "IPeerVerifier",
    "IPreparable",
    "IRouteEngine",
    "ISecureTransport",
    "ISigner",
    "IStream",
    "IStreamOffer",
    "IStreamReader",
    "IStreams",
]


class INoiseSession(Interface):
    """
    One Noise handshake and the two transport ciphers it yields.

    Called by C{mesh.noise} (XX, hop by hop) and C{endtoend.session} (IK); the provider in
    C{wire.noise} stands on the Noise library.  Every failure is a
    L{gmesh.errors.FrameRefused} or L{gmesh.errors.PeerRefused}; after one, the session is dead.
    """

    finished = Attribute("True once the last handshake message was written or read.")
    remote_static = Attribute("The peer's X25519 public key, 32 bytes, or None while unknown.")
    handshake_hash = Attribute("Channel binding, equal at both ends; None until finished.")

    def write_message(payload):
        """The next handshake message, carrying C{payload}. @rtype: bytes"""

    def read_message(message):
        """Read the peer's handshake message; its payload. @rtype: bytes"""

    def seal(plaintext):
        """Encrypt one record with the next outbound counter. @rtype: bytes"""

    def open(ciphertext):
        """Decrypt one record with the next inbound counter. @rtype: bytes"""

    def seal_at(counter, associated, plaintext):
        """Encrypt under an explicit counter and associated data. @rtype: bytes"""

    def open_at(counter, associated, ciphertext):
        """Decrypt under an explicit counter and associated data. @rtype: bytes"""

    def rekey_outbound():
        """Replace the outbound key (Noise 4.2 REKEY); counters go on."""

    def rekey_inbound():
        """Replace the inbound key (Noise 4.2 REKEY); counters go on."""


class IPeerVerifier(Interface):
    """
    Judges the other end of a handshake and provides our side of it.

    Called by C{mesh.noise} during each handshake, on dial and on accept.
    """

    def genesis_version():
        """The version of the genesis we hold, sent in message 1. @rtype: int"""

    def payload(peer_genesis_version):
        """Our handshake payload: certificate, plus the genesis documents the peer lacks. @rtype: bytes"""

    def verify(payload, remote_static):
        """
        Make all five checks: signature chain, validity, network, revocation, key binding.

        @rtype: L{gmesh.mesh.peer_identity.Peer}
        @raise gmesh.errors.PeerRefused: with the reason of the first check that failed.
        """

    def verify_ended(payload, remote_static):
        """
        The same for a dialler whose certificate has ended, and that may still renew it: who is judged
        good here gets a link for that alone.

        @rtype: L{gmesh.mesh.peer_identity.Peer}
        @raise gmesh.errors.PeerRefused: with the reason of the first check that failed.
        """


class IPreparable(Interface):
    """
    A protocol that can get ready while its connection is being opened: L{gmesh.mesh.opening} asks it to.
    """

    def prepare():
        """Do what needs nothing of the other end; C{connectionMade} comes later, or never."""


class ISecureTransport(Interface):
    """
    An authenticated, encrypted, record-preserving transport to one peer.

    Offered by C{mesh.noise.NoiseProtocol} to the C{MeshProtocol} above it once both ends
    were judged.
    """

    peer = Attribute("The verified L{gmesh.mesh.peer_identity.Peer} at the other end.")
    initiator = Attribute("True if this end dialled.")
    handshake_hash = Attribute("Channel binding of the session, 32 bytes.")
    address = Attribute("Peer address as C{HOST:PORT}, for display only, never identity.")
    over = Attribute("What it runs over, for display: C{tcp}, C{tls}, C{wss} or C{ws}, and by which proxy.")

    def send_record(plaintext):
        """Seal whole frames, at most C{MAX_RECORD_PLAINTEXT} bytes, and write them."""

    def rekey_outbound():
        """Switch the outbound key, right after the record that announced it."""

    def rekey_inbound():
        """Switch the inbound key, right after the record that announced it."""

    def lose():
        """Close after what is buffered has gone, aborting if that takes too long."""

    def abort():
        """Cut now."""

    def keep_unsent(size):
        """Let the system below hold so many bytes unsent, where it can be set."""

    def registerProducer(producer, streaming):
        """As C{twisted.internet.interfaces.ITransport}: C{producer} is paused and resumed."""

    def unregisterProducer():
        """Pause and resume it no more."""

    def pauseProducing():
        """Read nothing, so that the other end has to wait."""

    def resumeProducing():
        """Read again."""


class ILink(Interface):
    """
    A hop to one neighbour, after HELLO both ways: all that routing and control may touch.
    """

    peer = Attribute("The verified L{gmesh.mesh.peer_identity.Peer}.")
    initiator = Attribute("True if this end dialled.")
    address = Attribute("Peer address as C{HOST:PORT}.")
    over = Attribute("What it runs over, for display: C{tcp}, C{tls}, C{wss} or C{ws}, and by which proxy.")
    rtt = Attribute("Smoothed round trip in seconds, or None before the first PONG.")
    hello = Attribute("The peer's L{gmesh.wire.messages.Hello}; its digest only while the link comes up.")
    suspect = Attribute("True while a PONG is missing: no new paths over this link.")
    backlog = Attribute("Bytes of data that wait for the transport.")
    control_backlog = Attribute("Bytes of control frames that wait for the transport.")

    def send_control(kind, body):
        """Queue a control frame (always before data). C{kind}: int, C{body}: bytes."""

    def send_data(frame, flow, rest=b""):
        """
        Queue a whole data frame, three header bytes included, of C{flow}.

        @param flow: the handles of the node it came from, its source and its destination; the first may be
            left out where it is the source.
        @param rest: the end of the frame where that is a large thing elsewhere: bytes or a memoryview.
        @return: True if taken, False if dropped and counted.
        """

    def hold():
        """More frames follow, and share a record until C{release}: to be called this turn, if True."""

    def release():
        """No more follow: they leave now, unless something else waits for the end of the turn."""

    def register_sender(flow, producer):
        """
        Name the C{twisted.internet.interfaces.IPushProducer} on this host that sends C{flow}: it is paused
        while the link has no room for it, resumed when it has, stopped when the link ends; never dropped.
        """

    def unregister_sender(flow):
        """That producer has sent its last frame; queued frames still go."""

    def capture(seconds, count):
        """Headers of the next frames. @return: Deferred of a list of L{gmesh.mesh.capture.FrameTrace}."""

    def close(reason):
        """Send CLOSE with a reason of L{gmesh.wire.messages.CloseReason}, drain, then disconnect."""

    def cut(reason):
        """Best-effort CLOSE and abort now: revocation and expiry."""


class INeighbourLink(ILink):
    """
    A session with a judged peer, as L{gmesh.mesh.neighbours.Neighbours} decides about it.
    """

    own_hello = Attribute("The L{gmesh.wire.messages.Hello} that we sent.")
    handshake_hash = Attribute("Channel binding, equal at both ends, 32 bytes.")

    def give_way(heir):
        """Drain both ways, handing what arrives to C{heir}, the link from now on; then disconnect."""

    def inherit(kind, record, start, end):
        """A frame came late, by a session that gave way to this one."""

    def probe():
        """Show life within one PONG's time or die."""

    def renew(peer):
        """Go on under a newer certificate of the same keys, judged: L{gmesh.mesh.peer_identity.Peer}."""

    def purge(handle):
        """Drop what is queued from or to the node with this handle."""


class IFrameReceiverFactory(Interface):
    """
    Builds, for each link that comes up, the receiver of certain frame kinds.

    Registered with the dispatcher by L{gmesh.node.composition}.
    """

    kinds = Attribute("frozenset of the frame kinds its receivers take.")

    def build_receiver(neighbour):
        """A receiver of what this L{gmesh.mesh.neighbour.Neighbour} sends. @rtype: IFrameReceiver"""


class IFrameReceiver(Interface):
    """What is done with a neighbour's frames of certain kinds, from when its link is up until it ends."""

    def frame_received(kind, record, start, end):
        """
        One whole frame, C{record[start:end]}, its body from C{start + 3}.

        C{record} is a memoryview; a slice that is kept keeps the whole record.
        @raise gmesh.errors.FrameRefused: to have the link closed.
        """


class IRouteEngine(Interface):
    """The path to a destination. Called by forwarding and by end-to-end sessions."""

    def path(destination, now, avoid=frozenset()):
        """
        The cheapest allowed path as node handles, first this node, last C{destination}.

        @param avoid: handles that must not appear after the first.
        @return: tuple of 8-byte handles, or None.
        """


class IControlCommand(Interface):
    """One thing an operator may ask of a node."""

    name = Attribute("As on the wire: C{reload}.")

    def run(request, node):
        """Obey. @return: detail for the receipt, str; or a Deferred of it. @raise GmeshError: refused."""


class ISigner(Interface):
    """
    A private Ed25519 key somewhere: file, credential, hardware. Called from the database
    thread inside the transaction that needs the signature, so it may block but not touch the reactor.
    """

    key_id = Attribute("Hex of the first 16 bytes of SHA-256 of the public key.")
    public = Attribute("Raw public key, 32 bytes.")

    def sign(data):
        """An Ed25519 signature, 64 bytes, over C{data}."""


class IPeerStreams(Interface):
    """
    The streams with one far node, under which its association may come and go.

    Called by C{endtoend.association}, C{endtoend.sessions} and C{endtoend.receiving}; nothing of it raises.
    It adds a producer to its L{gmesh.endtoend.batching.BatchSender} while it has something to send, and
    removes it.
    """

    active = Attribute("True while a stream is open or being opened: the association is not idle then.")

    def heard(boot, features):
        """
        There is a session whose keys the far end has shown to hold; again for each new session.

        @param boot: C{bytes}, another one each time the far end starts; empty if it does not say.
        @param features: C{int}, bits of L{gmesh.wire.session_messages.Feature}.
        """

    def ready():
        """There are keys; L{heard} was called, and paused producers are resumed next."""

    def received(peer, plaintext):
        """
        A whole sealed frame that begins with an inner frame of a stream kind; of the start of the far end
        that was last L{heard}, never of one before.

        @param peer: L{gmesh.mesh.peer_identity.Peer}, as the session of the frame proved it.
        @return: offset of the first inner frame of another kind, or of what is no frame, where datagrams
            are read on; C{len(plaintext)} if there is none.
        """

    def received_seen(body):
        """The body of a SEEN that stood among datagrams."""

    def seen():
        """
        A question of the far end (ASK) is being answered.

        @return: the inner frame SEEN to put in front of the answer, header included; empty if there is
            nothing to say.
        """

    def bounced():
        """A relay did not pass on a frame of ours to the far end: send again soon."""

    def gone(reason):
        """
        The association is given up, and the batch sender is of no use any more.

        @param reason: C{idle}, C{evicted} or C{timed-out}: streams go on under the next association;
            C{closed}: the far end has wiped its keys, since it stops or does not believe this node any more;
            C{stopped}: this node stops; else why the far end is not believed: C{revoked}, C{expired} ...
        """


class IStreams(Interface):
    """Byte streams of this node, by name. Called by endpoints, the local API, exposures and forwards."""

    def dial(node, service, build, timeout=30.0, lost=None):
        """
        Open a stream to C{service} of C{node}; this node itself is allowed.

        @param build: called with the far L{gmesh.addresses.MeshAddress} once the far end has accepted; gives
            the protocol, an C{IProtocol}, which is connected in that turn, or None to give up.
        @param lost: called with no arguments once that protocol was told that its connection is lost.
        @return: Deferred of that protocol; fails with L{gmesh.stream_errors.DialRefused}. Cancelling it
            resets the stream.
        """

    def listen(service, take):
        """
        Have C{take} called with an L{IStreamOffer} for each stream that is opened to C{service} here.

        One taker a service; a receiver of messages may have the same name.
        @return: an object with C{stopListening()}, which refuses what comes then and leaves open streams.
        @raise gmesh.errors.ConfigurationError: C{bad-service}, C{reserved-service}, C{service-taken}, or
            C{too-many-services}.
        """

    def hold(window, patience):
        """
        For C{window} seconds from now, let a stream to a service without a taker wait for one.

        After a restart programs come back to what they serve one after the other.

        @param patience: seconds that one stream waits at most; then there is no such service.
        """

    def open_streams():
        """The L{IStream}s that are open or being opened. @rtype: list"""


class IStreamOffer(Interface):
    """A stream that a far node has opened, and that waits to be accepted or refused; 30 s at most."""

    stream = Attribute("Number of the stream, unique on this node while it runs: int.")
    peer = Attribute("Who opens it, and to which service: L{gmesh.addresses.MeshAddress}.")
    gone = Attribute("Deferred that fires with None once there is nothing to accept any more.")

    def accept(protocol):
        """
        Take it: C{protocol.makeConnection} is called with an L{IStream}.

        @return: True; False, and nothing is called, if the offer is gone.
        """

    def refuse(reason, detail=""):
        """Refuse it, with the slug of a L{gmesh.stream_errors.StreamCode} and at most 200 bytes of why."""


class IStream(Interface):
    """
    The transport of one stream.

    It provides C{ITransport}, C{IConsumer}, C{IPushProducer} and C{IHalfCloseableDescriptor}'s
    C{loseWriteConnection} too; what is written may be a view of C{bytes}, which are not copied then. The
    protocol is told of half closes if it provides C{IHalfCloseableProtocol}, and of the far end reading no
    more if it provides L{IStreamReader}.
    C{connectionLost} gets C{ConnectionDone} only when everything was acknowledged both ways, else
    L{gmesh.stream_errors.StreamLost} or C{ConnectionAborted}.
    """

    stream = Attribute("As of L{IStreamOffer}.")
    opened = Attribute("True if this node opened it.")
    sent = Attribute("Bytes that the far end has acknowledged.")
    received = Attribute("Bytes handed to the protocol.")
    since = Attribute("When it was opened, on the monotonic clock of the node.")
    local = Attribute("What on this host has this end, as L{ILocalEnd} says; empty if its protocol is none.")
    state = Attribute("C{opening}, C{open}, C{half-closed} or C{closing}.")

    def abortConnection():
        """Break it at once, for both ends."""

    def reset(reason, detail=""):
        """
        Break it at once, for both ends, with the slug of a L{gmesh.stream_errors.StreamCode}.

        @param detail: a line for people at the far end, 200 bytes at most.
        """

    def stop_reading():
        """Read no more: what comes is dropped, and the far end is told to write no more."""


class IStreamReader(Interface):
    """A protocol that wants to know when nobody reads what it writes, while it may still read."""

    def write_stopped():
        """The far end reads no more; what is written from now on is dropped."""


class ILocalEnd(Interface):
    """A protocol of a stream that knows for whom on this host it has it."""

    local = Attribute("A program, a forward, an exposure: one phrase for people.")
