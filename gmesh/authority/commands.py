# SPDX-License-Identifier: MIT
"""
The authority's half of the control plane: numbers commands, hands them out, collects receipts.

A command is signed by the operator who gives it; the authority judges it by the policy, as every
node does again, and adds its own signature, without which no node obeys.
Tests: C{tests/authority/test_commands.py}.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from gmesh.authority import audit, limits
from gmesh.authority.auth import Caller, RequestBody
from gmesh.authority.clock import SteadyClock
from gmesh.authority.issuer import DocumentIssuer, newest_command
from gmesh.authority.problems import ProblemWithMembers
from gmesh.authority.published import Publisher
from gmesh.authority.store import commands, nodes
from gmesh.authority.store.commands import CommandRow
from gmesh.authority.store.nodes import NodeRow
from gmesh.authority.store.transaction import Reader, Transaction
from gmesh.authority.store.writer import Store
from gmesh.errors import DocumentRefused, RequestRefused
from gmesh.trust.documents import (
    Certificate,
    Command,
    CommandReceipt,
    Document,
    document_from_dict,
    parse_document,
)
from gmesh.trust.keys import decode_public
from gmesh.trust.limits import DOCUMENT_LIMITS
from gmesh.trust.verify import check_command, command_role, verify_receipt

__all__ = ["CommandBody", "Commands"]

Json = dict[str, Any]
STATES = ("done", "refused", "failed", "revoked", "no-answer")


class CommandBody(RequestBody, frozen=True):
    """C{POST /admin/commands}: a command, signed by the operator who gives it."""

    command: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Answer:
    """
    A receipt that is believed.

    @ivar command: which it is for.
    @ivar document: its file form.
    """

    command: Command
    receipt: CommandReceipt
    document: bytes

    def is_meant(self, member: NodeRow | None) -> bool:
        """Whether the command is for who answers."""
        return member is not None and self.command.concerns(member.name, member.roles)


class Commands:
    """
    The use cases around commands.

    @ivar dropped: receipts that were not taken, by reason.
    """

    log = Logger()

    def __init__(
        self, store: Store, issuer: DocumentIssuer, publisher: Publisher, clock: SteadyClock
    ) -> None:
        self._store = store
        self._issuer = issuer
        self._publisher = publisher
        self._clock = clock
        self.dropped: Counter[str] = Counter()

    # Operators.

    def give(self, caller: Caller, document: Document[Command]) -> Deferred[Json]:
        """
        Take a command for the nodes.

        @raise DocumentRefused: what L{check_command} and L{command_role} find.
        @raise RequestRefused: C{forbidden-role}; C{not-found} for a target that is not a member;
            C{conflict}, with the number to sign.
        """
        body = document.body
        if body.expires_at - body.issued_at > limits.COMMAND_SECONDS_MAX:
            raise RequestRefused("invalid-field", f"a command lives at most {limits.COMMAND_SECONDS_MAX} s")
        if body.issued_at > self._clock.now() + limits.REQUEST_WINDOW_SECONDS:
            raise RequestRefused("invalid-field", "issued_at lies in the future: compare the clocks")
        if len(document.signatures) != 1:
            raise RequestRefused("invalid-field", "a command bears one signature, of who gives it")

        def give(tx: Transaction) -> Json:
            caller.claim(tx)
            policy = self._issuer.in_force(tx).body
            tx.speaks_of(policy=policy.version)
            check_command(document, self._issuer.network_id, tx.now)
            command_role(document, policy)
            if not policy.may_command(caller.role, body.command):
                raise RequestRefused("forbidden-role", f"the policy does not let you give {body.command}")
            if body.target.node is not None:
                node = nodes.by_name(tx, body.target.node)
                if node is None:
                    raise RequestRefused("not-found", f"no node is named {body.target.node}")
                tx.speaks_of(node_id=node.node_id)
            number = tx.next_number("command")
            if body.number != number:
                raise ProblemWithMembers(
                    "conflict", f"the next command is number {number}: sign that", number=number
                )
            accepted = self._issuer.countersign(tx, document).encode()
            commands.add(tx, CommandRow(number, body.id, accepted, caller.key_id, body.expires_at))
            audit.record(
                tx,
                caller.key_id,
                "command",
                body.command,
                request_id=caller.request_id,
                id=body.id,
                number=number,
                digest=document.digest,
            )
            tx.after_commit(self._publisher.commands_changed)
            return {"id": body.id, "number": number}

        return self._store.decide(give)

    def page(self, before: int, limit: int) -> Deferred[Json]:
        """A page of commands, newest first, and the newest number."""

        def page(reader: Reader) -> Json:
            rows = commands.page(reader, before, limit)
            return {
                "commands": [_summary(row) for row in rows],
                "number": newest_command(reader).number,
                "next": rows[-1].number if len(rows) == limit else None,
            }

        return self._store.read(page)

    def one(self, command_id: str, after: str, limit: int) -> Deferred[Json]:
        """A command, and a page of the members it concerns with what they answered."""

        def one(reader: Reader) -> Json:
            row = commands.by_id(reader, command_id)
            if row is None:
                raise RequestRefused("not-found", "no command has this id")
            document = parse_document(row.document, Command)
            target = document.body.target
            found = commands.answers(reader, command_id, target, after, limit)
            counted = commands.counts(reader, command_id, target)
            return {
                "command": document.as_dict(),
                "created_by": row.created_by,
                "counts": {state.replace("-", "_"): counted.get(state, 0) for state in STATES},
                "nodes": [
                    {
                        "name": answer.name,
                        "node_id": answer.node_id,
                        "state": answer.state,
                        "detail": answer.detail,
                        "at": answer.answered_at,
                    }
                    for answer in found
                ],
                "next": found[-1].name if len(found) == limit else None,
            }

        return self._store.read(one)

    # Members.

    def since(self, number: int) -> Deferred[bytes]:
        """The commands after C{number}, as JSON with their file forms."""

        def collect(reader: Reader) -> bytes:
            rows = commands.since(reader, number, self._clock.now(), limits.COMMANDS_PAGE)
            following = rows[-1].number if len(rows) == limits.COMMANDS_PAGE else None
            documents = b",".join(row.document for row in rows)
            return b'{"commands":[%s],"next":%s}' % (documents, json.dumps(following).encode())

        return self._store.read(collect)

    async def take_receipts(
        self, caller: Caller, certificate: Document[Certificate], receipts: Sequence[Json]
    ) -> None:
        """
        Keep what a member says became of commands; what cannot be believed is counted and dropped.

        They are judged by a read, and only what is new is a decision: nobody waits for what a member repeats.
        """
        public = decode_public(certificate.body.node_key)

        def weigh(reader: Reader) -> tuple[list[_Answer], list[str]]:
            member, new, refused = nodes.by_id(reader, caller.key_id), [], []
            for value in receipts:
                try:
                    new += self._weigh(reader, member, public, value)
                except DocumentRefused as error:
                    refused.append(error.reason)
            return new, refused

        def keep(tx: Transaction, new: list[_Answer]) -> list[str]:
            member = nodes.by_id(tx, caller.key_id)
            meant = [answer for answer in new if answer.is_meant(member)]
            for answer in meant:
                body = answer.receipt
                commands.add_receipt(
                    tx, body.command, caller.key_id, body.outcome, body.detail, body.at, answer.document
                )
            return ["not-a-target"] * (len(new) - len(meant))

        new, refused = await self._store.read(weigh)
        if new:
            refused += await self._store.decide(partial(keep, new=new))
        self._drop(refused, caller)

    def _weigh(self, reader: Reader, member: NodeRow | None, public: bytes, value: Json) -> list[_Answer]:
        """
        The receipt, unless the member has answered before.

        @raise DocumentRefused: if it cannot be believed.
        """
        document = document_from_dict(value, CommandReceipt)
        body, data = document.body, document.encode()
        if len(data) > DOCUMENT_LIMITS["receipt"]:
            raise DocumentRefused("too-large")
        if member is not None and commands.answered(reader, body.command, member.node_id):
            return []
        verify_receipt(document, public, self._issuer.network_id)
        row = commands.by_id(reader, body.command)
        if row is None:
            raise DocumentRefused("unknown-command")
        answer = _Answer(parse_document(row.document, Command).body, body, data)
        if not answer.is_meant(member):
            raise DocumentRefused("not-a-target")
        return [answer]

    def _drop(self, reasons: list[str], caller: Caller) -> None:
        self.dropped.update(reasons)
        if reasons:
            self.log.warn(
                "{count} receipts of {node} were dropped: {reason} (request {request_id})",
                count=len(reasons),
                node=caller.key_id,
                reason=reasons[0],
                request_id=caller.request_id,
            )


def _summary(row: CommandRow) -> Json:
    signed = parse_document(row.document, Command).signed
    named = ("id", "number", "command", "target", "issued_at", "expires_at")
    return {**{name: signed[name] for name in named}, "created_by": row.created_by}
