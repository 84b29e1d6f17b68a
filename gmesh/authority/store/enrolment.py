# SPDX-License-Identifier: MIT
"""
Joins as the database sees them: all they ask in one question, all they write in one statement; and those
that wait for an operator.

Each statement is a round for the interpreter between the writer's thread and the reactor's.
A spent invite is refused by the view that joins are written to, C{migrations/0006_admission.sql}.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from gmesh.authority.store import nodes
from gmesh.authority.store.certificates import CertificateRow
from gmesh.authority.store.invites import COLUMNS, InviteRow, row_of
from gmesh.authority.store.transaction import Reader, Transaction
from gmesh.trust.encoding import b64url_decode
from gmesh.trust.keys import KEY_SIZE, key_id

__all__ = [
    "CurrentHolder",
    "EnrolmentRow",
    "JoinFacts",
    "add",
    "admit",
    "decide",
    "get",
    "lookup_joins",
    "page",
]

_INVITE = ", ".join(f"invite.{column.strip()}" for column in COLUMNS.split(","))
_INVITE_END = 1 + COLUMNS.count(",") + 1
_LOOKUP = f"""
WITH asked (place, invite_id, node_id, noise) AS (VALUES %s)
SELECT asked.place, {_INVITE},
    EXISTS (SELECT 1 FROM revoked_key WHERE key_id = asked.node_id),
    (SELECT node_id FROM noise_key WHERE noise_key = asked.noise),
    named.name, named.node_id, named.barred_at, named.not_after,
    keyed.name, keyed.node_id, keyed.barred_at, keyed.not_after
FROM asked
    JOIN invite ON invite.id = asked.invite_id
    LEFT JOIN node AS named ON named.name = invite.name
    LEFT JOIN node AS keyed ON keyed.node_id = asked.node_id
"""
_ADMIT = (
    "INSERT INTO admission (invite, name, node_id, node_key, noise_key, roles, lifetime,"
    " serial, document, not_before, not_after) VALUES "
)
_WAITING_COLUMNS = "id, node_key, noise_key, requested_at, state, decided_by, decided_at"
_STATE = (
    "CASE WHEN enrolment.state = 'pending' AND invite.revoked_at IS NOT NULL THEN 'rejected'"
    " ELSE enrolment.state END"
)
"""Nobody can be approved, or needs to be rejected, whose invite was withdrawn meanwhile."""
_ADMIT_ROW = "(?,?,?,?,?,?,?,?,?,?,?)"


class CurrentHolder(msgspec.Struct, frozen=True):
    """The member that has a name or a key now; C{not_after} is its newest certificate's."""

    name: str
    node_id: str
    barred_at: int | None
    not_after: int


class JoinFacts(msgspec.Struct, frozen=True):
    """
    What a join is judged by.

    @ivar key_revoked: whether the node's key ever was.
    @ivar noise_key_owner: node_id that the Noise key is tied to.
    @ivar named: who has the invite's name.
    @ivar keyed: what the node's key is called.
    """

    invite: InviteRow
    key_revoked: bool
    noise_key_owner: str | None
    named: CurrentHolder | None
    keyed: CurrentHolder | None


def lookup_joins(reader: Reader, asked: Sequence[tuple[str, str, str]]) -> list[JoinFacts | None]:
    """
    What is known of each; None where no invite has this id.

    @param asked: invite's id, node_id, Noise key.
    """
    found: list[JoinFacts | None] = [None] * len(asked)
    if not asked:
        return found
    values = [value for place, wanted in enumerate(asked) for value in (place, *wanted)]
    for row in reader.all(_LOOKUP % ",".join(["(?,?,?,?)"] * len(asked)), *values):
        revoked, owner, *holders = row[_INVITE_END:]
        found[row[0]] = JoinFacts(
            row_of(row[1:_INVITE_END]), bool(revoked), owner, _holder(holders[:4]), _holder(holders[4:])
        )
    return found


def _holder(columns: list) -> CurrentHolder | None:  # type: ignore[type-arg]  # a row's columns
    return None if columns[0] is None else CurrentHolder(*columns)


def admit(tx: Transaction, admitted: Sequence[tuple[JoinFacts, str, CertificateRow]]) -> None:
    """
    Spend the invites, tie the Noise keys, store the certificates, and insert or replace the members.

    Refused by the database itself, whole, if an invite is spent or withdrawn or a Noise key another's.
    @param admitted: with the node's key.
    """
    values: list[object] = []
    for facts, node_key, certificate in admitted:
        invite = facts.invite
        values += (
            invite.id,
            certificate.name,
            certificate.node_id,
            node_key,
            certificate.noise_key,
            nodes.roles_text(invite.roles),
            invite.lifetime,
            certificate.serial,
            certificate.document,
            certificate.not_before,
            certificate.not_after,
        )
    tx.execute(_ADMIT + ",".join([_ADMIT_ROW] * len(admitted)), *values)
    nodes.counted(tx, sum(1 for facts, _, _ in admitted if facts.named is None))


# Joins that wait for an operator.


@dataclass(frozen=True, slots=True)
class EnrolmentRow:
    """One request as stored; C{id} is its invite's, C{state} C{pending}, C{approved} or C{rejected}."""

    id: str
    node_key: str
    noise_key: str
    requested_at: int
    state: str
    decided_by: str | None
    decided_at: int | None

    @property
    def node_id(self) -> str:
        """The name of its key, which the host showed when it asked."""
        return key_id(b64url_decode(self.node_key, KEY_SIZE))


def get(reader: Reader, invite_id: str) -> EnrolmentRow | None:
    """The request made with this invite."""
    row = reader.one(f"SELECT {_WAITING_COLUMNS} FROM enrolment WHERE id = ?", invite_id)
    return None if row is None else EnrolmentRow(*row)


def page(reader: Reader, after: str, limit: int) -> list[tuple[EnrolmentRow, str, str, int | None]]:
    """
    All that waits for an operator or did, by id: each with its name and its roles (JSON).

    The last is the serial of the certificate that a member came back with; None for a join by an invite.
    """
    columns = ", ".join(f"enrolment.{column}" for column in _WAITING_COLUMNS.split(", "))
    columns = columns.replace("enrolment.state", _STATE)
    rows = reader.all(
        f"SELECT {columns}, invite.name, invite.roles, NULL FROM enrolment"
        " JOIN invite ON invite.id = enrolment.id WHERE enrolment.id > ?"
        f" UNION ALL SELECT {_WAITING_COLUMNS}, name, roles, serial FROM readmission WHERE id > ?"
        " ORDER BY 1 LIMIT ?",
        after,
        after,
        limit,
    )
    return [(EnrolmentRow(*row[:-3]), row[-3], row[-2], row[-1]) for row in rows]


def add(tx: Transaction, invite_id: str, node_key: str, noise_key: str, state: str = "pending") -> None:
    """Insert one; C{approved} is one that waits for its admission alone."""
    tx.execute(
        "INSERT INTO enrolment (id, node_key, noise_key, requested_at, state) VALUES (?,?,?,?,?)",
        invite_id,
        node_key,
        noise_key,
        tx.now,
        state,
    )


def decide(tx: Transaction, invite_id: str, state: str, by: str) -> bool:
    """Approve or reject. @return: False unless it was pending."""
    return bool(
        tx.execute(
            "UPDATE enrolment SET state = ?, decided_by = ?, decided_at = ?"
            " WHERE id = ? AND state = 'pending'",
            state,
            by,
            tx.now,
            invite_id,
        )
    )
