# SPDX-License-Identifier: MIT
"""
The documents the authority published, in file form: genesis chain, policies, CRLs, the newest status.

Tests: C{tests/authority/test_published.py}.
"""

from __future__ import annotations

from gmesh.authority.store.transaction import Reader, Transaction

__all__ = [
    "add_crl",
    "add_genesis",
    "add_policy",
    "crl_cut",
    "genesis_chain",
    "newest_crl",
    "newest_crl_mark",
    "newest_policy",
    "newest_status",
    "newest_versions",
    "policies",
    "policy",
    "put_status",
]


def genesis_chain(reader: Reader) -> list[bytes]:
    """Every genesis version, ascending."""
    return [row[0] for row in reader.all("SELECT document FROM genesis ORDER BY version")]


def newest_versions(reader: Reader) -> tuple[int, int]:
    """Of the genesis and of the policy; 0 where there is none."""
    if reader.versions is None:
        row = reader.one(
            "SELECT (SELECT coalesce(max(version), 0) FROM genesis),"
            " (SELECT coalesce(max(version), 0) FROM policy)"
        )
        reader.versions = (0, 0) if row is None else (row[0], row[1])
    return reader.versions


def add_genesis(tx: Transaction, version: int, document: bytes) -> bool:
    """Insert. @return: False if that version is there."""
    tx.versions = None
    return bool(
        tx.execute(
            "INSERT INTO genesis (version, document, added_at) VALUES (?,?,?) ON CONFLICT DO NOTHING",
            version,
            document,
            tx.now,
        )
    )


def newest_policy(reader: Reader) -> bytes | None:
    """The policy in force."""
    document: bytes | None = reader.value("SELECT document FROM policy ORDER BY version DESC LIMIT 1")
    return document


def policy(reader: Reader, version: int) -> bytes | None:
    """An earlier policy."""
    document: bytes | None = reader.value("SELECT document FROM policy WHERE version = ?", version)
    return document


def policies(reader: Reader, before: int, limit: int) -> list[tuple[int, int, str]]:
    """(version, issued_at, published_by), newest first, below C{before}."""
    return [
        (row[0], row[1], row[2])
        for row in reader.all(
            "SELECT version, issued_at, published_by FROM policy"
            " WHERE version < ? ORDER BY version DESC LIMIT ?",
            before,
            limit,
        )
    ]


def add_policy(tx: Transaction, version: int, document: bytes, published_by: str) -> None:
    """Insert."""
    tx.versions = None
    tx.execute(
        "INSERT INTO policy (version, document, issued_at, published_by) VALUES (?,?,?,?)",
        version,
        document,
        tx.now,
        published_by,
    )


def newest_crl(reader: Reader) -> bytes | None:
    """The CRL in force."""
    document: bytes | None = reader.value("SELECT document FROM crl ORDER BY number DESC LIMIT 1")
    return document


def newest_crl_mark(reader: Reader) -> tuple[int, int] | None:
    """(number, ended_after) of the CRL in force: it lists what ends after C{ended_after}."""
    row = reader.one("SELECT number, ended_after FROM crl ORDER BY number DESC LIMIT 1")
    return None if row is None else (row[0], row[1])


def crl_cut(reader: Reader) -> int:
    """The newest C{ended_after}; it never goes back, or deltas would lack what came back."""
    mark = newest_crl_mark(reader)
    return 0 if mark is None else mark[1]


def add_crl(tx: Transaction, number: int, document: bytes, ended_after: int) -> None:
    """Replace the CRL; deltas are made from the rows that carry the number they were first listed under."""
    tx.execute("DELETE FROM crl")
    tx.execute(
        "INSERT INTO crl (number, document, issued_at, ended_after) VALUES (?,?,?,?)",
        number,
        document,
        tx.now,
        ended_after,
    )


def newest_status(reader: Reader) -> bytes | None:
    """The status last issued."""
    document: bytes | None = reader.value("SELECT document FROM status ORDER BY number DESC LIMIT 1")
    return document


def put_status(tx: Transaction, number: int, document: bytes) -> None:
    """Replace the status."""
    tx.execute("DELETE FROM status")
    tx.execute("INSERT INTO status (number, document, issued_at) VALUES (?,?,?)", number, document, tx.now)
