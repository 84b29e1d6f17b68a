# SPDX-License-Identifier: MIT
"""
Whether a node may be a member, where the genesis asks a second key: the authority's alone admits nobody then.

An admission names a node's key, its name and its roles at most, once for all its certificates.
Tests: C{tests/trust/test_admission.py}.
"""

from __future__ import annotations

from collections.abc import Sequence

from gmesh.errors import DocumentRefused
from gmesh.trust.documents import Admission, Certificate, Document, Genesis
from gmesh.trust.limits import CERTIFICATE_LEEWAY, MAX_INTEGER
from gmesh.trust.verify import admission_keys, verify_signatures

__all__ = ["admission_end", "admitted_until", "check_covers", "verify_admission"]


def admitted_until(certificate: Document[Certificate], genesis: Genesis, network: str, now: float) -> int:
    """
    Until when this certificate may count as far as admission goes; it must be asked again then.

    @raise DocumentRefused: C{not-admitted}, if that has passed.
    """
    if genesis.admission is None:
        return MAX_INTEGER
    until, fault = genesis.admission.required_from, "its admission has ended"
    try:
        until = max(until, admission_end(certificate, genesis, network) + CERTIFICATE_LEEWAY)
    except DocumentRefused as error:
        fault = error.detail
    if now > until:
        raise DocumentRefused(
            "not-admitted", f"the certificate of {certificate.body.name} does not count: {fault}"
        )
    return until


def admission_end(certificate: Document[Certificate], genesis: Genesis, network: str) -> int:
    """
    When the admission beside a certificate ends.

    @raise DocumentRefused: if there is none that is good for this certificate.
    """
    admission, body = certificate.admission, certificate.body
    if admission is None:
        raise DocumentRefused("not-admitted", "it has no admission")
    verify_admission(admission, genesis, network)
    check_covers(admission.body, body.name, body.node_key, body.roles)
    return admission.body.not_after


def verify_admission(admission: Document[Admission], genesis: Genesis, network: str) -> None:
    """
    Check network and signature.

    @raise DocumentRefused: C{wrong-network}; C{unknown-key}, if the genesis names none of its signers;
        C{bad-signature}.
    """
    if admission.body.network_id != network:
        raise DocumentRefused("wrong-network", "the admission belongs to another network")
    verify_signatures(admission, admission_keys(genesis))


def check_covers(admission: Admission, name: str, node_key: str, roles: Sequence[str]) -> None:
    """@raise DocumentRefused: C{not-admitted}, unless it admits this node, so named, with these roles."""
    if (admission.name, admission.node_key) != (name, node_key):
        raise DocumentRefused("not-admitted", "its admission is for another name or node key")
    more = sorted(set(roles) - set(admission.roles))
    if more:
        raise DocumentRefused("not-admitted", f"its admission does not allow {', '.join(more)}")
