# SPDX-License-Identifier: MIT
"""
Which way frames leave for one peer: the path of routing, or the way the peer is heard by.

An end that gets no answer blames the relays it used and takes others; the far end, whose answers
were lost on the same relays, cannot know.  So it follows: when a peer leaves the way that ours goes
back, we go back the way it comes now, until both agree with routing again.  The same serves while
routing knows no path: the source may know links we do not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from gmesh.endtoend.exchange import Exchange
from gmesh.endtoend.outlet import Outlet
from gmesh.interfaces import ILink
from gmesh.mesh.peer_identity import Peer
from gmesh.trust.state import TrustState

__all__ = ["Ways"]

Path = tuple[bytes, ...]


class Ways:
    """
    The choice, for every exchange.

    @param find_handle: the directory, by routing handle.
    @param link_to: the link to a neighbour, by its routing handle.
    """

    def __init__(
        self,
        outlet: Outlet,
        trust: TrustState,
        find_handle: Callable[[bytes], Peer | None],
        link_to: Callable[[bytes], ILink | None],
        counters: Counter[str],
    ) -> None:
        self._outlet = outlet
        self._trust = trust
        self._find_handle = find_handle
        self._link_to = link_to
        self._counters = counters

    def path(self, exchange: Exchange, now: float) -> Path | None:
        """The way out to a peer."""
        follows = exchange.follows
        if follows is not None:
            if self._link_to(follows[1]) is not None:
                return follows
            exchange.follows = None
        path = self._outlet.path(exchange.peer.handle, now)
        if path is None and exchange.heard_by is not None:
            return self.back(exchange.heard_by)
        return path

    def heard(self, exchange: Exchange, path: Path, now: float) -> None:
        """A frame of the peer came by another path than the one before."""
        old, exchange.heard_by = exchange.heard_by, path
        ours = self._outlet.path(exchange.peer.handle, now)
        if ours == path[::-1]:
            exchange.follows = None
        elif exchange.follows is not None or (old is not None and ours == old[::-1]):
            self._counters["followed"] += 1
            exchange.follows = self.back(path)

    def answer(self, exchange: Exchange, path: Path, now: float) -> Path | None:
        """The way for the answer to a handshake: that of the peer, which works one way at least."""
        exchange.heard_by = path
        back, ours = self.back(path), self._outlet.path(exchange.peer.handle, now)
        exchange.follows = None if back == ours else back
        return back or ours

    def back(self, path: Sequence[bytes]) -> Path | None:
        """The way a frame came, if all on it are members."""
        for handle in path[1:-1]:
            member = self._find_handle(handle)
            if member is None or self._trust.revoked(member.serial, member.node_id):
                return None
        return tuple(reversed(path))

    def blame(self, exchange: Exchange, now: float) -> None:
        """What goes to the peer is not answered: avoid the relays on the way for a while."""
        if exchange.follows is not None:
            exchange.follows = None
        else:
            self._outlet.blame(exchange.peer.handle, now)
