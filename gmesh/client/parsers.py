# SPDX-License-Identifier: MIT
"""
Endpoint strings that begin with C{gmesh:}.

Twisted imports this for any endpoint string of any program, so it imports no more than it needs then.
Tests: C{tests/client/test_parsers.py}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import (
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer

if TYPE_CHECKING:
    from gmesh.client.endpoints import MeshClientEndpoint, MeshServerEndpoint

__all__ = ["ClientParser", "ServerParser"]


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class ClientParser:
    """C{gmesh:pump-07:service=web[:timeout=30][:socket=PATH]}, or C{gmesh:pump-07:web}."""

    prefix = "gmesh"

    def parseStreamClient(self, reactor: Any, *args: Any, **kwargs: Any) -> MeshClientEndpoint:
        """The endpoint. @raise ValueError: if the timeout is no number of seconds."""
        return _client(reactor, *args, **kwargs)


@implementer(IPlugin, IStreamServerEndpointStringParser)
class ServerParser:
    """C{gmesh:service=web[:socket=PATH]}, or C{gmesh:web}."""

    prefix = "gmesh"

    def parseStreamServer(self, reactor: Any, *args: Any, **kwargs: Any) -> MeshServerEndpoint:
        """The endpoint."""
        return _server(reactor, *args, **kwargs)


def _client(
    reactor: Any, node: str, service: str, timeout: str = "30", socket: str | None = None
) -> MeshClientEndpoint:
    from gmesh.client.endpoints import MeshClientEndpoint

    return MeshClientEndpoint(reactor, node, service, socket, float(timeout))


def _server(reactor: Any, service: str, socket: str | None = None) -> MeshServerEndpoint:
    from gmesh.client.endpoints import MeshServerEndpoint

    return MeshServerEndpoint(reactor, service, socket)
