# SPDX-License-Identifier: MIT
"""
Renewals as the database sees them: all that many ask in one question, all they write in three statements.

Tests: C{tests/authority/test_renewals_together.py}.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gmesh.authority.store import nodes
from gmesh.authority.store.certificates import CertificateRow
from gmesh.authority.store.transaction import Reader, Transaction

__all__ = ["RenewFacts", "lookup", "write"]

_ASKED = "(?,?,?,?)"
# Left joins keep the order of the tables, and each is asked by a key.
_LOOKUP = """
WITH asked (place, serial, node_id, noise_key) AS (VALUES {asked})
SELECT asked.place, presented.node_id, presented.document, presented.not_after, presented.revoked_at,
    EXISTS (SELECT 1 FROM revoked_node AS gone
        WHERE gone.node_id = asked.node_id AND gone.below_serial > asked.serial),
    EXISTS (SELECT 1 FROM revoked_key WHERE key_id = asked.node_id),
    (SELECT owner.node_id FROM noise_key AS owner WHERE owner.noise_key = asked.noise_key),
    EXISTS (SELECT 1 FROM lost_certificate AS lost
        WHERE lost.joined <> 0 AND lost.node_id = asked.node_id AND lost.serial > node.serial),
    node.name, node.node_key, node.roles, node.lifetime, node.serial, newest.not_before, newest.not_after
FROM asked
    LEFT JOIN certificate AS presented ON presented.serial = asked.serial
    LEFT JOIN node ON node.node_id = asked.node_id
    LEFT JOIN certificate AS newest ON newest.serial = node.serial AND newest.node_id = node.node_id
"""
_NODE = "INSERT INTO node (name, node_id, node_key, roles, lifetime, serial, not_after) VALUES "
_RENEWED = " ON CONFLICT (name) DO UPDATE SET serial = excluded.serial, not_after = excluded.not_after"


class RenewFacts(msgspec.Struct, frozen=True):
    """
    What a renewal is judged by, where both the certificate that is presented and the node are known.

    @ivar document: the certificate that was presented, as stored; C{node_id}, C{not_after} and
        C{revoked_at} are its own.
    @ivar cut_off: whether it is revoked with its node, or its node's key is.
    @ivar noise_key_owner: node_id that the new Noise key is tied to.
    @ivar rejoined: whether an audit tells of a later join.
    @ivar began: when the newest certificate of the node did; None if there is none.
    @ivar ends: when that one does.
    """

    node_id: str
    document: bytes
    not_after: int
    revoked_at: int | None
    cut_off: bool
    noise_key_owner: str | None
    rejoined: bool
    node: nodes.NodeRow
    began: int | None
    ends: int | None


def lookup(reader: Reader, asked: Sequence[tuple[int, str, str]]) -> list[RenewFacts | None]:
    """
    What is known of each; None where the certificate or the node is not.

    @param asked: serial, node_id, Noise key.
    """
    found: list[RenewFacts | None] = [None] * len(asked)
    values = [value for place, names in enumerate(asked) for value in (place, *names)]
    for row in reader.all(_LOOKUP.format(asked=",".join([_ASKED] * len(asked))), *values):
        place, node_id, document, not_after, revoked_at, gone, key_gone, owner, rejoined = row[:9]
        name, node_key, roles, lifetime, serial, began, ends = row[9:]
        if node_id is None or name is None:
            continue
        node = nodes.NodeRow(
            name, asked[place][1], node_key, nodes.read_roles(roles), lifetime, serial, ends or 0
        )
        found[place] = RenewFacts(
            node_id,
            document,
            not_after,
            revoked_at,
            bool(gone or key_gone),
            owner,
            bool(rejoined),
            node,
            began,
            ends,
        )
    return found


def write(tx: Transaction, renewed: Sequence[tuple[nodes.NodeRow, CertificateRow]]) -> None:
    """Tie the Noise keys, store the certificates, and note that they are the members' newest."""
    count = len(renewed)
    keys = [value for _, row in renewed for value in (row.noise_key, row.node_id)]
    tx.execute(
        "INSERT INTO noise_key (noise_key, node_id) VALUES "
        + ",".join(["(?,?)"] * count)
        + " ON CONFLICT DO NOTHING",
        *keys,
    )
    made = [
        value
        for _, row in renewed
        for value in (
            row.serial,
            row.name,
            row.node_id,
            row.noise_key,
            row.document,
            row.not_before,
            row.not_after,
        )
    ]
    tx.execute(
        "INSERT INTO certificate (serial, name, node_id, noise_key, document, not_before, not_after) VALUES "
        + ",".join(["(?,?,?,?,?,?,?)"] * count),
        *made,
    )
    members = [
        value
        for node, row in renewed
        for value in (
            node.name,
            node.node_id,
            node.node_key,
            nodes.roles_text(node.roles),
            node.lifetime,
            row.serial,
            row.not_after,
        )
    ]
    tx.execute(_NODE + ",".join(["(?,?,?,?,?,?,?)"] * count) + _RENEWED, *members)
