# SPDX-License-Identifier: MIT
"""
Certificates by serial, and what of them is revoked: one by one, with their node, or with its key.

Tests: C{tests/authority/test_members.py}, C{tests/authority/test_revocations.py}.
"""

from __future__ import annotations

import msgspec

from gmesh.authority import limits
from gmesh.authority.store.transaction import Reader, Transaction

__all__ = [
    "CertificateRow",
    "add",
    "cut_off",
    "get",
    "key_revoked",
    "last_end",
    "list_under",
    "live",
    "page",
    "prune",
    "revoke",
    "revoke_key",
    "revoke_node",
    "revoked_keys",
    "revoked_nodes",
    "revoked_since",
    "unknown_revoked",
    "unlisted",
]

_LISTED = ("revoked_certificate", "revoked_node", "revoked_key")
_COLUMNS = "serial, name, node_id, noise_key, document, not_before, not_after, revoked_at, reason"


class CertificateRow(msgspec.Struct, frozen=True):
    """One certificate as stored; C{document} is its file form."""

    serial: int
    name: str
    node_id: str
    noise_key: str
    document: bytes
    not_before: int
    not_after: int
    revoked_at: int | None = None
    reason: int | None = None


def unknown_revoked(serial: int, not_after: int, revoked_at: int, reason: int) -> CertificateRow:
    """The row of a certificate of which only its revocation is known."""
    return CertificateRow(serial, "", "", "", b"", 0, not_after, revoked_at, reason)


def add(tx: Transaction, certificate: CertificateRow) -> None:
    """Insert."""
    tx.execute(
        f"INSERT INTO certificate ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?)",
        certificate.serial,
        certificate.name,
        certificate.node_id,
        certificate.noise_key,
        certificate.document,
        certificate.not_before,
        certificate.not_after,
        certificate.revoked_at,
        certificate.reason,
    )
    if certificate.revoked_at is not None:
        _enlist(tx, certificate.serial)


def get(reader: Reader, serial: int) -> CertificateRow | None:
    """The certificate of this serial."""
    row = reader.one(f"SELECT {_COLUMNS} FROM certificate WHERE serial = ?", serial)
    return None if row is None else CertificateRow(*row)


def page(reader: Reader, after: int, limit: int) -> list[CertificateRow]:
    """Certificates by serial, from the one after C{after}; revoked is also what its node or key is."""
    rows = reader.all(
        "SELECT c.serial, name, c.node_id, noise_key, document, not_before, c.not_after,"
        " coalesce(c.revoked_at, n.revoked_at, k.revoked_at), coalesce(c.reason, n.reason, k.reason)"
        " FROM certificate AS c"
        " LEFT JOIN revoked_node AS n ON n.node_id = c.node_id AND n.below_serial = (SELECT min(below_serial)"
        " FROM revoked_node WHERE node_id = c.node_id AND below_serial > c.serial)"
        " LEFT JOIN revoked_key AS k ON k.key_id = c.node_id"
        " WHERE c.serial > ? ORDER BY c.serial LIMIT ?",
        after,
        limit,
    )
    return [CertificateRow(*row) for row in rows]


def live(reader: Reader, node_id: str, now: int, limit: int) -> list[int]:
    """When those of a node began that have not ended, revoked or not; at most C{limit}, the last to end."""
    rows = reader.all(
        "SELECT not_before FROM certificate WHERE node_id = ? AND not_after > ?"
        " ORDER BY not_after DESC LIMIT ?",
        node_id,
        now,
        limit,
    )
    return [row[0] for row in rows]


def last_end(reader: Reader, node_id: str) -> int:
    """When the last certificate of a node ends; 0 if it never had one."""
    return int(reader.value("SELECT coalesce(max(not_after), 0) FROM certificate WHERE node_id = ?", node_id))


def revoke(tx: Transaction, serial: int, reason: int) -> bool:
    """Revoke one. @return: False if it is unknown or was revoked before."""
    done = tx.execute(
        "UPDATE certificate SET revoked_at = ?, reason = ? WHERE serial = ? AND revoked_at IS NULL",
        tx.now,
        reason,
        serial,
    )
    if done:
        _enlist(tx, serial)
    return bool(done)


def prune(tx: Transaction, after: int, ended_by: int) -> int:
    """
    Forget some certificates that ended by then and are not revoked alone, and whose Noise keys those were;
    a member's newest stays.

    @param after: look at the serials after this one.
    @return: where to go on the next time; 0 once the end was reached.
    """
    batch = "SELECT serial FROM certificate WHERE serial > ? ORDER BY serial LIMIT ?"
    (last, rows), *_ = tx.all(
        f"SELECT max(serial), count(*) FROM ({batch}) AS batch", after, limits.PRUNE_ROWS
    )
    if last is None:
        return 0
    # A Noise key is its node's for as long as a certificate with it could be believed, or is the newest.
    tx.execute(
        "DELETE FROM noise_key WHERE noise_key IN (SELECT noise_key FROM certificate"
        " WHERE serial > ? AND serial <= ? AND not_after <= ? AND revoked_at IS NULL)"
        " AND NOT EXISTS (SELECT 1 FROM certificate AS live WHERE live.node_id = noise_key.node_id"
        " AND live.not_after > ? AND live.noise_key = noise_key.noise_key)"
        " AND NOT EXISTS (SELECT 1 FROM node JOIN certificate AS newest ON newest.serial = node.serial"
        " WHERE node.node_id = noise_key.node_id AND newest.noise_key = noise_key.noise_key)",
        after,
        last,
        ended_by,
        ended_by,
    )
    tx.execute(
        "DELETE FROM certificate WHERE serial > ? AND serial <= ? AND not_after <= ? AND revoked_at IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM node"
        " WHERE node.node_id = certificate.node_id AND node.serial = certificate.serial)",
        after,
        last,
        ended_by,
    )
    # The end is where the rows end: new ones come all the time, and the first would never be reached again.
    return int(last) if rows == limits.PRUNE_ROWS else 0


def _enlist(tx: Transaction, serial: int) -> None:
    """Have the next CRL name it: what CRLs are made of has a narrow table of its own."""
    tx.execute(
        "INSERT INTO revoked_certificate (serial, not_after, reason)"
        " SELECT serial, not_after, reason FROM certificate WHERE serial = ?",
        serial,
    )


def unlisted(reader: Reader) -> bool:
    """Whether something is revoked that no CRL has named yet."""
    asked = "SELECT 1 FROM {} WHERE crl_number IS NULL LIMIT 1"
    return any(reader.one(asked.format(table)) for table in _LISTED)


def list_under(tx: Transaction, number: int, ended_after: int) -> None:
    """
    Forget what no CRL will name again, for it ended by C{ended_after}; and note on what none named yet
    the number of the first that does, so that deltas can be made.
    """
    tx.execute("DELETE FROM revoked_certificate WHERE not_after <= ?", ended_after)
    for table in _LISTED:
        tx.execute(f"UPDATE {table} SET crl_number = ? WHERE crl_number IS NULL", number)


def revoked_since(
    reader: Reader, ended_after: int, listed_after: int | None = None
) -> list[tuple[int, int, int]]:
    """
    (serial, not_after, reason) of what is revoked and ends after C{ended_after}, by serial.

    @param listed_after: only what CRLs after this number listed first; None for what none has listed too.
    """
    # The few of a delta are found by the number they were listed under: "+" keeps the order from choosing.
    listed, order = ("", "serial") if listed_after is None else (" AND crl_number > ?", "+serial")
    rows = reader.all(
        "SELECT serial, not_after, reason FROM revoked_certificate"
        f" WHERE not_after > ?{listed} ORDER BY {order}",
        ended_after,
        *(() if listed_after is None else (listed_after,)),
    )
    return [(row[0], row[1], row[2]) for row in rows]


def revoke_node(tx: Transaction, node_id: str, below_serial: int, not_after: int, reason: int) -> bool:
    """
    Revoke each certificate of a node with a lower serial, at the cost of one row.

    @param not_after: when the last of them ends; its CRL entry ends with the last that any of its rows says.
    @return: False if all of them were revoked so before.
    """
    held = tx.one("SELECT max(below_serial), max(not_after) FROM revoked_node WHERE node_id = ?", node_id)
    below, ends = (0, 0) if held is None or held[0] is None else held
    if below_serial <= below:
        return False
    tx.execute(
        "INSERT INTO revoked_node (node_id, below_serial, not_after, revoked_at, reason) VALUES (?,?,?,?,?)",
        node_id,
        below_serial,
        max(not_after, ends),
        tx.now,
        reason,
    )
    return True


def revoked_nodes(
    reader: Reader, ended_after: int, listed_after: int | None = None
) -> list[tuple[str, int, int, int]]:
    """
    (node_id, below_serial, not_after, reason) of nodes revoked that end after C{ended_after}, by node_id.

    @param listed_after: as of L{revoked_since}.
    """
    listed = "" if listed_after is None else " AND crl_number > ?"
    rows = reader.all(
        "SELECT node_id, below_serial, not_after, reason FROM revoked_node"
        f" WHERE not_after > ?{listed} ORDER BY node_id, below_serial",
        ended_after,
        *(() if listed_after is None else (listed_after,)),
    )
    highest = {row[0]: (row[0], row[1], row[2], row[3]) for row in rows}
    return list(highest.values())


def cut_off(reader: Reader, node_id: str, serial: int) -> bool:
    """Whether this certificate is revoked with its node, or its node's key is."""
    return reader.one(
        "SELECT 1 FROM revoked_node WHERE node_id = ? AND below_serial > ?", node_id, serial
    ) is not None or key_revoked(reader, node_id)


def revoke_key(tx: Transaction, key_id: str, not_after: int, reason: int) -> bool:
    """Refuse an identity key for ever; its CRL entry ends with C{not_after}."""
    return bool(
        tx.execute(
            "INSERT INTO revoked_key (key_id, not_after, revoked_at, reason)"
            " VALUES (?,?,?,?) ON CONFLICT DO NOTHING",
            key_id,
            not_after,
            tx.now,
            reason,
        )
    )


def key_revoked(reader: Reader, key_id: str) -> bool:
    """Whether this identity key was ever revoked."""
    return reader.one("SELECT 1 FROM revoked_key WHERE key_id = ?", key_id) is not None


def revoked_keys(reader: Reader, ended_after: int, listed_after: int | None = None) -> list[tuple[str, int]]:
    """(key_id, not_after) of revoked keys that a certificate could still name, by key_id."""
    listed = "" if listed_after is None else " AND crl_number > ?"
    rows = reader.all(
        f"SELECT key_id, not_after FROM revoked_key WHERE not_after > ?{listed} ORDER BY key_id",
        ended_after,
        *(() if listed_after is None else (listed_after,)),
    )
    return [(row[0], row[1]) for row in rows]
