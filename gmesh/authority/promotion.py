# SPDX-License-Identifier: MIT
"""
After a standby took over that the server before had not waited for: what was acknowledged last may be lost.

Nothing here tells what it was.  So numbers begin anew above all that can have been given out, members whose
certificates were lost come back by the door of L{gmesh.authority.readmission}, and what could have been used
up since is withdrawn, as after L{gmesh.authority.restore}.
Tests: C{tests/authority/test_identity.py}.
"""

from __future__ import annotations

from gmesh.authority import audit
from gmesh.authority.issuer import DocumentIssuer, epoch, policy_text
from gmesh.authority.readmission import issued_mark
from gmesh.authority.store import invites
from gmesh.authority.store.approvals import forget_all as end_proposals
from gmesh.authority.store.history import begin_instance
from gmesh.authority.store.transaction import Transaction
from gmesh.trust.documents import Crl, Document, Policy

__all__ = ["begin_epoch"]


def begin_epoch(tx: Transaction, issuer: DocumentIssuer) -> tuple[Document[Policy], Document[Crl]]:
    """Raise the epoch by one, before anything else is decided. @return: what is in force from now on."""
    before = epoch(tx)
    policy = issuer.in_force(tx)
    tx.set_mark(issued_mark(before), max(tx.mark(issued_mark(before)) or 0, tx.marks.counters["serial"]))
    tx.set_mark("epoch", before + 1)
    tx.set_mark("numbers_from", 0)
    tx.set_mark("restored_at", tx.now)
    tx.restart_counters()
    begin_instance(tx)
    withdrawn = invites.withdraw_all(tx)
    end_proposals(tx)
    policy = issuer.next_policy(tx, policy_text(policy), "authority")
    audit.record(
        tx, "authority", "promotion", str(before + 1), previous_epoch=before, invites_withdrawn=withdrawn
    )
    return policy, issuer.crl_again(tx)
