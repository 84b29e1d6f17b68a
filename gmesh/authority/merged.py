# SPDX-License-Identifier: MIT
"""
What a CRL or a policy that nodes held changes in a restored database.

Tests: C{tests/authority/test_restored_nodes.py}, C{tests/authority/test_restore.py}.
"""

from __future__ import annotations

from collections.abc import Callable

from gmesh.authority.store import certificates, nodes, operators
from gmesh.authority.store.transaction import Transaction
from gmesh.trust.documents import Crl, Policy
from gmesh.trust.keys import decode_public, key_id
from gmesh.trust.limits import MAX_INTEGER

__all__ = ["follow_policy", "merge_crl"]


def _all(name: str) -> bool:
    return True


def merge_crl(
    tx: Transaction,
    crl: Crl,
    first: int,
    last_end: int = MAX_INTEGER,
    wanted: Callable[[str], bool] = _all,
) -> list[str]:
    """
    Revoke what a CRL names, but for serials above C{first}: none of them is given out yet.

    @param last_end: when any certificate has ended; entries that say later end then, and leave our CRLs.
    @param wanted: whether to take in an entry that would be listed by this name.
    @return: what was not revoked before: names of nodes, and serials and key_ids where none is known.
    """
    done = []
    for serial, not_after, reason in crl.revoked:
        row = certificates.get(tx, serial)
        title = row.name if row is not None and row.name else f"serial {serial}"
        if (row is not None and row.revoked_at is not None) or not wanted(title):
            continue
        if row is not None:
            if certificates.revoke(tx, serial, reason):
                done.append(title)
        elif serial <= first:
            end = min(not_after, last_end)
            certificates.add(tx, certificates.unknown_revoked(serial, end, tx.now, reason))
            done.append(title)
    for name, below, not_after, reason in crl.revoked_nodes:
        node = nodes.by_id(tx, name)
        title = f"node {name}" if node is None else node.name
        if not wanted(title):
            continue
        end = max(min(not_after, last_end), certificates.last_end(tx, name))
        if certificates.revoke_node(tx, name, min(below, first), end, reason):
            done.append(title)
        if node is not None and node.serial < below:
            nodes.bar(tx, name)
    for name, not_after in crl.revoked_keys:
        node = nodes.by_id(tx, name)
        title = f"key {name}" if node is None else f"key of {node.name}"
        if certificates.key_revoked(tx, name) or not wanted(title):
            continue
        nodes.bar(tx, name)
        end = max(min(not_after, last_end), certificates.last_end(tx, name))
        if certificates.revoke_key(tx, name, end, 1):
            done.append(title)
    return done


def follow_policy(tx: Transaction, policy: Policy) -> None:
    """Make the operators those that C{policy} names, and no others."""
    wanted = {key_id(decode_public(operator.key)): operator for operator in policy.operators}
    for row in operators.everyone(tx):
        if row.key_id not in wanted or wanted[row.key_id].role != row.role:
            operators.forget(tx, row.key_id)
    for name, operator in wanted.items():
        operators.forget_revoked(tx, name)
        operators.add(
            tx, operators.OperatorRow(name, operator.key, operator.role, "restored", tx.now, "restore")
        )
