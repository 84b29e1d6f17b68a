# SPDX-License-Identifier: MIT
"""
Operations that take several operators: to approve is to ask for the same, signed by one's own key.

So nobody approves what they did not see, and a request altered by one byte of meaning is another
proposal.  Each request is decided as if it were the last one needed, and undone if it is not: only what its
operator may do, and what could be done now, counts as a vote.  A proposal keeps what it spoke of; when that
is another thing by now, it ends.  The votes are used up in the transaction of the effect.
Tests: C{tests/authority/test_approvals.py}, C{tests/authority/test_proposals.py}.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from gmesh.authority import audit, limits
from gmesh.authority.approval_rules import ApprovalRules, decode_rules, held_rules, read_rules
from gmesh.authority.auth import Caller
from gmesh.authority.store import approvals
from gmesh.authority.store.approvals import ApprovalRow
from gmesh.authority.store.transaction import Reader, Transaction
from gmesh.authority.store.writer import Store
from gmesh.errors import RequestRefused
from gmesh.trust.canonical import canonical, digest

__all__ = ["ApprovalWaits", "Approvals", "Operation"]

Json = dict[str, Any]
_SIGNED = {"signed", "signatures"}


class Operation(msgspec.Struct, frozen=True):
    """
    What an operator asks for.

    @ivar name: of its route, such as C{POST /admin/policies}.
    @ivar least: the role it takes; empty where the policy says which.
    """

    name: str
    method: str
    least: str


class ApprovalWaits(Exception):
    """
    The request was counted, and waits for other operators.

    @ivar answer: what its operator is told.
    """

    def __init__(self, answer: Json) -> None:
        super().__init__()
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Ballot:
    """
    One operator's vote, cast by the very decision that it is for.

    @ivar id: of the proposal: the digest of what is asked, without signatures.
    @ivar body: what is asked, with them; None for nothing.
    """

    id: str
    operation: Operation
    target: str
    body: Any
    required: int

    def cast(self, tx: Transaction, caller: Caller) -> None:
        """At the beginning of the decision; when it has been made it is judged whether it stands."""
        approvals.forget_expired(tx)
        held = approvals.get(tx, self.id)
        least = self.operation.least or caller.role
        before = {vote.key_id for vote in approvals.votes(tx, self.id, least)}
        count = len(before | {caller.key_id})
        if count >= self.required:
            approvals.forget(tx, self.id)
            self._record(tx, caller, count)
        tx.close_with(lambda: self._judge(tx, caller, held, count, caller.key_id in before))

    def _judge(
        self, tx: Transaction, caller: Caller, held: ApprovalRow | None, count: int, again: bool
    ) -> Callable[[Transaction], Exception] | None:
        """What is done in the place of the decision, which was made and so could be; None if it stands."""
        facts = canonical(tx.facts)
        if held is not None and held.facts != facts:
            changed = _differing(held.facts, facts)
            return lambda later: self._end(later, caller, changed)
        if count >= self.required:
            return None
        if again:
            raise RequestRefused(
                "conflict", "you approved this before: another operator must ask for the same"
            )
        return lambda later: self._vote(later, caller, facts, count)

    def _vote(self, tx: Transaction, caller: Caller, facts: bytes, count: int) -> Exception:
        caller.burn(tx)
        approvals.forget_expired(tx)
        row = approvals.get(tx, self.id)
        if row is None:
            if approvals.proposed_by(tx, caller.key_id) >= limits.PROPOSALS_A_KEY:
                raise RequestRefused(
                    "conflict", f"{limits.PROPOSALS_A_KEY} of your proposals wait: withdraw one of them"
                )
            ends = tx.now + limits.APPROVAL_SECONDS
            asked = (self.id, self.operation.method, self.target, canonical(self.body))
            row = ApprovalRow(*asked, ends, caller.key_id, facts)
            approvals.propose(tx, row)
        approvals.vote(tx, self.id, caller.key_id)
        self._record(tx, caller, count)
        return ApprovalWaits(
            {
                "state": "pending",
                "id": self.id,
                "votes": count,
                "required": self.required,
                "expires_at": row.expires_at,
            }
        )

    def _end(self, tx: Transaction, caller: Caller, changed: str) -> Exception:
        approvals.forget(tx, self.id)
        audit.record(
            tx,
            caller.key_id,
            "end-approval",
            self.operation.name,
            request_id=caller.request_id,
            approval=self.id,
            changed=changed,
        )
        return RequestRefused(
            "conflict",
            f"since this was proposed, its {changed} has changed, so it has ended: look, and propose it anew",
        )

    def _record(self, tx: Transaction, caller: Caller, count: int) -> None:
        name, request_id = self.operation.name, caller.request_id
        audit.record(tx, caller.key_id, "approve", name, request_id=request_id, approval=self.id, votes=count)


class Approvals:
    """
    Collects votes.

    @param possible: names of the operations that can need approval.
    @ivar rules: which operations take how many.
    """

    def __init__(self, store: Store, rules: ApprovalRules, possible: Collection[str]) -> None:
        self._store = store
        self._possible = possible
        self._held: bytes | None = None
        self.rules = rules

    def read_rules(self, state: Path) -> ApprovalRules:
        """The rules as a state directory has them now. @raise ConfigurationError: as L{read_rules}."""
        return read_rules(state, self._possible)

    def follow(self, held: bytes | None) -> None:
        """Go by the rules that the database holds, canonical JSON, whichever daemon took them."""
        if held != self._held:
            self._held = held
            self.rules = decode_rules(held)

    def bound(self, caller: Caller) -> Caller:
        """
        The caller, refused in the decision if the rules have changed by then; by whichever daemon, the next
        request goes by them.
        """
        judged = self.rules

        def still(tx: Transaction) -> None:
            held = held_rules(tx)
            if held != judged:
                self.rules = held
                raise RequestRefused(
                    "conflict", "which operations take several operators was changed meanwhile: ask again"
                )

        return msgspec.structs.replace(caller, still=still)

    def wanted(self, operation: str, body: Any) -> bool:
        """Whether this request must be approved; a dry run changes nothing."""
        return operation in self.rules.operations and not getattr(body, "dry_run", False)

    async def ballot(
        self, caller: Caller, operation: Operation, target: str, body: Any
    ) -> tuple[Caller, Any]:
        """
        Make a request a vote: its decision then waits for others, by L{ApprovalWaits}, or is made.

        Where the policy says which role it takes, the votes of the caller's role and above count.

        @return: the caller, with that vote, and the body, with the signatures of the proposal if it has none.
        """
        said = None if body is None else msgspec.to_builtins(body)
        shown = _unsigned(said)
        name = digest({"method": operation.method, "target": target, "body": shown})
        if _bare(said):
            row = await self._store.read(lambda reader: approvals.get(reader, name))
            if row is not None:
                said = json.loads(row.body)
                body = msgspec.convert(said, type(body))
        ballot = Ballot(name, operation, target, said, self.rules.required)
        return msgspec.structs.replace(caller, cast=ballot.cast), body

    def page(self, after: str, limit: int, now: int) -> Deferred[Json]:
        """What waits, with the votes so far."""

        def page(reader: Reader) -> Json:
            rows = approvals.page(reader, after, now, limit)
            return {
                "required": self.rules.required,
                "operations": list(self.rules.operations),
                "approvals": [_shown(reader, row) for row in rows],
                "next": rows[-1].id if len(rows) == limit else None,
            }

        return self._store.read(page)

    def one(self, name: str, now: int) -> Deferred[Json]:
        """What waits under an id. @raise RequestRefused: C{not-found}."""

        def one(reader: Reader) -> Json:
            row = approvals.get(reader, name)
            if row is None or row.expires_at <= now:
                raise _nothing_waits()
            return _shown(reader, row)

        return self._store.read(one)

    def withdraw(self, caller: Caller, name: str) -> Deferred[None]:
        """Take one's own proposal back. @raise RequestRefused: C{not-found}, C{forbidden-role}."""

        def withdraw(tx: Transaction) -> None:
            caller.claim(tx)
            row = approvals.get(tx, name)
            if row is None or row.expires_at <= tx.now:
                raise _nothing_waits()
            if row.proposed_by != caller.key_id:
                raise RequestRefused("forbidden-role", "only who proposed it may withdraw it")
            approvals.forget(tx, name)
            target = f"{row.method} {row.target}"
            audit.record(
                tx, caller.key_id, "withdraw-approval", target, request_id=caller.request_id, approval=name
            )

        return self._store.decide(withdraw)


def _nothing_waits() -> RequestRefused:
    return RequestRefused("not-found", "nothing waits under this id: it was done, has ended or was withdrawn")


def _shown(reader: Reader, row: ApprovalRow) -> Json:
    """A proposal, without the signatures that would let somebody use it before it is approved."""
    return {
        "id": row.id,
        "method": row.method,
        "target": row.target,
        "body": _unsigned(json.loads(row.body)),
        "proposed_by": row.proposed_by,
        "speaks_of": json.loads(row.facts),
        "votes": [
            {"key_id": vote.key_id, "name": vote.name, "at": vote.voted_at}
            for vote in approvals.votes(reader, row.id, "read")
        ],
        "expires_at": row.expires_at,
    }


def _unsigned(said: Any) -> Any:
    """A request's body with its documents as they are before anybody has signed them."""
    if not isinstance(said, dict):
        return said
    return {
        name: {**value, "signatures": []} if isinstance(value, dict) and value.keys() == _SIGNED else value
        for name, value in said.items()
    }


def _bare(said: Any) -> bool:
    """Whether a document in it bears no signature: it was read here, where none is shown."""
    values = list(said.values()) if isinstance(said, dict) else []
    documents = [value for value in values if isinstance(value, dict) and value.keys() == _SIGNED]
    return any(document["signatures"] == [] for document in documents)


def _differing(before: bytes, now: bytes) -> str:
    """The names of what differs between two canonical objects."""
    one, other = json.loads(before), json.loads(now)
    return ", ".join(name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name))
