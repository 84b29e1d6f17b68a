# SPDX-License-Identifier: MIT
"""
The control plane of one node: commands come by link or from the authority, act here, and are answered.

What only a daemon can do (stop, reload, log, ask the authority) is plugged in by whoever runs the node.
Tests: C{tests/node/test_control.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from gmesh.endtoend.echo import EchoService
from gmesh.errors import DocumentRefused, RequestRefused, StoreError
from gmesh.mesh.counters import Counters
from gmesh.mesh.peers import Peers
from gmesh.node.command_flood import CommandFlood
from gmesh.node.control_commands import COMMANDS
from gmesh.node.control_handler import ControlHandler
from gmesh.node.limits import NEWS_DEADLINE, PING_REPORT_DEADLINE
from gmesh.node.membership import Membership
from gmesh.trust.documents import Anchor, Command, Document

__all__ = ["Control", "NodeControl"]


def _unable(what: str) -> Callable[..., Any]:
    def refuse(*arguments: Any) -> None:
        raise RequestRefused("not-possible", f"this node cannot {what}")

    return refuse


class NodeControl:
    """
    Provides L{gmesh.node.control_commands.Controlled}.

    @param bootstrap_changed: other anchors are to be dialled.
    @ivar ask_for_news: ask the authority now.
    @ivar shutdown: end the daemon soon.
    @ivar reload: as on SIGHUP.
    @ivar set_log_level: log from a level on.
    """

    def __init__(
        self,
        member: Membership,
        clock: IReactorTime,
        peers: Peers,
        echo: EchoService,
        bootstrap_changed: Callable[[], object],
    ) -> None:
        self.ask_for_news: Callable[[], object] = lambda: None
        self.shutdown: Callable[[], object] = _unable("stop itself")
        self.reload: Callable[[], Deferred[str]] = _unable("reload")
        self.set_log_level: Callable[[LogLevel], object] = _unable("change what it logs")
        self._member = member
        self._clock = clock
        self._peers = peers
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
        """@see: L{gmesh.node.control_commands.Controlled.held}"""
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
        """Whoever waits for this document has it, if it is new enough."""
        held = self._member.numbers()[kind]
        for came, (awaited, number) in list(self._awaited.items()):
            if awaited == kind and held >= number:
                came.callback(held)

    def set_bootstrap(self, anchors: tuple[Anchor, ...]) -> None:
        """@see: L{gmesh.node.control_commands.Controlled.set_bootstrap}"""
        self._member.set_bootstrap(anchors)
        self._bootstrap_changed()

    def neighbours(self) -> list[str]:
        """@see: L{gmesh.node.control_commands.Controlled.neighbours}"""
        return sorted(link.peer.name for link in self._peers.links.values())

    def ping(self, name: str) -> Deferred[float]:
        """@see: L{gmesh.node.control_commands.Controlled.ping}"""
        return self._echo.ping(name, PING_REPORT_DEADLINE)


class Control:
    """
    Commands in, receipts out.

    @param receipt_waits: called when there is a receipt to deliver.
    @ivar flood: commands over links.
    @ivar handler: what obeys them.
    @ivar node: what they act on.
    """

    log = Logger()

    def __init__(
        self,
        member: Membership,
        node: NodeControl,
        clock: IReactorTime,
        counters: Counters,
        receipt_waits: Callable[[], object],
    ) -> None:
        self.node = node
        self.handler = ControlHandler(member, COMMANDS, node, counters, receipt_waits)
        self.flood = CommandFlood(
            member.trust,
            clock,
            member.wall,
            counters,
            obey=self.handler.obey,
            refuse=self.handler.refuse,
            floor=member.state.commands_floor,
        )
        self._member = member

    def start(self) -> None:
        """Begin to obey."""
        self.handler.start()

    def stop(self) -> Deferred[Any]:
        """Obey no more."""
        return self.handler.stop()

    def trust_changed(self, kind: str) -> None:
        """Who waits for a document has it; who may command is judged anew."""
        self.node.trust_changed(kind)
        if kind in ("policy", "genesis"):
            self.flood.again()

    # What the heartbeat carries

    def receipts(self) -> list[dict[str, Any]]:
        """What the authority has not got yet."""
        return self.handler.receipts()

    def delivered(self, receipts: list[dict[str, Any]]) -> None:
        """The authority has these."""
        self.handler.delivered(receipts)

    def fetched(self) -> int:
        """The number up to which the authority was asked for commands."""
        return self._member.state.commands_fetched

    def take(self, documents: list[Document[Command]], number: int) -> None:
        """The authority's commands up to a number; what may not be given is told and left."""
        for document in documents:
            try:
                self.flood.offer(document)
            except DocumentRefused as error:
                self.log.warn(
                    "command {number} of the authority is refused: {cause}",
                    number=document.body.number,
                    cause=error.detail,
                )
        self._member.state.commands_fetched = number
        self._member.save_soon()
