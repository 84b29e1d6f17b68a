# SPDX-License-Identifier: MIT
"""
Twisted's TLS for much data: what is written at once goes through OpenSSL at once, and so does what was read.

Twisted's own hands over one TLS record (16 KiB) after another, each at the price of a turn of the layers
above; it collects what is written until the next turn of the reactor, which links have done already; and it
asks a pull producer for more in every turn, however far behind the socket is.  Its handshake and endings
stay.
Tests: C{tests/mesh/test_tls_transport.py}.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IProducer, IPushProducer, ITransport
from twisted.internet.protocol import Protocol
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["LinkTls", "LinkTlsFactory", "for_links"]

RECORD = 2**14
"""Bytes that a TLS record carries at most: RFC 8446, section 5.1."""
SEALED = RECORD + 256
"""Bytes of a whole one, at most: RFC 8446, section 5.2, without its head."""
_MODE_ENABLE_PARTIAL_WRITE = 1
"""SSL_CTX_set_mode(3)."""
_SUITES = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""
RFC 8446, appendix B.4: OpenSSL's own, the first two the other way round.  What is inside is sealed by
itself, and a handshake that hashes with SHA-256 costs a sixth less.
"""
_OP_ALLOW_NO_DHE_KEX, _OP_PREFER_NO_DHE_KEX = 1 << 10, 1 << 35
"""
SSL_CTX_set_options(3); the second since OpenSSL 3.3, and nothing to an older one.  Options are C{uint64_t} in
cryptography's binding, also where C{long} has 32 bits.
"""


def for_links(options: Any) -> Any:
    """
    Make the contexts of these options fit what links are.

    OpenSSL makes all the records of a write in one call, and prefers the cheapest suite, where pyOpenSSL can
    be told so (26.0 and 25.2 can).  A session that is resumed exchanges no new keys (psk_ke, RFC 8446,
    section 4.2.9) where the dialler offers that, as nodes do and browsers do not: the handshake inside
    exchanges its own.

    @param options: a C{CertificateOptions} that has made no context yet.
    @return: the same.
    """
    options._contextFactory = _context
    return options


def _context(method: int) -> SSL.Context:
    context = SSL.Context(method)
    context.set_options(_OP_ALLOW_NO_DHE_KEX | _OP_PREFER_NO_DHE_KEX)
    if hasattr(context, "set_tls13_ciphersuites"):
        context.set_tls13_ciphersuites(_SUITES)
    if hasattr(context, "clear_mode"):
        context.clear_mode(_MODE_ENABLE_PARTIAL_WRITE)
    return context


@implementer(IPushProducer)
class _Asked:
    """A pull producer that the transport below asks, and nobody else."""

    def __init__(self, producer: IProducer) -> None:
        self._producer = producer

    def pauseProducing(self) -> None:
        """What waits for a handshake is not asked for again: it has not reached the transport below."""

    def resumeProducing(self) -> None:
        """What has waited was written now: the transport below asks when it has passed that on."""

    def stopProducing(self) -> None:
        """The connection is lost."""
        self._producer.stopProducing()


class LinkTls(TLSMemoryBIOProtocol):
    """One connection."""

    _tlsConnection: SSL.Connection
    _producer: Any
    transport: Any

    def makeConnection(self, transport: ITransport) -> None:
        """As Twisted does, but the interfaces of the transport are not declared on each: that costs."""
        factory: Any = self.factory
        # Until Twisted 24.11 it had the other name.
        create = getattr(factory, "_creatorCallable", None) or factory._createConnection
        self._tlsConnection = create(self)
        self._appSendBuffer: list[bytes] = []
        Protocol.makeConnection(self, transport)
        factory.registerProtocol(self)
        self.wrappedProtocol.makeConnection(self)
        self._checkHandshakeStatus()

    def _write(self, data: bytes) -> None:
        if self._lostTLSConnection:
            return
        view, sent = memoryview(data), 0
        try:
            while sent < len(data):
                sent += self._tlsConnection.send(view[sent:])
        except SSL.WantReadError:
            self._bufferedWrite(data[sent:])
        except SSL.Error:
            self._tlsShutdownFinished(Failure())
            return
        self._flushSendBIO((len(data) // RECORD + 2) * SEALED)

    def _flushSendBIO(self, size: int = 2 * SEALED) -> None:
        """Pass on what is sealed: about C{size} bytes, or less."""
        try:
            while True:
                sealed = self._tlsConnection.bio_read(size)
                self.transport.write(sealed)
                if len(sealed) < size:
                    return
        except SSL.WantReadError:
            pass

    def _flushReceiveBIO(self) -> None:
        pieces: list[bytes] = []
        receive, ended, failure = self._tlsConnection.recv, False, None
        try:
            while not self._lostTLSConnection:
                pieces.append(receive(RECORD))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            ended = True
        except SSL.Error:
            ended, failure = True, Failure()
        if pieces and not self._aborted:
            ProtocolWrapper.dataReceived(self, b"".join(pieces) if len(pieces) > 1 else pieces[0])
        if ended and not self._lostTLSConnection:
            if failure is None:
                self._shutdownTLS()
            self._tlsShutdownFinished(failure)
        self._flushSendBIO()

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        """As Twisted does; who is pulled is asked no more, or the transport below would wait for its end."""
        super()._tlsShutdownFinished(reason)
        if isinstance(self._producer, _Asked):
            self.unregisterProducer()

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """@see: C{IConsumer.registerProducer}; one that is pulled is asked when all has left this process."""
        if streaming or self._lostTLSConnection:
            super().registerProducer(producer, streaming)
            return
        if self._producer is not None:
            raise RuntimeError(f"{self._producer} is registered, {producer} cannot be")
        self._producer = _Asked(producer)
        self.transport.registerProducer(producer, False)


class LinkTlsFactory(TLSMemoryBIOFactory):
    """Puts L{LinkTls} under the protocols of a factory."""

    protocol = LinkTls
