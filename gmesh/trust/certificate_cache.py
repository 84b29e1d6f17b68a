# SPDX-License-Identifier: MIT
"""
Certificates already found good under one genesis, so that each signature is verified once.

An entry names the signatures and the admission as well as what is signed, for a certificate that is passed on
must convince others too.  It says nothing of validity and revocation, which are asked each time.
Tests: C{tests/trust/test_state.py}.
"""

from __future__ import annotations

from dataclasses import dataclass

from gmesh.trust.admission import admitted_until
from gmesh.trust.documents import Admission, Certificate, Document, Genesis
from gmesh.trust.limits import CERTIFICATE_LEEWAY, MAX_KNOWN_CERTIFICATES
from gmesh.trust.verify import authority_keys, check_certificate, check_validity

__all__ = ["KnownCertificate", "CertificateCache"]


_Question = tuple[str, tuple[tuple[str, bytes], ...], Document[Admission] | None]


@dataclass(frozen=True, slots=True)
class KnownCertificate:
    """
    @ivar node_id: the certified node.
    @ivar until: when the last authority key that signed it ends, or its admission.
    """

    node_id: str
    until: int


class CertificateCache:
    """What was found under one genesis; a new genesis needs a new one."""

    def __init__(self, genesis: Genesis, network_id: str) -> None:
        self._genesis = genesis
        self._network_id = network_id
        self._ends = dict(
            zip(authority_keys(genesis), (entry.valid_to for entry in genesis.authority), strict=True)
        )
        self._good: dict[_Question, KnownCertificate] = {}

    def judge(self, document: Document[Certificate], now: float) -> KnownCertificate:
        """
        Network, signature, key, validity and admission of a certificate.

        @raise DocumentRefused: as L{gmesh.trust.verify.check_certificate} and L{admitted_until}.
        """
        question = (document.digest, document.signatures, document.admission)
        verdict = self._good.get(question)
        if verdict is not None and now <= verdict.until:
            check_validity(document.body, now)
            return verdict
        signers = check_certificate(document, self._genesis, self._network_id, now)
        end = max(self._ends[signer] for signer in signers) + CERTIFICATE_LEEWAY
        end = min(end, admitted_until(document, self._genesis, self._network_id, now))
        if len(self._good) >= MAX_KNOWN_CERTIFICATES:
            self._good.clear()
        verdict = self._good[question] = KnownCertificate(document.body.node_id, end)
        return verdict
