# SPDX-License-Identifier: MIT
"""
Which socket the node of this host listens on, and when to try it again.

Tests: C{tests/client/test_where.py}.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["CROWD", "SYSTEM_SOCKET", "find_socket"]

#: Where the Debian unit puts the socket.
SYSTEM_SOCKET = "/run/gmesh-node/node.sock"
#: Seconds until a socket before which too many wait is tried again; it lets 50 wait.
CROWD = 0.02


def find_socket(socket: str | None = None, environment: Mapping[str, str] = os.environ) -> str:
    """
    The path of the socket: the one given, else that of the state directory GMESH_STATE, else the system's.

    It need not exist yet.
    """
    if socket is not None:
        return socket
    state = environment.get("GMESH_STATE")
    return os.path.join(state, "node.sock") if state else SYSTEM_SOCKET
