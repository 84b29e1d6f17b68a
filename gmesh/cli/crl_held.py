# SPDX-License-Identifier: MIT
"""
Whether a node holds the very CRL that an operator waits for, and not another of that number.

After an older authority was put back, or beside a second one, numbers alone say nothing.
Tests: C{tests/cli/test_admin_requests.py}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gmesh.cli.operator import OperatorClient
from gmesh.trust.documents import Status, parse_document

__all__ = ["CrlHeld"]

LOOK_SPACING = 1.0
"""Seconds between two questions for the status: a new one is signed about as often."""


class CrlHeld:
    """
    Judges what nodes report.

    @param number: of the CRL.
    @param digest: its digest; None from an authority that does not tell it, and then numbers count.
    """

    def __init__(self, operator: OperatorClient, number: int, digest: str | None) -> None:
        self._operator = operator
        self._number = number
        self._digests = {} if digest is None else {number: digest}
        self._looked_at = float("-inf")

    def holds(self, row: Mapping[str, Any]) -> bool:
        """
        Whether a row of C{/admin/nodes} reports this CRL, or a later one that the authority signed.

        @raise DocumentRefused: if what the authority shows as its status is not to be believed.
        """
        numbers = row.get("numbers") or {}
        number, digest = numbers.get("crl"), numbers.get("crl_digest")
        if not isinstance(number, int) or number < self._number:
            return False
        if not self._digests:
            return True
        if not isinstance(digest, str):
            return False
        if number not in self._digests:
            self._look()
        return self._digests.get(number) == digest

    def _look(self) -> None:
        """The CRL that is in force by now; once a second, whatever nodes report."""
        now = self._operator.authority.wall()
        if abs(now - self._looked_at) < LOOK_SPACING:
            return
        self._looked_at = now
        status = parse_document(self._operator.authority.get("/status"), Status)
        trust = self._operator.trust
        trust.offer(status, now)
        if trust.status is not None:
            crl = trust.status.body.crl
            self._digests.setdefault(crl.number, crl.digest)
