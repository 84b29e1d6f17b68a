# SPDX-License-Identifier: MIT
"""
The certificate and key files of an C{ssl:} endpoint, read again while it listens.

Connections that are open keep the certificate that they began with.  Tests: C{tests/daemon/test_listen.py}.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.internet.ssl import CertificateOptions
from zope.interface import implementer

__all__ = ["TlsFiles", "allow_resumption"]


def allow_resumption(endpoint: SSL4ServerEndpoint) -> None:
    """
    Give out session tickets (RFC 8446, section 4.6.1), which Twisted does not: a redial costs half.

    Their key lives as long as the process serves these files.  What they could reveal is sealed or signed
    inside TLS: links of the mesh, and documents.
    """
    options: Any = endpoint._sslContextFactory
    if isinstance(options, CertificateOptions):
        options._options &= ~SSL.OP_NO_TICKET


@implementer(IOpenSSLContextFactory)
class TlsFiles:
    """
    What Twisted asks for the context of each new connection.

    @param endpoint: of the listener, which serves these files from now on.
    """

    def __init__(self, endpoint: SSL4ServerEndpoint) -> None:
        self._factory: Any = endpoint._sslContextFactory
        endpoint._sslContextFactory = self

    def getContext(self) -> SSL.Context:
        """The context of the files as they were read last."""
        context: SSL.Context = self._factory.getContext()
        return context

    def take(self, endpoint: SSL4ServerEndpoint) -> None:
        """
        Go on with the files that this endpoint has read.

        @raise OpenSSL.SSL.Error: if key and certificate do not belong together; all stays as it was.
        """
        fresh: Any = endpoint._sslContextFactory
        fresh.getContext().check_privatekey()
        self._factory = fresh
