# SPDX-License-Identifier: MIT
"""
Where a node takes links: endpoint strings, C{ws:} before one for links in WebSockets.

Tests: C{tests/node/test_listening.py}.
"""

from __future__ import annotations

from typing import Any

from gmesh.daemon.listen import TlsServerEndpoint, parse_server

__all__ = ["WEBSOCKET", "mesh_server"]

WEBSOCKET = "ws:"
UNIX = "unix:"


def mesh_server(reactor: Any, text: str, behind: str = "") -> Any:
    """
    The server endpoint that C{text} names.

    @param behind: where what is no link goes that comes to one for WebSockets: C{unix:PATH}.
    @raise ConfigurationError: with the text and what is wrong with it.
    """
    if not text.startswith(WEBSOCKET):
        return _parsed(reactor, text)
    from gmesh.mesh.websocket import WebSocketServerEndpoint  # with its library: most nodes serve none

    inner = _parsed(reactor, text.removeprefix(WEBSOCKET))
    if not behind:
        return WebSocketServerEndpoint(inner)
    from gmesh.node.behind import Behind

    return WebSocketServerEndpoint(inner, Behind(reactor, behind.removeprefix(UNIX)))


def _parsed(reactor: Any, text: str) -> Any:
    endpoint = parse_server(reactor, text, _link_tls)
    if isinstance(endpoint, TlsServerEndpoint):
        from gmesh.mesh.tls_transport import for_links

        for_links(endpoint._sslContextFactory)
    return endpoint


def _link_tls(*given: Any) -> Any:
    from gmesh.mesh.tls_transport import LinkTlsFactory  # whose memory a node that serves no TLS can spare

    return LinkTlsFactory(*given)
