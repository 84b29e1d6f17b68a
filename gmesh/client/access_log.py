# SPDX-License-Identifier: MIT
"""
Who asked, in the log of a web server: Twisted writes IP addresses there, and a node has none.

Tests: C{tests/client/test_access_log.py}.
"""

from __future__ import annotations

from typing import Any

from twisted.web.http import combinedLogFormatter
from twisted.web.iweb import IAccessLogFormatter
from zope.interface import provider

from gmesh.addresses import MeshAddress

__all__ = ["access_log_line"]


@provider(IAccessLogFormatter)
def access_log_line(timestamp: str, request: Any) -> str:
    """
    A line as Twisted writes it, with the node's name where that of other clients has their IP address.

    C{Site(resource, logFormatter=access_log_line)}.
    """
    line: str = combinedLogFormatter(timestamp, request)
    peer = request.getClientAddress()
    return line.replace('"-"', f'"{peer.name}"', 1) if isinstance(peer, MeshAddress) else line
