# SPDX-License-Identifier: MIT
"""
Where a node takes links: endpoint strings, C{ws:} before one for links in WebSockets.

Tests: C{tests/node/test_listening.py}.
"""

from __future__ import annotations

from typing import Any

from gmesh.daemon.listen import parse_server

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
        return parse_server(reactor, text)
    from gmesh.mesh.websocket import WebSocketServerEndpoint  # with its library: most nodes serve none

    inner = parse_server(reactor, text.removeprefix(WEBSOCKET))
    if not behind:
        return WebSocketServerEndpoint(inner)
    from gmesh.node.behind import Behind

    return WebSocketServerEndpoint(inner, Behind(reactor, behind.removeprefix(UNIX)))
