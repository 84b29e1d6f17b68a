# SPDX-License-Identifier: MIT
"""
TLS around a link, as the dialler sees it: what is trusted, and what is said of a certificate that is not.

Who is at the other end is decided by the handshake inside, so a TLS certificate that is wrong is told of
and nothing else, unless this node was told to be strict: a proxy that opens TLS to look inside sees sealed
records.  Tests: C{tests/mesh/test_tls.py}.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from hashlib import sha256
from ipaddress import ip_address
from typing import Any
from weakref import WeakKeyDictionary

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IPullProducer,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.errors import CarrierRefused, ConfigurationError
from gmesh.mesh.opening import Opening, OpeningFactory, opened
from gmesh.mesh.tls_transport import LinkTlsFactory, for_links

__all__ = ["TlsEndpoint", "TlsTrust", "key_pin"]

SESSIONS_KEPT = 64
"""Of servers dialled lately: a session is some kilobytes, and makes the next handshake cheaper."""
MOST_SAID = 80
"""Characters of a name in a certificate, which anybody may have written."""


def key_pin(certificate: x509.Certificate) -> str:
    """The hex SHA-256 of its public key: SubjectPublicKeyInfo in DER, as RFC 7469, section 2.4, has it."""
    der = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(der).hexdigest()


_GROUPS = b"P-256:X25519:P-384:P-521"
"""
What keys may be exchanged with: the first has a key in what a dialler says first, which with it fits into one
packet.  One of ML-KEM does not, some firewalls let no such thing through, and it costs a resumed handshake,
which uses none of these keys, a third more.  The handshake inside exchanges its own.  Some servers take P-384
alone, and in TLS 1.2 the key of a certificate has to be of these, too.
"""

_FAULTS = {
    9: "it is not valid yet, or this clock is wrong",
    10: "it has expired, or this clock is wrong",
    18: "it is signed by itself",
    19: "it comes from an authority that is not trusted here",
    20: "it comes from an authority that is not trusted here",
    21: "it comes without those that lead to an authority",
}
"""By the numbers of verify(1) of OpenSSL; the others are rare."""


@dataclass(slots=True)
class _Chain:
    """What was seen of the certificates of one connection: nothing where its session was resumed."""

    looked: bool = False
    fault: str = ""


class TlsTrust:
    """
    What a node trusts under its links.

    @param ca: a file of certificates in PEM that is trusted instead of the roots of the system.
    @param pins: L{key_pin} of certificates that are good whoever signed them; then no others are.
    @param strict: refuse to go on over a wrong certificate.
    @param warn: is given the address that was dialled, and what is wrong with its certificate.
    @raise ConfigurationError: if the file cannot be used.
    """

    def __init__(
        self,
        ca: str = "",
        pins: Collection[str] = (),
        strict: bool = False,
        warn: Callable[[str, str], object] = lambda address, fault: None,
    ) -> None:
        self._pins = frozenset(pins)
        self._strict = strict
        self._warn = warn
        self._sessions: OrderedDict[str, tuple[SSL.Session, str]] = OrderedDict()
        self._chains: WeakKeyDictionary[SSL.Connection, _Chain] = WeakKeyDictionary()
        self._ca = ca
        if ca:
            _ = self._context

    @cached_property
    def _context(self) -> SSL.Context:
        """Made with the first that is dialled so: the roots of a system are a megabyte."""
        context: SSL.Context = for_links(CertificateOptions()).getContext()
        context.set_verify(SSL.VERIFY_PEER, self._looked)
        lib = SSL._lib  # type: ignore[attr-defined]  # pyOpenSSL has a call for one group alone
        if hasattr(lib, "SSL_CTX_set1_curves_list"):  # as of cryptography 47
            lib.SSL_CTX_set1_curves_list(context._context, _GROUPS)
        if not self._ca:
            context.set_default_verify_paths()
            return context
        try:
            context.load_verify_locations(self._ca)
        except SSL.Error as error:
            raise ConfigurationError("bad-ca", f"{self._ca} holds no certificates in PEM to trust") from error
        return context

    def connection(self, address: str, host: str) -> SSL.Connection:
        """A connection to begin with, its session that of the last one where there was one."""
        connection = SSL.Connection(self._context, None)
        if not _is_address(host):
            connection.set_tlsext_host_name(host.rstrip(".").encode("ascii"))
        self._chains[connection] = _Chain()
        kept = self._sessions.get(address)
        if kept is not None:
            connection.set_session(kept[0])
        return connection

    def _looked(
        self, connection: SSL.Connection, certificate: crypto.X509, number: int, depth: int, good: int
    ) -> bool:
        """OpenSSL has looked at a certificate: one callback for all connections, as each costs."""
        chain = self._chains[connection]
        chain.looked = True
        if not good:
            chain.fault = chain.fault or _FAULTS.get(number, f"error {number} of openssl verify")
        return True

    def judge(self, connection: SSL.Connection, address: str, host: str) -> str:
        """
        What is wrong with the certificate at the other end; empty if nothing is.

        @raise CarrierRefused: if something is, and this node is strict.
        """
        kept, chain = self._sessions.get(address), self._chains[connection]
        resumed = kept is not None and not chain.looked
        fault = kept[1] if kept is not None and resumed else self._fault(connection, host, chain)
        if fault:
            self._warn(address, fault)
            if self._strict:
                raise CarrierRefused("tls-certificate", f"the TLS certificate is wrong: {fault}")
        return fault

    def _fault(self, connection: SSL.Connection, host: str, chain: _Chain) -> str:
        presented = connection.get_peer_certificate()
        if presented is None:
            return "there is none"
        certificate = presented.to_cryptography()
        if self._pins:
            pinned = key_pin(certificate) in self._pins
            return "" if pinned else f"{_said(certificate)}: it is none that is pinned"
        if chain.fault:
            return f"{_said(certificate)}: {chain.fault}"
        try:
            (verify_ip_address if _is_address(host) else verify_hostname)(connection, host.rstrip("."))
        except (VerificationError, CertificateError):
            return f"{_said(certificate)}: it is not for {host}"
        return ""

    def keep(self, connection: SSL.Connection, address: str, fault: str) -> None:
        """The connection ends: its session may spare the next one some work."""
        session = connection.get_session()
        if session is None:
            return
        self._sessions[address] = (session, fault)
        self._sessions.move_to_end(address)
        while len(self._sessions) > SESSIONS_KEPT:
            self._sessions.popitem(last=False)


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    def __init__(self, trust: TlsTrust, address: str, host: str) -> None:
        self.trust = trust
        self.address = address
        self.host = host

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return self.trust.connection(self.address, self.host)


@implementer(IHandshakeListener, IPullProducer)
class _Judged(Opening):
    """Opens when the handshake of TLS has come to its end and its certificate was looked at."""

    hangs = CarrierRefused("tls-failed", "no TLS handshake came to its end in time")

    def __init__(self, creator: _Creator, factory: Any, upper: IProtocol) -> None:
        super().__init__(factory, upper)
        self._creator = creator
        self._fault = ""
        self._connection: SSL.Connection | None = None
        self._speaks = False

    def begin(self) -> None:
        """TLS speaks when this returns; a producer is asked now, and when what was said has left."""
        self.transport.registerProducer(self, False)
        self._speaks = True

    def resumeProducing(self) -> None:
        """@see: C{IPullProducer}"""
        if self._speaks:
            self._spoken()
            self.prepare()

    def stopProducing(self) -> None:
        """@see: C{IPullProducer}"""

    def _spoken(self) -> None:
        if self._speaks:
            self._speaks = False
            self.transport.unregisterProducer()

    def handshakeCompleted(self) -> None:
        """@see: C{IHandshakeListener}"""
        self._spoken()
        creator, self._connection = self._creator, self.transport.getHandle()
        try:
            self._fault = creator.trust.judge(self._connection, creator.address, creator.host)
        except CarrierRefused as refused:
            self.fail(refused)
            return
        self.open()

    def connect_upper(self) -> None:
        """What is sealed goes straight to TLS."""
        self.wrappedProtocol.makeConnection(self.transport)

    def opening_received(self, data: bytes) -> None:
        """@see: L{Opening.opening_received}; TLS hands over nothing before its handshake."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """@see: L{Opening.connectionLost}"""
        connection, self._connection = self._connection, None
        if self._open and connection is not None:
            self._creator.trust.keep(connection, self._creator.address, self._fault)
        super().connectionLost(reason)

    def lost_early(self, reason: Failure) -> Failure:
        """@see: L{Opening.lost_early}"""
        said = "the connection was closed in its handshake"
        error = reason.value
        if isinstance(error, SSL.Error) and error.args and error.args[0]:
            said = str(error.args[0][0][-1])
        return Failure(CarrierRefused("tls-failed", f"there is no TLS: {said}"))


@implementer(IStreamClientEndpoint)
class TlsEndpoint:
    """
    TLS to a host over what another endpoint connects; ready when its certificate was looked at.

    @param address: as it was written, for what is told of it.
    """

    def __init__(self, inner: IStreamClientEndpoint, trust: TlsTrust, address: str, host: str) -> None:
        self._inner = inner
        self._creator = _Creator(trust, address, host)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """@see: C{IStreamClientEndpoint.connect}"""
        judged = OpeningFactory(protocolFactory, partial(_Judged, self._creator))
        connecting: Deferred[Any] = self._inner.connect(LinkTlsFactory(self._creator, True, judged))
        return connecting.addCallback(lambda tls: opened(tls.wrappedProtocol))


def _said(certificate: x509.Certificate) -> str:
    """Whose it is, who signed it and its digest; names are cut, and what prints as no character is marked."""
    subject, issuer = (_name(each) for each in (certificate.subject, certificate.issuer))
    return f"certificate of {subject} by {issuer}, SHA-256 of its key {key_pin(certificate)}"


def _name(name: x509.Name) -> str:
    said = "".join(each if each.isprintable() else "?" for each in name.rfc4514_string())
    return said[:MOST_SAID] or "nobody"


@lru_cache
def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
