# SPDX-License-Identifier: MIT
"""
Certificates by serial, and what of them is revoked.

Tests: C{tests/authority/test_members.py}, C{tests/authority/test_revocations.py}.
"""

from __future__ import annotations

import msgspec

from gmesh.authority.store.transaction import Reader, Transaction

__all__ = [
    "CertificateRow",
    "add",
    "get",
    "key_revoked",
    "last_end",
    "list_under",
    "live",
    "page",
    "revocable",
    "revoke",
    "revoke_key",
    "revoke_node",
    "revoked_keys",
    "revoked_since",
    "unknown_revoked",
    "unlisted",
]

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
    """Certificates by serial, from the one after C{after}; one whose key is revoked counts as revoked."""
    rows = reader.all(
        "SELECT c.serial, name, node_id, noise_key, document, not_before, c.not_after,"
        " coalesce(c.revoked_at, k.revoked_at), coalesce(c.reason, k.reason)"
        " FROM certificate AS c LEFT JOIN revoked_key AS k ON k.key_id = c.node_id"
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


def revocable(reader: Reader, node_id: str, ended_after: int, limit: int) -> list[int]:
    """Serials of a node that are not revoked and whose end lies after C{ended_after}, at most C{limit}."""
    rows = reader.all(
        "SELECT serial FROM certificate WHERE node_id = ? AND not_after > ? AND revoked_at IS NULL LIMIT ?",
        node_id,
        ended_after,
        limit,
    )
    return sorted(row[0] for row in rows)


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


def revoke_node(tx: Transaction, node_id: str, ended_after: int, reason: int) -> None:
    """Revoke all that L{revocable} finds, however many: one statement for the list, one for the rows."""
    tx.execute(
        "INSERT INTO revoked_certificate (serial, not_after, reason) SELECT serial, not_after, ?"
        " FROM certificate WHERE node_id = ? AND not_after > ? AND revoked_at IS NULL",
        reason,
        node_id,
        ended_after,
    )
    tx.execute(
        "UPDATE certificate SET revoked_at = ?, reason = ?"
        " WHERE node_id = ? AND not_after > ? AND revoked_at IS NULL",
        tx.now,
        reason,
        node_id,
        ended_after,
    )


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
    return any(reader.one(asked.format(table)) for table in ("revoked_certificate", "revoked_key"))


def list_under(tx: Transaction, number: int, ended_after: int) -> None:
    """
    Forget what no CRL will name again, for it ended by C{ended_after}; and note on what none named yet
    the number of the first that does, so that deltas can be made.
    """
    tx.execute("DELETE FROM revoked_certificate WHERE not_after <= ?", ended_after)
    for table in ("revoked_certificate", "revoked_key"):
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
