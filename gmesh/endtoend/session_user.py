# SPDX-License-Identifier: MIT
"""What sessions tell to whom: the one they are for, and senders that want to know the way."""

from __future__ import annotations

from typing import Protocol

from gmesh.interfaces import ILink
from gmesh.mesh.peer_identity import Peer

__all__ = ["PathFollower", "SessionUser"]


class SessionUser(Protocol):
    """What sessions are for: told of every change, in the turn it happens."""

    def opened(self, peer: Peer, plaintext: bytes) -> None:
        """One sealed frame of C{peer}."""

    def ready(self, handle: bytes) -> None:
        """There is a new session to send on."""

    def bounced(self, handle: bytes, counter: int, reason: str) -> None:
        """A relay says that it did not pass on the frame with this counter: a hint."""

    def gone(self, handle: bytes, reason: str) -> None:
        """
        The peer was given up: C{timed-out}, C{idle}, C{evicted}, C{closed}, C{stopped}, or why it is not
        believed any more: C{revoked}, C{expired} ...
        """


class PathFollower(Protocol):
    """A sender that wants to know which way its frames leave."""

    path: tuple[bytes, ...] | None

    def follow(self, path: tuple[bytes, ...] | None, link: ILink | None) -> None:
        """They leave along C{path} now, over C{link}."""
