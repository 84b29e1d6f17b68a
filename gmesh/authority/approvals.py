# SPDX-License-Identifier: MIT
"""
Operations that take several operators: to approve is to ask for the same, signed by one's own key.

So nobody approves what they did not see, and a request altered by one byte of meaning is another
proposal.  The votes are used up in the transaction of the effect.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from twisted.internet.defer import Deferred

from gmesh.authority import audit, limits
from gmesh.authority.auth import Caller
from gmesh.authority.store import approvals, operators
from gmesh.authority.store.approvals import ApprovalRow
from gmesh.authority.store.transaction import Reader, Transaction
from gmesh.authority.store.writer import Store
from gmesh.errors import ConfigurationError, DocumentRefused, RequestRefused
from gmesh.files import read_capped
from gmesh.trust.canonical import canonical, digest

__all__ = ["APPROVALS_FILE", "NO_APPROVALS", "ApprovalRules", "Approvals", "Operation", "read_rules"]

Json = dict[str, Any]
APPROVALS_FILE = "approvals.json"


class Operation(msgspec.Struct, frozen=True):
    """
    What an operator asks for.

    @ivar name: of its route, such as C{POST /admin/policies}.
    @ivar least: the role it takes; empty where the policy says which.
    """

    name: str
    method: str
    least: str


class ApprovalRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    C{approvals.json}.

    @ivar required: how many operators.
    @ivar operations: names of routes, such as C{POST /admin/policies}.
    """

    required: Annotated[int, Meta(ge=1, le=100)]
    operations: tuple[str, ...]

    def check(self, reader: Reader, where: str) -> None:
        """@raise ConfigurationError: C{bad-approvals}, if there are not so many administrators."""
        held = operators.administrators(reader)
        if self.required > held:
            raise ConfigurationError(
                "bad-approvals", f"{where} requires {self.required} operators, but only {held} may administer"
            )


NO_APPROVALS = ApprovalRules(1, ())


def read_rules(state: Path, possible: Collection[str] | None = None) -> ApprovalRules:
    """
    The rules of a state directory; none without the file.

    @param possible: names of the operations that can need approval; None for no judgement of names.

    @raise ConfigurationError: C{bad-approvals}, saying what is wrong with the file.
    """
    path = state / APPROVALS_FILE
    if not path.exists():
        return NO_APPROVALS
    try:
        rules = msgspec.json.decode(read_capped(path, limits.APPROVALS_FILE_BYTES), type=ApprovalRules)
    except (msgspec.DecodeError, DocumentRefused, UnicodeDecodeError) as error:
        raise ConfigurationError("bad-approvals", f"{path}: {error}") from error
    if possible is not None and (unknown := sorted(set(rules.operations) - set(possible))):
        raise ConfigurationError(
            "bad-approvals",
            f"{path}: no operation is named {unknown[0]}; there are {', '.join(sorted(possible))}",
        )
    return rules


class Approvals:
    """
    Collects votes.

    @param possible: names of the operations that can need approval.
    @ivar rules: which operations take how many.
    """

    def __init__(self, store: Store, rules: ApprovalRules, possible: Collection[str]) -> None:
        self._store = store
        self._possible = possible
        self.rules = rules

    def read_rules(self, state: Path) -> ApprovalRules:
        """The rules as a state directory has them now. @raise ConfigurationError: as L{read_rules}."""
        return read_rules(state, self._possible)

    def wanted(self, operation: str, body: Any) -> bool:
        """Whether this request must be approved; a dry run changes nothing."""
        return operation in self.rules.operations and not getattr(body, "dry_run", False)

    def ask(self, caller: Caller, operation: Operation, target: str, body: Any) -> Deferred[Caller | Json]:
        """
        Count the request as its caller's vote.

        Where the policy says which role it takes, the votes of the caller's role and above count.

        @return: a caller who may act, or what to answer one who must wait for others.
        @raise RequestRefused: C{conflict} for a vote that was given before.
        """
        said = None if body is None else msgspec.to_builtins(body)
        name = digest({"method": operation.method, "target": target, "body": said})
        least = operation.least or caller.role
        required = self.rules.required

        def vote(tx: Transaction) -> Caller | Json:
            caller.claim(tx)
            approvals.forget_expired(tx)
            ends = tx.now + limits.APPROVAL_SECONDS
            approvals.propose(tx, ApprovalRow(name, operation.method, target, canonical(said), ends))
            new = approvals.vote(tx, name, caller.key_id)
            count = len(approvals.votes(tx, name, least))
            if new:
                audit.record(
                    tx,
                    caller.key_id,
                    "approve",
                    operation.name,
                    request_id=caller.request_id,
                    approval=name,
                    votes=count,
                )
            if count >= required:
                return msgspec.structs.replace(
                    caller, approval=lambda later: self._use(later, name, least, required)
                )
            if not new:
                raise RequestRefused(
                    "conflict", "you approved this before: another operator must ask for the same"
                )
            row = approvals.get(tx, name)
            return {
                "state": "pending",
                "id": name,
                "votes": count,
                "required": required,
                "expires_at": ends if row is None else row.expires_at,
            }

        return self._store.decide(vote)

    def page(self, after: str, limit: int, now: int) -> Deferred[Json]:
        """What waits, with the votes so far."""

        def page(reader: Reader) -> Json:
            rows = approvals.page(reader, after, now, limit)
            return {
                "required": self.rules.required,
                "operations": list(self.rules.operations),
                "approvals": [
                    {
                        "id": row.id,
                        "method": row.method,
                        "target": row.target,
                        "body": json.loads(row.body),
                        "votes": [
                            {"key_id": vote.key_id, "name": vote.name, "at": vote.voted_at}
                            for vote in approvals.votes(reader, row.id, "read")
                        ],
                        "expires_at": row.expires_at,
                    }
                    for row in rows
                ],
                "next": rows[-1].id if len(rows) == limit else None,
            }

        return self._store.read(page)

    def _use(self, tx: Transaction, name: str, least: str, required: int) -> None:
        if len(approvals.votes(tx, name, least)) < required or not approvals.forget(tx, name):
            raise RequestRefused(
                "conflict", "its approvals were used or withdrawn meanwhile: look and ask again"
            )
