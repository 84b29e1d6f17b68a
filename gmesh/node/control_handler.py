# SPDX-License-Identifier: MIT
"""
Obeys commands: each once, before it expires, if this node is a target; and reports what became of it.

That a command was taken up is on disk before it is obeyed, so that no restart obeys it again; one
that a restart interrupted is reported as failed.  Receipts wait on disk until the authority has them.
Tests: C{tests/node/test_control.py}.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from gmesh.errors import GmeshError, StoreError
from gmesh.interfaces import IControlCommand
from gmesh.mesh.counters import Counters
from gmesh.node.control_actions import CommandActions
from gmesh.node.limits import MAX_COMMANDS_SEEN, MAX_RECEIPTS, RECEIPTS_A_HEARTBEAT
from gmesh.node.local_member import LocalMember
from gmesh.node.node_state import SeenCommand
from gmesh.trust.documents import Command, CommandReceipt, Document, sign_document
from gmesh.trust.limits import MAX_TEXT

__all__ = ["CommandExecutor"]


class CommandExecutor:
    """
    Executes commands, each once, and keeps their receipts.

    @param commands: what this node can do.
    @param node: what the commands act on.
    @param receipt_waits: called when there is a receipt to deliver.
    """

    log = Logger()

    def __init__(
        self,
        member: LocalMember,
        commands: Iterable[IControlCommand],
        node: CommandActions,
        counters: Counters,
        receipt_waits: Callable[[], object],
    ) -> None:
        self._member = member
        self._commands: Mapping[str, IControlCommand] = {command.name: command for command in commands}
        self._node = node
        self._counters = counters
        self._receipt_waits = receipt_waits
        self._running: dict[str, Deferred[Any]] = {}
        self._stopped = False

    def start(self) -> None:
        """Report what the last stop interrupted."""
        for identifier, seen in self._member.state.commands.items():
            if not seen.finished:
                self._finish(identifier, "failed", "the node stopped before it was done")

    def stop(self) -> Deferred[Any]:
        """Give up what is under way; the next start reports it."""
        self._stopped = True
        running = list(self._running.values())
        for deferred in running:
            deferred.cancel()
        return DeferredList(running)

    # -- commands

    def obey(self, document: Document[Command]) -> None:
        """Take up a command that was judged just now, unless it is for others or was taken up before."""
        body = document.body
        if self._stopped:
            return
        if not body.concerns(self._member.name, self._member.roles):
            self._counters.count("command-for-others")
            return
        if not self._take_up(body):
            return
        self.log.info("Command {command} {number}", command=body.command, number=body.number)
        command = self._commands.get(body.command)
        if command is None:
            self._finish(body.id, "refused", f"this version does not know {body.command}")
            return
        deferred = maybeDeferred(command.run, body, self._node)
        self._running[body.id] = deferred
        deferred.addCallbacks(lambda detail: ("done", str(detail)), self._failed, errbackArgs=(body,))
        deferred.addCallback(self._ended, body)

    def refuse(self, document: Document[Command], detail: str) -> None:
        """The policy held here does not let its signers give it: the operator gets a receipt that says so."""
        body = document.body
        state = self._member.state
        concerned = body.concerns(self._member.name, self._member.roles)
        if concerned and body.id not in state.commands and not self._stopped:
            self._receipt(body.id, "refused", detail)

    def _take_up(self, body: Command) -> bool:
        state, now = self._member.state, self._member.wall()
        floor = self._member.trust.command_floor(state.commands_floor)
        if body.id in state.commands or body.number <= floor:
            self._counters.count("command-replayed")
            return False
        kept = {identifier: seen for identifier, seen in state.commands.items() if seen.expires_at >= now}
        while len(kept) >= MAX_COMMANDS_SEEN:
            oldest = min(kept, key=lambda identifier: kept[identifier].number)
            state.commands_floor = max(floor, kept.pop(oldest).number)
        kept[body.id] = SeenCommand(body.number, body.expires_at)
        state.commands = kept
        try:
            self._member.save_now()
        except StoreError as error:
            self._finish(body.id, "failed", f"not obeyed, since it could be obeyed twice: {error.detail}")
            return False
        return True

    def _failed(self, failure: Failure, body: Command) -> tuple[str, str] | None:
        if self._stopped:
            return None
        error = failure.value
        if isinstance(error, StoreError):
            return "failed", error.detail
        if isinstance(error, GmeshError):
            return "refused", error.detail
        self.log.failure("command {command} failed", failure, command=body.command)
        return "failed", "an error of the program: the node's log says which"

    def _ended(self, ending: tuple[str, str] | None, body: Command) -> None:
        del self._running[body.id]
        if ending is not None:
            self._finish(body.id, *ending)

    def _finish(self, identifier: str, outcome: str, detail: str) -> None:
        seen = self._member.state.commands.get(identifier)
        if seen is not None:
            seen.finished = True
        self._receipt(identifier, outcome, detail)

    # -- receipts

    def _receipt(self, identifier: str, outcome: str, detail: str) -> None:
        self._counters.count(f"command-{outcome}")
        body = CommandReceipt(
            network_id=self._member.network_id,
            command=identifier,
            outcome=outcome,  # type: ignore[arg-type]  # one of three literals of this file
            detail=_text(detail),
            at=int(self._member.wall()),
        )
        receipts = self._member.state.receipts
        receipts.append(sign_document(body, [self._member.signer]).as_dict())
        del receipts[:-MAX_RECEIPTS]
        try:
            self._member.save_now()
        except StoreError as error:
            self.log.error("a receipt is not on disk: {cause}", cause=error.detail)
        self._receipt_waits()

    def receipts(self) -> list[dict[str, Any]]:
        """What the next heartbeat carries, oldest first."""
        return self._member.state.receipts[:RECEIPTS_A_HEARTBEAT]

    def delivered(self, receipts: Iterable[dict[str, Any]]) -> None:
        """The authority has these."""
        gone = list(receipts)
        if gone:
            state = self._member.state
            state.receipts = [receipt for receipt in state.receipts if receipt not in gone]
            self._member.save_soon()


def _text(detail: str) -> str:
    plain = "".join(" " if unicodedata.category(one).startswith("C") else one for one in detail)
    return unicodedata.normalize("NFC", plain)[:MAX_TEXT]
