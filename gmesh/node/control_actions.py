# SPDX-License-Identifier: MIT
"""
What commands act on: this node, and the daemon that runs it.

What only a daemon can do (stop, reload, log, ask the authority) is given by the daemon that runs the node.
Tests: C{tests/node/test_control.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from gmesh.endtoend.echo import EchoService
from gmesh.errors import RequestRefused, StoreError
from gmesh.mesh.neighbours import Neighbours
from gmesh.node.limits import NEWS_DEADLINE, PING_REPORT_DEADLINE
from gmesh.node.local_member import LocalMember
from gmesh.trust.documents import Anchor

__all__ = ["CommandActions"]


def _unable(what: str) -> Callable[..., Any]:
    def refuse(*arguments: Any) -> None:
        raise RequestRefused("not-possible", f"this node cannot {what}")

    return refuse


class CommandActions:
    """
    What an operator's command can have this node do.

    @param bootstrap_changed: other anchors are to be dialled.
    @ivar ask_for_news: ask the authority now.
    @ivar shutdown: end the daemon soon.
    @ivar reload: as on SIGHUP.
    @ivar set_log_level: log from a level on.
    """

    def __init__(
        self,
        member: LocalMember,
        clock: IReactorTime,
        neighbours: Neighbours,
        echo: EchoService,
        bootstrap_changed: Callable[[], object],
    ) -> None:
        self.ask_for_news: Callable[[], object] = lambda: None
        self.shutdown: Callable[[], object] = _unable("stop itself")
        self.reload: Callable[[], Deferred[str]] = _unable("reload")
        self.set_log_level: Callable[[LogLevel], object] = _unable("change what it logs")
        self._member = member
        self._clock = clock
        self._neighbours = neighbours
        self._echo = echo
        self._bootstrap_changed = bootstrap_changed
        self._awaited: dict[Deferred[int], tuple[str, int]] = {}

    def attach(
        self,
        ask_for_news: Callable[[], object],
        shutdown: Callable[[], object],
        reload: Callable[[], Deferred[str]],
        set_log_level: Callable[[LogLevel], object] | None,
    ) -> None:
        """What only a daemon can do, given before the node starts."""
        self.ask_for_news, self.shutdown, self.reload = ask_for_news, shutdown, reload
        self.set_log_level = set_log_level or self.set_log_level

    def held(self, kind: str, number: int) -> Deferred[int]:
        """The number of a document held, once that is C{number} at least; fails after a while."""
        member = self._member
        if member.numbers()[kind] >= number:
            return succeed(member.numbers()[kind])
        came: Deferred[int] = Deferred()

        def over(result: int | Failure) -> int | Failure:
            del self._awaited[came]
            if isinstance(result, Failure) and result.check(DeferredTimeout):
                raise StoreError(
                    "not-here", f"{kind} {number} did not come: {member.numbers()[kind]} is held"
                )
            return result

        self._awaited[came] = (kind, number)
        self.ask_for_news()
        return came.addTimeout(NEWS_DEADLINE, self._clock).addBoth(over)

    def trust_changed(self, kind: str) -> None:
        """Commands that wait for this document have it, if it is new enough."""
        held = self._member.numbers()[kind]
        for came, (awaited, number) in list(self._awaited.items()):
            if awaited == kind and held >= number:
                came.callback(held)

    def set_bootstrap(self, anchors: tuple[Anchor, ...]) -> None:
        """Dial these anchors until a newer genesis names others."""
        self._member.set_bootstrap(anchors)
        self._bootstrap_changed()

    def neighbours(self) -> list[str]:
        """The names of the direct neighbours."""
        return sorted(link.peer.name for link in self._neighbours.links.values())

    def ping(self, name: str) -> Deferred[float]:
        """Seconds to a node and back."""
        return self._echo.ping(name, PING_REPORT_DEADLINE)
