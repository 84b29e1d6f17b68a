# SPDX-License-Identifier: MIT
"""
Which relays this node avoids, because what it sent over them was not answered. Pure.

A relay may keep its links and pass nothing on, or not all.  Only the ends can notice, and neither knows where
a frame went: in a relay, on a link that nobody knows to be dead yet, or to a node that is away.  So:

 - a path over which nothing is answered is I{suspected} at once: its relays cost so much that any other is
   tried before, first the one suspected longest ago;
 - an answer over another path to the same node confirms the suspicion; one over the suspected path itself
   shows that the node was away, and clears them all;
 - new keys clear what is not confirmed: a node that lost the old ones, as in a restart, could not answer.  So
   silence about handshakes and about what is sealed are compared apart;
 - a path of which a link is gone by now is suspected no more: that link was to blame;
 - after L{SUSPICION_LIFE}, in which neighbours find out a dead link, a suspicion ends.  If it was confirmed,
   the relays of the path are I{blamed}: they cost more for longer, each time more.

Nothing of this is told to other nodes: none of it could be proved to them.
Tests: C{tests/routing/test_blame.py}, C{tests/node/test_silent_relay.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from gmesh.routing.limits import (
    BLAME_LEVELS,
    BLAME_LIFE,
    LOSS_PENALTY_FACTOR,
    MAX_SUSPECTS,
    SUSPICION_FACTOR,
    SUSPICION_LIFE,
)

__all__ = ["PathBlame"]

Path = tuple[bytes, ...]
_About = tuple[Path, bool]
"""A path, and whether it is about handshakes."""


@dataclass(slots=True)
class _Suspicion:
    """
    That a path passes not everything on.

    @ivar since: when it began.
    @ivar last: when a transmission over the path last went without an answer.
    """

    since: float
    last: float
    confirmed: bool = False


class PathBlame:
    """
    Suspicions and blame, as one node has them.

    @ivar due: when L{settle} has something to do.
    """

    def __init__(self) -> None:
        self.due = inf
        self._suspicions: dict[_About, _Suspicion] = {}  # the one renewed last is last
        self._blamed: dict[bytes, tuple[int, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._suspicions or self._blamed)

    def blamed(self, now: float) -> list[bytes]:
        """The relays that are blamed at this time."""
        return [handle for handle, (_, until) in self._blamed.items() if now < until]

    def unanswered(self, path: Path, now: float, handshake: bool) -> None:
        """What went along C{path}, a handshake or something sealed, was not answered in time."""
        about = (path, handshake)
        held = self._suspicions.pop(about, None) or _Suspicion(now, now)
        held.last = now
        self._suspicions[about] = held
        if len(self._suspicions) > MAX_SUSPECTS:
            del self._suspicions[next(iter(self._suspicions))]
        self._rearm()

    def answered(self, path: Path, sent: float, handshake: bool) -> bool:
        """
        What went along C{path} at C{sent} was answered.

        @return: True if some relay is suspected no more.
        """
        alike = {about: each for about, each in self._to(path[-1]) if about[1] is handshake}
        held = alike.pop((path, handshake), None)
        if held is None:
            for each in alike.values():
                each.confirmed = each.confirmed or sent >= each.last
            return False
        if sent <= held.last or held.confirmed:
            return False  # it is the part of a whole that was not answered, or proved to be less than that
        for about in ((path, handshake), *alike):
            del self._suspicions[about]
        return True

    def links_changed(self, stands: Callable[[Path], bool]) -> None:
        """@param stands: whether every link of a path is there."""
        for about in [about for about in self._suspicions if not stands(about[0])]:
            del self._suspicions[about]

    def new_keys(self, destination: bytes) -> bool:
        """There are new keys with a node. @return: True if some relay is suspected no more."""
        doubtful = [about for about, each in self._to(destination) if not each.confirmed]
        for about in doubtful:
            del self._suspicions[about]
        return bool(doubtful)

    def settle(self, now: float) -> bool:
        """
        Suspicions whose time is over end, or become blame; old blame is forgotten.

        @return: True if some relay costs something else now.
        """
        over = [about for about, each in self._suspicions.items() if now - each.since >= SUSPICION_LIFE]
        for about in over:
            if self._suspicions.pop(about).confirmed:
                for handle in about[0][1:-1]:
                    level, _ = self._blamed.get(handle, (0, 0.0))
                    self._blamed[handle] = (min(level + 1, BLAME_LEVELS), now + BLAME_LIFE)
        ended = [handle for handle, (_, until) in self._blamed.items() if until <= now]
        for handle in ended:
            del self._blamed[handle]
        self._rearm()
        return bool(over or ended)

    def factors(self) -> dict[bytes, int]:
        """relay -> by what the cost of its links is multiplied."""
        found = {handle: LOSS_PENALTY_FACTOR**level for handle, (level, _) in self._blamed.items()}
        suspected = {
            handle: SUSPICION_FACTOR * turn
            for turn, (path, _) in enumerate(self._suspicions, 1)
            for handle in path[1:-1]
        }
        for handle, factor in suspected.items():
            found[handle] = found.get(handle, 1) * factor
        return found

    def _to(self, destination: bytes) -> list[tuple[_About, _Suspicion]]:
        return [item for item in self._suspicions.items() if item[0][0][-1] == destination]

    def _rearm(self) -> None:
        times = [each.since + SUSPICION_LIFE for each in self._suspicions.values()]
        self.due = min([*times, *(until for _, until in self._blamed.values())], default=inf)
