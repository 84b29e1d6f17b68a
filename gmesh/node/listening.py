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


def mesh_server(reactor: Any, text: str) -> Any:
    """
    The server endpoint that C{text} names.

    @raise ConfigurationError: with the text and what is wrong with it.
    """
    if not text.startswith(WEBSOCKET):
        return parse_server(reactor, text)
    from gmesh.mesh.websocket import WebSocketServerEndpoint  # with its library: most nodes serve none

    return WebSocketServerEndpoint(parse_server(reactor, text.removeprefix(WEBSOCKET)))
