# SPDX-License-Identifier: MIT
"""Every lane of this node, by peer: made when first written to, told of what happens to its peer."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.internet.interfaces import IReactorTime

from gmesh.endtoend.lane import CLOSED, Lane
from gmesh.endtoend.limits import ADMISSION_LIFE
from gmesh.endtoend.sessions import Sessions
from gmesh.mesh.peer_identity import Peer

__all__ = ["Lanes"]


class Lanes:
    """
    One lane a peer that is written to.

    @ivar counters: how often what happened, by slug.
    @ivar generation: changes whenever a writer must not rely on what it was told before.
    """

    def __init__(self, sessions: Sessions, clock: IReactorTime) -> None:
        self._sessions = sessions
        self._clock = clock
        self._lanes: dict[bytes, Lane] = {}
        self.counters = sessions.counters
        self.generation = 0

    def __iter__(self) -> Iterator[Lane]:
        return iter(list(self._lanes.values()))

    def __len__(self) -> int:
        return len(self._lanes)

    def lane(self, peer: Peer) -> Lane | None:
        """The lane to C{peer}; None to this node itself."""
        lane = self._lanes.get(peer.handle)
        if lane is None:
            own = self._sessions.own
            if peer.handle == own:
                return None
            lane = self._lanes[peer.handle] = Lane(self._sessions, self._clock, own, peer)
        lane.peer = peer
        return lane

    def admitted(self, lane: Lane | None, generation: int, until: float) -> bool:
        """True if what was allowed at C{generation} still is, before C{until}, and there is a way."""
        return (
            lane is not None
            and generation == self.generation
            and self._clock.seconds() < until
            and self._sessions.routed(lane.peer)
        )

    def admit_until(self) -> float:
        """How long a writer may rely on what it is told now."""
        return self._clock.seconds() + ADMISSION_LIFE

    def flush(self, handle: bytes) -> None:
        """Send what is gathered for a peer, before something that must not overtake it."""
        lane = self._lanes.get(handle)
        if lane is not None:
            lane.flush()

    def ask_again(self) -> None:
        """What is believed or allowed changed: every writer asks again before its next message."""
        self.generation += 1
        for lane in self._lanes.values():
            lane.token = CLOSED

    def ready(self, handle: bytes) -> None:
        """There are keys for a peer."""
        lane = self._lanes.get(handle)
        if lane is not None:
            lane.ready()

    def reached(self, handle: bytes, mark: int) -> None:
        """A peer answers a question."""
        lane = self._lanes.get(handle)
        if lane is not None:
            lane.reached(mark)

    def bounced(self, handle: bytes) -> None:
        """A relay dropped something on the way to a peer."""
        lane = self._lanes.get(handle)
        if lane is not None:
            lane.bounced()

    def gone(self, handle: bytes) -> None:
        """A peer was given up."""
        self.generation += 1
        lane = self._lanes.get(handle)
        if lane is not None:
            if lane.idle:
                del self._lanes[handle]
            lane.close()
