# SPDX-License-Identifier: MIT
"""
The control plane of one node: commands come by link or from the authority, act here, and are answered.

Tests: C{tests/node/test_control.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from gmesh.errors import DocumentRefused
from gmesh.mesh.counters import Counters
from gmesh.mesh.neighbours import Neighbours
from gmesh.node.command_flood import CommandFlood
from gmesh.node.control_actions import CommandActions
from gmesh.node.control_commands import COMMANDS
from gmesh.node.control_handler import CommandExecutor
from gmesh.node.local_member import LocalMember
from gmesh.trust.documents import Command, Document

__all__ = ["Control"]


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
        member: LocalMember,
        neighbours: Neighbours,
        node: CommandActions,
        counters: Counters,
        receipt_waits: Callable[[], object],
    ) -> None:
        self.node = node
        self.handler = CommandExecutor(member, COMMANDS, node, counters, receipt_waits)
        self.flood = CommandFlood(
            member.trust,
            neighbours,
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
        """Commands that wait for this document go on; those that waited for a role are judged again."""
        self.node.trust_changed(kind)
        self.flood.trust_changed(kind)

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
        """The authority's commands up to a number; those that may not be given are logged and left."""
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
