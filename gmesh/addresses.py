# SPDX-License-Identifier: MIT
"""
Who is at the other end of a stream.

Tests: C{tests/test_addresses.py}.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.interfaces import IAddress
from zope.interface import implementer

__all__ = ["MeshAddress"]


@implementer(IAddress)
@dataclass(frozen=True, slots=True)
class MeshAddress:
    """
    A node of the mesh, as the authority certified it, and the service that is talked to.

    There is no port: what a program shows of it is C{pump-07:web}.

    @ivar name: the node's name.
    @ivar node_id: its node id, hex.
    @ivar roles: its certified roles.
    @ivar serial: of the certificate that was judged when the stream was opened.
    @ivar service: the service.
    """

    name: str
    node_id: str
    roles: tuple[str, ...]
    serial: int
    service: str

    @property
    def host(self) -> str:
        """The node's name, where a program of TCP looks for a host."""
        return self.name

    def __str__(self) -> str:
        return f"{self.name}:{self.service}"
