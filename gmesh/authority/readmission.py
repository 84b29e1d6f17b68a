# SPDX-License-Identifier: MIT
"""
What vouches for a certificate that is not in the database: after a restore almost none is.

Three things do.  A key of the newest genesis signed it; not where the authority knows what it gave out
under that serial.  Or its digest stands in an audit that nodes or the operator bear out (a serial is not
enough: a thief would bring other roles).  Or an operator approved it, who is asked about what an audit
names by serial and node alone.  A key that was dropped vouches for nothing.
Tests: C{tests/authority/test_lost_days.py}, C{tests/authority/test_second_door.py}.
"""

from __future__ import annotations

from enum import Enum

from gmesh.authority import audit
from gmesh.authority.audit import certificate_digest
from gmesh.authority.auth import Caller
from gmesh.authority.issuer import DocumentIssuer, first_number
from gmesh.authority.store import documents, lost_certificates, nodes, readmissions
from gmesh.authority.store.readmissions import ReadmissionRow
from gmesh.authority.store.transaction import SERIALS_PER_EPOCH, Reader, Transaction
from gmesh.errors import AdmissionRefused, DocumentRefused
from gmesh.trust.documents import Certificate, Document, Genesis, parse_document
from gmesh.trust.verify import authority_keys, verify_signatures

__all__ = ["Grounds", "UnknownCertificate", "approved", "grounds", "issued_mark", "rejoined"]


class UnknownCertificate(AdmissionRefused):
    """No certificate of this serial is known, nor does anything vouch for this one."""

    def __init__(self) -> None:
        super().__init__(
            "unknown-certificate",
            "this authority did not issue that certificate, or with a key that was dropped since: join again",
        )


class Grounds(Enum):
    """Why a certificate is taken in; the audit row says it."""

    KEY = "key"
    AUDIT = "audit"
    OPERATOR = "operator"


def issued_mark(epoch: int) -> str:
    """The mark that says how many serials of an epoch have a row, in the database or in an audit."""
    return f"issued-{epoch}"


def grounds(
    tx: Transaction, issuer: DocumentIssuer, certificate: Document[Certificate], node_id: str
) -> Grounds:
    """
    What vouches for a certificate of this node; C{OPERATOR} may still have to be asked, L{approved}.

    @raise UnknownCertificate: if nothing does.
    """
    body = certificate.body
    if body.serial >= first_number(tx) or body.network_id != issuer.network_id:
        raise UnknownCertificate()
    told = lost_certificates.get(tx, body.serial, node_id, body.name)
    if certificate_digest(certificate.encode()) in told:
        return Grounds.AUDIT
    if not _accounted_for(tx, body.serial):
        try:
            verify_signatures(certificate, authority_keys(issuer.newest_genesis(tx).body))
            return Grounds.KEY
        except DocumentRefused as error:
            if None not in told:
                raise UnknownCertificate() from error
    if None in told and _signed_once(tx, certificate):
        return Grounds.OPERATOR
    raise UnknownCertificate()


def _accounted_for(reader: Reader, serial: int) -> bool:
    """Whether it is known what was given out under this serial."""
    epoch, number = divmod(serial, SERIALS_PER_EPOCH)
    return number <= (reader.mark(issued_mark(epoch)) or 0)


def _signed_once(reader: Reader, certificate: Document[Certificate]) -> bool:
    """Whether a key signed it that this network's authority had at some time."""
    ever: dict[str, bytes] = {}
    for encoded in documents.genesis_chain(reader):
        ever |= authority_keys(parse_document(encoded, Genesis).body)
    try:
        verify_signatures(certificate, ever)
    except DocumentRefused:
        return False
    return True


def rejoined(reader: Reader, node_id: str, serial: int) -> bool:
    """Whether an audit tells of a later join of this node, whose certificate counts and not this one."""
    return lost_certificates.joined_since(reader, node_id, serial)


def approved(tx: Transaction, caller: Caller, certificate: Document[Certificate]) -> bool:
    """
    Whether an operator let this certificate in; the first one that a node shows waits for that.

    @raise AdmissionRefused: C{enrolment-refused}, if it was rejected.
    """
    body = certificate.body
    id = certificate_digest(certificate.encode())[:32]
    row = readmissions.of_node(tx, caller.key_id)
    if row is not None and row.id == id and row.state != "pending":
        if row.state == "rejected":
            raise AdmissionRefused("enrolment-refused", "an operator rejected this certificate: join again")
        return True
    if row is None or row.state != "pending":
        request = ReadmissionRow(
            id,
            caller.key_id,
            body.name,
            nodes.roles_text(body.roles),
            body.node_key,
            body.noise_key,
            body.serial,
            tx.now,
        )
        readmissions.put(tx, request)
        audit.record(
            tx,
            caller.key_id,
            "request-readmission",
            body.name,
            request_id=caller.request_id,
            serial=body.serial,
            roles=list(body.roles),
        )
    return False
