# SPDX-License-Identifier: MIT
"""
The newest of everything that daemons of one database follow each other in, in one question.

Tests: C{tests/authority/test_follow.py}.
"""

from __future__ import annotations

import msgspec

from gmesh.authority.store.identity import OLDER_MARK
from gmesh.authority.store.transaction import Reader

__all__ = ["Newest", "newest"]

_ASKED = (
    "SELECT (SELECT coalesce(max(version), 0) FROM genesis),"
    " (SELECT coalesce(max(version), 0) FROM policy),"
    " (SELECT coalesce(max(number), 0) FROM crl),"
    " (SELECT coalesce(max(number), 0) FROM status),"
    " (SELECT coalesce(max(number), 0) FROM command),"
    " (SELECT coalesce(max(seq), 0) FROM audit),"
    " (SELECT hash FROM audit WHERE seq = ?),"
    " (SELECT rules FROM approval_rules),"
    " EXISTS (SELECT 1 FROM revoked_certificate WHERE crl_number IS NULL)"
    " OR EXISTS (SELECT 1 FROM revoked_node WHERE crl_number IS NULL)"
    " OR EXISTS (SELECT 1 FROM revoked_key WHERE crl_number IS NULL),"
    " (SELECT value FROM meta WHERE name = 'another_history_at'),"
    f" (SELECT value FROM meta WHERE name = '{OLDER_MARK}')"
)


class Newest(msgspec.Struct, frozen=True):
    """
    What the database holds; each number is 0 where there is nothing.

    @ivar audit: the number of the newest row.
    @ivar known: the hash of the row that was asked for; None if it is not there.
    @ivar rules: of approval, canonical JSON.
    @ivar owed: whether something is revoked that no CRL names yet.
    @ivar another: whether it was found to be one of two with the same key.
    @ivar older: whether a daemon found that it lacks what was seen.
    """

    genesis: int
    policy: int
    crl: int
    status: int
    command: int
    audit: int
    known: bytes | None
    rules: bytes | None
    owed: bool
    another: bool
    older: bool


def newest(reader: Reader, seq: int) -> Newest:
    """@param seq: the audit row whose hash is asked for."""
    (found,) = reader.all(_ASKED, seq)
    *values, owed, another, older = found
    return Newest(*[*values, bool(owed), bool(another), bool(older)])
