# SPDX-License-Identifier: MIT
"""
Renewals: many at once, how many certificates a member gets, and when the one that it has is good enough.

After an outage all members renew within seconds: those against which no row speaks are decided together.

A member in a loop gets few certificates: one in the first quarter of its life is replaced only for a
reason.  Reasons of the operators end with the new certificate: another name, roles, lifetime or admission,
another signing key, a restore.  A new Noise key is the member's own, so those are counted.  A node that
renews at half life is never refused, however short that is, and one that lost an answer gets the same again.
The numbers are C{RENEWALS_AN_HOUR} and C{LIVE_CERTIFICATES} of L{gmesh.authority.limits}.
Tests: C{tests/authority/test_renewal.py}, C{tests/authority/test_renewals_together.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gmesh.authority import audit, limits
from gmesh.authority.auth import Caller
from gmesh.authority.issuer import DocumentIssuer, Wanted, first_number
from gmesh.authority.rate_limit import RateLimited
from gmesh.authority.store import certificates, nodes, nonces, renewals
from gmesh.authority.store.certificates import CertificateRow
from gmesh.authority.store.renewals import RenewFacts
from gmesh.authority.store.transaction import Transaction
from gmesh.trust.documents import Certificate, Document, parse_document
from gmesh.trust.verify import authority_keys

__all__ = ["Renewal", "RenewItem", "Renewals", "fresh_enough"]

HOUR = 3600
Renewal = tuple[bytes, bool]
"""A certificate in file form, and whether it was made now."""


@dataclass(frozen=True, slots=True)
class RenewItem:
    """A member that presents this certificate and wants one for this Noise key."""

    caller: Caller
    certificate: Document[Certificate]
    noise_key: str


class Renewals:
    """
    Decides on those that come together.

    @param alone: decides on one of which more must be asked; None while an operator must look.
    """

    ordered: bool = False

    def __init__(
        self, issuer: DocumentIssuer, alone: Callable[[Transaction, RenewItem], Renewal | None]
    ) -> None:
        self._issuer = issuer
        self._alone = alone

    def one(self, tx: Transaction, item: RenewItem) -> Renewal | None:
        """Renew or refuse."""
        return self._alone(tx, item)

    def many(self, tx: Transaction, items: Sequence[RenewItem]) -> list[Renewal | None]:
        """Renew those whose newest certificate is not fresh any more, and against whom nothing speaks."""
        answers: list[Renewal | None] = [None] * len(items)
        if self._issuer.newest_genesis(tx).body.admission is not None:
            return answers
        oldest = tx.now - self._issuer.grace(tx)
        asked = [(item.certificate.body.serial, item.caller.key_id, item.noise_key) for item in items]
        plain: dict[int, tuple[RenewItem, nodes.NodeRow]] = {}
        taken: set[str] = set()
        for place, found in enumerate(renewals.lookup(tx, asked)):
            names = set(asked[place][1:])
            if found is not None and taken.isdisjoint(names) and _plain(tx, items[place], found, oldest):
                taken |= names
                plain[place] = items[place], found.node
        if plain:
            signed = [item.caller.signed for item, _ in plain.values()]
            nonces.claim(tx, *((each.keyid, each.nonce, each.created) for each in signed))
            for place, row in zip(plain, self.issue(tx, list(plain.values())), strict=True):
                answers[place] = row.document, True
        return answers

    def issue(
        self, tx: Transaction, renewed: Sequence[tuple[RenewItem, nodes.NodeRow]]
    ) -> list[CertificateRow]:
        """Certificates for those who were found to be entitled, each with an audit row."""
        wanted = [
            Wanted(node.name, node.node_id, node.node_key, item.noise_key, node.roles, node.lifetime)
            for item, node in renewed
        ]
        rows = self._issuer.certificates(tx, wanted)
        renewals.write(tx, [(node, row) for (_, node), row in zip(renewed, rows, strict=True)])
        for (item, node), row in zip(renewed, rows, strict=True):
            audit.record(
                tx,
                node.node_id,
                "renew",
                node.name,
                request_id=item.caller.request_id,
                serial=row.serial,
                previous=item.certificate.body.serial,
                certificate=audit.certificate_digest(row.document),
            )
        return rows


def _plain(tx: Transaction, item: RenewItem, found: RenewFacts, oldest: int) -> bool:
    """@param oldest: what ended before is not renewed."""
    return (
        found.node_id == found.node.node_id
        and found.document == item.certificate.encode()
        and found.revoked_at is None
        and not found.cut_off
        and not found.rejoined
        and found.not_after >= oldest
        and found.noise_key_owner in (None, found.node_id)
        and found.began is not None
        and found.ends is not None
        and (tx.now >= _due(found.began, found.ends - found.began) or found.node.serial <= first_number(tx))
    )


def _due(began: int, life: int) -> int:
    """From when on a certificate is replaced for the asking."""
    return began + life // limits.RENEWAL_FRESH


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
    due = _due(body.not_before, life)
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
