# SPDX-License-Identifier: MIT
"""
To connect one protocol without a word in the log.

The C{connectProtocol} of Twisted writes two lines for each connection.
Tests: C{tests/client/test_upgrade.py}.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory

__all__ = ["connect_once"]

_Given = TypeVar("_Given", bound=IProtocol)


class _OneShot(Factory):
    noisy = False

    def __init__(self, protocol: IProtocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return self._protocol


def connect_once(endpoint: IStreamClientEndpoint, protocol: _Given) -> Deferred[_Given]:
    """
    Connect C{protocol} to C{endpoint}.

    @return: Deferred of it, which fails as the endpoint does; cancelling it gives up.
    """
    return cast("Deferred[_Given]", endpoint.connect(_OneShot(protocol)))
