# SPDX-License-Identifier: MIT
"""
C{approvals.json}: which operations take several operators, and that nobody gets around it alone.

A rule that one operator can step around is none: who may add a key alone has a second vote.  So rules that
leave such a door are refused, and rules that ask for less than those before take a word at the start.
Tests: C{tests/authority/test_approval_rules.py}.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta
from twisted.logger import Logger

from gmesh.authority import audit, limits
from gmesh.authority.store import approvals, operators
from gmesh.authority.store.transaction import Reader, Transaction
from gmesh.errors import ConfigurationError, DocumentRefused
from gmesh.files import read_capped
from gmesh.trust.canonical import canonical
from gmesh.trust.names import human_error

__all__ = [
    "APPROVALS_FILE",
    "NO_APPROVALS",
    "ApprovalRules",
    "decode_rules",
    "follow_rules",
    "held_rules",
    "read_rules",
    "refuse_weaker",
    "take_rules",
]

APPROVALS_FILE = "approvals.json"

_VOTES = {
    "POST /admin/operators": "who adds a key alone has its vote too",
    "DELETE /admin/operators/<id>": "who removes keys alone chooses who votes",
    "POST /admin/operators/<id>": "who replaces a key alone removes one and adds one",
    "POST /admin/genesis": "it names the keys that say who is an operator",
}
"""The doors to every right: each makes voters."""

_DOORS = {
    "POST /admin/commands": {"POST /admin/policies": "a policy says which role may give which command"},
    "POST /admin/enrolments/<id>": {
        "POST /admin/invites": "an invite that asks for no approval admits alone"
    },
}
"""The further doors to one right."""


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

    def open_door(self) -> str:
        """An operation by which one operator alone gets at what takes several, and why; or nothing."""
        if self.required == 1 or not self.operations:
            return ""
        doors = dict(_VOTES)
        for operation in self.operations:
            doors |= _DOORS.get(operation, {})
        missing = (door for door in doors if door not in self.operations)
        return next((f"{door} is missing: {doors[door]}" for door in missing), "")

    def weakened(self, before: ApprovalRules) -> str:
        """What these ask less for than those before; or nothing."""
        if before.required == 1:
            return ""
        for operation in before.operations:
            asked = self.required if operation in self.operations else 1
            if asked < before.required:
                return f"{operation} took {before.required} operators and would take {asked}"
        return ""


NO_APPROVALS = ApprovalRules(1, ())
_log = Logger()


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
        raise ConfigurationError("bad-approvals", f"{path}: {human_error(error)}") from error
    if possible is not None and (unknown := sorted(set(rules.operations) - set(possible))):
        raise ConfigurationError(
            "bad-approvals",
            f"{path}: no operation is named {unknown[0]}; there are {', '.join(sorted(possible))}",
        )
    door = rules.open_door()
    if door:
        raise ConfigurationError("bad-approvals", f"{path}: one operator alone gets around it, for {door}")
    return rules


def held_rules(reader: Reader) -> ApprovalRules:
    """The rules that hold."""
    return decode_rules(approvals.rules(reader)[0])


def decode_rules(held: bytes | None) -> ApprovalRules:
    """Rules as the database holds them; none if it holds nothing."""
    return NO_APPROVALS if held is None else msgspec.json.decode(held, type=ApprovalRules)


def take_rules(tx: Transaction, rules: ApprovalRules, weaken: bool = False) -> str:
    """
    Note the rules that hold from now on, and in the audit that they changed, or were not allowed to.

    @param weaken: whether they may ask for less than those before.
    @return: what they ask less for, if that is refused; nothing has changed then.
    """
    _, refused = approvals.rules(tx)
    text = canonical(msgspec.to_builtins(rules))
    before = held_rules(tx)
    weaker = rules.weakened(before)
    if weaker and not weaken:
        if text != refused:  # one row, however often a supervisor starts the daemon again
            _record(tx, rules, "refused: weaker-approvals")
            approvals.keep_rules(tx, canonical(msgspec.to_builtins(before)), text)
        return weaker
    if rules != before:
        _record(tx, rules, "done")
    if rules != before or refused is not None:
        approvals.keep_rules(tx, text, None)
    return ""


def follow_rules(tx: Transaction, rules: ApprovalRules, where: str) -> ApprovalRules:
    """
    The rules that hold where daemons share a database: its own, whatever file a host has.

    The first to start takes its file into an empty one; later a SIGHUP does.
    """
    if approvals.rules(tx)[0] is None:
        take_rules(tx, rules)
        return rules
    held = held_rules(tx)
    if rules != held:
        _log.warn("{where} is not what the database holds, which counts; a SIGHUP takes it over", where=where)
    return held


def refuse_weaker(weaker: str, where: str) -> None:
    """@raise ConfigurationError: C{weaker-approvals}, for what L{take_rules} said."""
    if weaker:
        raise ConfigurationError(
            "weaker-approvals",
            f"{where} asks for less than it did: {weaker}. Put it back, or start the daemon once with"
            " --weaken-approvals",
        )


def _record(tx: Transaction, rules: ApprovalRules, outcome: str) -> None:
    audit.record(
        tx,
        "authority",
        "approval-rules",
        APPROVALS_FILE,
        outcome,
        required=rules.required,
        operations=list(rules.operations),
    )
