# SPDX-License-Identifier: MIT
"""
A join as the database sees it: all it asks in one question, all it writes in one statement.

Each statement is a round for the interpreter between the writer's thread and the reactor's.
"""

from __future__ import annotations

import msgspec

from gmesh.authority.store.certificates import CertificateRow
from gmesh.authority.store.invites import COLUMNS, InviteRow, row_of
from gmesh.authority.store.roles import roles_text
from gmesh.authority.store.transaction import Reader, Transaction

__all__ = ["Application", "Holder", "admit", "look"]

_INVITE = ", ".join(f"invite.{column.strip()}" for column in COLUMNS.split(","))
_INVITE_COLUMNS = COLUMNS.count(",") + 1
_LOOK = f"""
SELECT {_INVITE},
    EXISTS (SELECT 1 FROM revoked_key WHERE key_id = ?1),
    (SELECT node_id FROM noise_key WHERE noise_key = ?2),
    named.name, named.node_id, named.barred_at, named.not_after,
    keyed.name, keyed.node_id, keyed.barred_at, keyed.not_after
FROM invite
    LEFT JOIN node AS named ON named.name = invite.name
    LEFT JOIN node AS keyed ON keyed.node_id = ?1
WHERE invite.id = ?3
"""
_ADMIT = (
    "INSERT INTO admission (invite, name, node_id, node_key, noise_key, roles, lifetime,"
    " serial, document, not_before, not_after) VALUES (?,?,?,?,?,?,?,?,?,?,?)"
)


class Holder(msgspec.Struct, frozen=True):
    """The member that has a name or a key now; C{not_after} is its newest certificate's."""

    name: str
    node_id: str
    barred_at: int | None
    not_after: int


class Application(msgspec.Struct, frozen=True):
    """
    What a join is judged by.

    @ivar key_revoked: whether the node's key ever was.
    @ivar noise_key_owner: node_id of whom the Noise key is tied to.
    @ivar named: who has the invite's name.
    @ivar keyed: what the node's key is called.
    """

    invite: InviteRow
    key_revoked: bool
    noise_key_owner: str | None
    named: Holder | None
    keyed: Holder | None


def look(reader: Reader, invite_id: str, node_id: str, noise_key: str) -> Application | None:
    """What is known of these; None if there is no such invite."""
    row = reader.one(_LOOK, node_id, noise_key, invite_id)
    if row is None:
        return None
    revoked, owner, *holders = row[_INVITE_COLUMNS:]
    return Application(
        row_of(row[:_INVITE_COLUMNS]), bool(revoked), owner, _holder(holders[:4]), _holder(holders[4:])
    )


def _holder(columns: list) -> Holder | None:  # type: ignore[type-arg]  # a row's columns
    return None if columns[0] is None else Holder(*columns)


def admit(tx: Transaction, application: Application, node_key: str, certificate: CertificateRow) -> None:
    """
    Spend the invite, tie the Noise key, store the certificate, and insert or replace the member.

    Refused by the database itself, whole, if the invite is spent or withdrawn or the Noise key another's.
    """
    invite = application.invite
    tx.execute(
        _ADMIT,
        invite.id,
        certificate.name,
        certificate.node_id,
        node_key,
        certificate.noise_key,
        roles_text(invite.roles),
        invite.lifetime,
        certificate.serial,
        certificate.document,
        certificate.not_before,
        certificate.not_after,
    )
    if application.named is None:
        tx.set_mark("nodes", (tx.mark("nodes") or 0) + 1)
