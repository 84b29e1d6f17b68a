# SPDX-License-Identifier: MIT
"""
How many certificates a member gets, and when the one that it has is good enough.

A member in a loop gets few certificates: one in the first quarter of its life is replaced only for a
reason.  Reasons of the operators end with the new certificate: another name, roles, lifetime or admission,
another signing key, a restore.  A new Noise key is the member's own, so those are counted.  A node that
renews at half life is never refused, however short that is, and one that lost an answer gets the same again.
The numbers are C{RENEWALS_AN_HOUR} and C{LIVE_CERTIFICATES} of L{gmesh.authority.limits}.
Tests: C{tests/authority/test_renewal.py}.
"""

from __future__ import annotations

from gmesh.authority import limits
from gmesh.authority.issuer import DocumentIssuer, first_number
from gmesh.authority.rate_limit import RateLimited
from gmesh.authority.store import certificates, nodes
from gmesh.authority.store.certificates import CertificateRow
from gmesh.authority.store.transaction import Transaction
from gmesh.trust.documents import Certificate, parse_document
from gmesh.trust.verify import authority_keys

__all__ = ["fresh_enough"]

HOUR = 3600


def fresh_enough(
    tx: Transaction, issuer: DocumentIssuer, node: nodes.NodeRow, noise_key: str
) -> CertificateRow | None:
    """
    The newest certificate of a member, if it serves as well as a new one; None if a new one is due.

    Judged by stored rows alone: a restart forgets nothing.
    @param node: whose newest certificate is not revoked with it.
    @raise RateLimited: if it asks for too many.
    """
    row = certificates.get(tx, node.serial)
    if row is None or row.revoked_at is not None or row.node_id != node.node_id:
        return None
    document = parse_document(row.document, Certificate)
    body, signers = document.body, {name for name, _ in document.signatures}
    life = body.not_after - body.not_before
    due = body.not_before + life // limits.RENEWAL_FRESH
    if (
        tx.now >= due
        or row.serial <= first_number(tx)
        or (body.name, body.roles, life) != (node.name, node.roles, issuer.lifetime(tx, node.lifetime))
        or document.admission != issuer.admission(tx, node.name, node.node_key, node.roles)
        or signers.isdisjoint(authority_keys(issuer.newest_genesis(tx).body))
    ):
        return None
    if noise_key == body.noise_key:
        return row
    if issuer.signer_id(tx) in signers:
        _check_certificate_rate(tx, node.node_id, due)
    return None


def _check_certificate_rate(tx: Transaction, node_id: str, due: int) -> None:
    """@param due: when a new certificate is due in any case."""
    began = certificates.live(tx, node_id, tx.now, limits.LIVE_CERTIFICATES)
    lately = sorted(moment for moment in began if moment > tx.now - HOUR)
    if len(began) >= limits.LIVE_CERTIFICATES:
        free = due
    elif len(lately) >= limits.RENEWALS_AN_HOUR:
        free = min(due, lately[-limits.RENEWALS_AN_HOUR] + HOUR)
    else:
        return
    raise RateLimited(max(1, free - tx.now), "too many certificates for new Noise keys")
