# SPDX-License-Identifier: MIT
"""
Admissions as operators bring them: who needs one, and what the holder of an admission key has signed.

The authority keeps them and puts them beside the certificates that it issues; it cannot make one.
Tests: C{tests/authority/test_admissions.py}.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta
from twisted.internet.defer import Deferred

from gmesh.authority import audit, limits
from gmesh.authority.auth import Caller, RequestBody
from gmesh.authority.issuer import DocumentIssuer
from gmesh.authority.store import admissions
from gmesh.authority.store.transaction import Reader, Transaction
from gmesh.authority.store.writer import Store
from gmesh.errors import DocumentRefused, RequestRefused
from gmesh.trust.admission import verify_admission
from gmesh.trust.documents import Admission, document_from_dict

__all__ = ["Admissions", "AdmissionsBody"]

Json = dict[str, Any]


class AdmissionsBody(RequestBody, frozen=True):
    """C{POST /admin/admissions}: admissions in file form."""

    admissions: Annotated[
        tuple[dict[str, Any], ...], Meta(min_length=1, max_length=limits.ADMISSIONS_AT_ONCE)
    ]


class Admissions:
    """The use cases of operators who carry requests to an admission key, and admissions back."""

    def __init__(self, store: Store, issuer: DocumentIssuer) -> None:
        self._store = store
        self._issuer = issuer

    def page(self, after: str, limit: int) -> Deferred[Json]:
        """A page of members and of hosts that ask to be one, and until when each is admitted as it is."""

        def page(reader: Reader) -> Json:
            rows = admissions.page(reader, after, limit)
            listed = []
            for node_key, name, roles in rows:
                held = self._issuer.admission(reader, name, node_key, roles)
                until = None if held is None else held.body.not_after
                listed.append(
                    {"node_key": node_key, "name": name, "roles": list(roles), "admitted_until": until}
                )
            return {"admissions": listed, "next": rows[-1][0] if len(rows) == limit else None}

        return self._store.read(page)

    def take(self, caller: Caller, body: AdmissionsBody) -> Deferred[Json]:
        """
        Keep admissions, all or none; each in the place of an earlier one for its node key.

        @raise RequestRefused: C{invalid-field}, for one that nodes would refuse.
        """
        documents = [document_from_dict(value, Admission) for value in body.admissions]

        def take(tx: Transaction) -> Json:
            caller.claim(tx)
            genesis = self._issuer.newest_genesis(tx).body
            for document in documents:
                admitted = document.body
                try:
                    verify_admission(document, genesis, self._issuer.network_id)
                except DocumentRefused as error:
                    raise RequestRefused("invalid-field", f"{admitted.name}: {error.detail}") from error
                if admitted.not_after <= tx.now:
                    raise RequestRefused("invalid-field", f"{admitted.name}: this admission has ended")
                admissions.put(tx, admitted.node_key, document.encode())
                audit.record(
                    tx,
                    caller.key_id,
                    "admit",
                    admitted.name,
                    request_id=caller.request_id,
                    node_key=admitted.node_key,
                    roles=list(admitted.roles),
                    not_after=admitted.not_after,
                )
            return {"admitted": [document.body.name for document in documents]}

        return self._store.decide(take)
