# SPDX-License-Identifier: MIT
"""
Makes and signs what the authority publishes, inside the transaction that decides it.

Runs in the database thread, and goes by the genesis and policy as the transaction finds them; those of
the last commit are kept parsed.
Tests: C{tests/authority/test_enrolment.py}, C{tests/authority/test_revocations.py}.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from gmesh.authority import limits
from gmesh.authority.signer import KeyRing
from gmesh.authority.store import admissions, certificates, commands, documents, operators
from gmesh.authority.store.enrolment import CurrentHolder
from gmesh.authority.store.history import check_history, instance
from gmesh.authority.store.newest import Newest, newest
from gmesh.authority.store.nodes import NodeRow
from gmesh.authority.store.transaction import SERIALS_PER_EPOCH, Reader, Transaction
from gmesh.errors import DocumentRefused, StoreError
from gmesh.interfaces import ISigner
from gmesh.trust.admission import check_covers, verify_admission
from gmesh.trust.body_policy import POLICY_TEXT_FIELDS
from gmesh.trust.documents import (
    Admission,
    AuditHead,
    Certificate,
    CertificateLife,
    Command,
    Crl,
    CrlDelta,
    Document,
    Genesis,
    NumberedDigest,
    Policy,
    SignatureEntry,
    Status,
    VersionedDigest,
    add_signature,
    encoded_digest,
    parse_document,
    sign_document,
    sign_documents,
)
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.json_rows import collector_paused
from gmesh.trust.limits import CERTIFICATE_LEEWAY, DOCUMENT_LIMITS, MAX_INTEGER
from gmesh.trust.names import human_error

__all__ = [
    "DocumentIssuer",
    "POLICY_SECONDS",
    "PolicyText",
    "Wanted",
    "clock_is_behind",
    "entries",
    "epoch",
    "first_number",
    "names_newest",
    "newest_command",
    "policy_text",
]

POLICY_SECONDS = 90 * 86_400
NO_COMMAND = "0" * 64
PolicyText = dict[str, Any]


def policy_text(policy: Document[Policy]) -> PolicyText:
    """What people write of a policy: all but type, network, version, times and operators."""
    return {name: policy.signed[name] for name in POLICY_TEXT_FIELDS if name in policy.signed}


class Wanted(msgspec.Struct, frozen=True):
    """
    What a certificate will say.

    @ivar lifetime: seconds, None for the policy's default.
    """

    name: str
    node_id: str
    node_key: str
    noise_key: str
    roles: tuple[str, ...]
    lifetime: int | None


class DocumentIssuer:
    """
    Makes and signs documents with the authority's keys.

    @ivar genesis: the newest genesis, as of the last commit.
    @ivar policy: the policy in force, as of the last commit.
    """

    policy: Document[Policy]

    def __init__(self, keys: KeyRing, network_id: str, genesis: Document[Genesis]) -> None:
        self.keys = keys
        self.network_id = network_id
        self.genesis = genesis

    def newest_genesis(self, reader: Reader) -> Document[Genesis]:
        """The newest genesis as this very transaction sees it."""
        if documents.newest_versions(reader)[0] == self.genesis.body.version:
            return self.genesis
        return parse_document(documents.genesis_chain(reader)[-1], Genesis)

    def certificates(self, tx: Transaction, wanted: Sequence[Wanted]) -> list[certificates.CertificateRow]:
        """New certificates, to be stored, each with what admits its node."""
        signer, life = self._signer(tx), self.in_force(tx).body.certificate
        bodies = [
            Certificate(
                network_id=self.network_id,
                serial=tx.next_number("serial"),
                name=each.name,
                node_key=each.node_key,
                noise_key=each.noise_key,
                roles=each.roles,
                not_before=tx.now,
                not_after=tx.now + _within(life, each.lifetime),
                issued_at=tx.now,
            )
            for each in wanted
        ]
        signed = sign_documents(bodies, [signer])
        if self.newest_genesis(tx).body.admission is not None:
            signed = [
                document.with_admission(self.admission(tx, each.name, each.node_key, each.roles))
                for each, document in zip(wanted, signed, strict=True)
            ]
        return [
            certificates.CertificateRow(
                body.serial,
                body.name,
                each.node_id,
                body.noise_key,
                document.encode(),
                body.not_before,
                body.not_after,
            )
            for each, body, document in zip(wanted, bodies, signed, strict=True)
        ]

    def admission(
        self, reader: Reader, name: str, node_key: str, roles: Sequence[str]
    ) -> Document[Admission] | None:
        """What admits this node, so named, with these roles; None if there is none to be believed."""
        genesis = self.newest_genesis(reader).body
        encoded = None if genesis.admission is None else admissions.get(reader, node_key)
        if encoded is None:
            return None
        document = parse_document(encoded, Admission)
        try:
            verify_admission(document, genesis, self.network_id)
            check_covers(document.body, name, node_key, roles)
        except DocumentRefused:
            return None
        return document

    def keep_admission(self, tx: Transaction, certificate: Document[Certificate]) -> None:
        """Take over what stands beside a certificate, after a restore that lost it."""
        body, presented = certificate.body, certificate.admission
        if presented is None or self.admission(tx, body.name, body.node_key, body.roles) is not None:
            return
        with contextlib.suppress(DocumentRefused):
            verify_admission(presented, self.newest_genesis(tx).body, self.network_id)
            check_covers(presented.body, body.name, body.node_key, body.roles)
            admissions.put(tx, body.node_key, presented.encode())

    def asks_admission(self, tx: Transaction) -> bool:
        """Whether the genesis asks for admissions by now."""
        rule = self.newest_genesis(tx).body.admission
        return rule is not None and tx.now >= rule.required_from

    def admits(self, tx: Transaction, name: str, node_key: str, roles: Sequence[str]) -> bool:
        """Whether nodes would believe a certificate that says so: the genesis may ask for an admission."""
        if not self.asks_admission(tx):
            return True
        admission = self.admission(tx, name, node_key, roles)
        return admission is not None and tx.now < admission.body.not_after

    def lifetime(self, reader: Reader, asked: int | None) -> int:
        """Seconds that a certificate lives, within the policy's bounds."""
        return _within(self.in_force(reader).body.certificate, asked)

    def _signer(self, tx: Transaction) -> ISigner:
        """The key of now; refuses beside a twin, or while the clock stands below what was seen."""
        check_history(tx)
        if clock_is_behind(tx, tx.now):
            raise StoreError("clock-suspect", "the clock stands below an earlier time: nothing is issued")
        return self.keys.signer(self.newest_genesis(tx).body, tx.now)

    def signer_id(self, tx: Transaction) -> str:
        """Whose signature a new document would bear. @raise StoreError: as L{KeyRing.signer}."""
        signer: str = self.keys.signer(self.newest_genesis(tx).body, tx.now).key_id
        return signer

    def grace(self, reader: Reader) -> int:
        """Seconds after its end that a certificate still matters: for renewal, and so for revocation."""
        return self.in_force(reader).body.certificate.renew_grace + CERTIFICATE_LEEWAY

    def keeps_name(self, tx: Transaction, node: NodeRow | CurrentHolder) -> bool:
        """Whether a name is still its: not when it was revoked, or its certificate ended too long ago."""
        return node.barred_at is None and tx.now <= node.not_after + self.grace(tx)

    def crl(self, tx: Transaction) -> Document[Crl]:
        """
        The next CRL: everything revoked that could still be believed or renewed; stored.

        One that is full leaves out what could be renewed only, which the database refuses anyhow.
        @raise DocumentRefused: C{too-large}, with what to do about it; nothing has changed then.
        """
        cut = documents.crl_cut(tx)
        matters, live = max(tx.now - self.grace(tx), cut), max(tx.now - CERTIFICATE_LEEWAY, cut)
        try:
            return self._crl(tx, matters)
        except DocumentRefused:
            if live == matters:
                raise
        return self._crl(tx, live)

    def crl_again(self, tx: Transaction) -> Document[Crl]:
        """As L{crl}; if not all that is revoked fits, what was listed before, so that it stays in force."""
        try:
            return self.crl(tx)
        except DocumentRefused:
            return self._crl(tx, documents.crl_cut(tx), also_new=False)

    def _crl(self, tx: Transaction, ended_after: int, also_new: bool = True) -> Document[Crl]:
        """Made whole before anything is written, so that one that is too large leaves nothing behind."""
        listed_after = None if also_new else -1
        with collector_paused(), _explained_when_full():
            document = sign_document(
                Crl(
                    network_id=self.network_id,
                    number=tx.coming_number("crl"),
                    issued_at=tx.now,
                    next_update=tx.now + limits.CRL_SECONDS,
                    revoked=tuple(certificates.revoked_since(tx, ended_after, listed_after)),
                    revoked_nodes=tuple(certificates.revoked_nodes(tx, ended_after, listed_after)),
                    revoked_keys=tuple(certificates.revoked_keys(tx, ended_after, listed_after)),
                ),
                [self._signer(tx)],
            )
            encoded = document.encode()
        number = tx.next_number("crl")
        if also_new:
            certificates.list_under(tx, number, ended_after)
        documents.add_crl(tx, number, encoded, ended_after)
        return document

    def in_force(self, reader: Reader) -> Document[Policy]:
        """The newest policy as this very transaction sees it."""
        committed: Document[Policy] | None = getattr(self, "policy", None)  # none before the state is open
        if committed is not None and documents.newest_versions(reader)[1] == committed.body.version:
            return committed
        return parse_document(_there(documents.newest_policy(reader)), Policy)

    def crl_delta(self, reader: Reader, crl: Document[Crl], since: int) -> Document[CrlDelta] | None:
        """
        What turns CRL C{since} into C{crl}.

        @return: None if it lists more than half as much, or C{crl} is no longer the newest.

        @param since: the number of an earlier CRL of the same epoch.
        """
        body = crl.body
        newest = documents.newest_crl_mark(reader)
        if newest is None or newest[0] != body.number:
            return None
        ended_after = newest[1]
        serials = certificates.revoked_since(reader, ended_after, listed_after=since)
        nodes = certificates.revoked_nodes(reader, ended_after, listed_after=since)
        keys = certificates.revoked_keys(reader, ended_after, listed_after=since)
        if 2 * (len(serials) + len(nodes) + len(keys)) > entries(body):
            return None
        return sign_document(
            CrlDelta(
                network_id=self.network_id,
                from_number=since,
                number=body.number,
                issued_at=body.issued_at,
                next_update=body.next_update,
                added=tuple(serials),
                added_nodes=tuple(nodes),
                added_keys=tuple(keys),
                drop_expired_before=ended_after + 1,
                result_signatures=tuple(
                    SignatureEntry(key_id=name, signature=b64url_encode(signature))
                    for name, signature in crl.signatures
                ),
            ),
            [self.keys.signer(self.newest_genesis(reader).body, body.issued_at)],
        )

    def next_policy(self, tx: Transaction, text: PolicyText, published_by: str) -> Document[Policy]:
        """The next policy version with this text and the operators of now; stored."""
        unknown = text.keys() - set(POLICY_TEXT_FIELDS)
        if unknown:
            raise DocumentRefused("invalid-field", f"a policy text has no field {min(unknown)}")
        version = tx.next_number("policy")
        body = {
            **text,
            "type": "policy",
            "network_id": self.network_id,
            "version": version,
            "issued_at": tx.now,
            "expires_at": tx.now + POLICY_SECONDS,
            "operators": [
                {"key": operator.operator_key, "role": operator.role} for operator in operators.everyone(tx)
            ],
        }
        document = sign_document(_policy_body(body), [self._signer(tx)])
        documents.add_policy(tx, version, document.encode(), published_by)
        return document

    def _crl_in_force(self, reader: Reader) -> tuple[int, str]:
        """Number and digest; a CRL is too long to be parsed for that."""
        mark = documents.newest_crl_mark(reader)
        return mark[0] if mark else 0, encoded_digest(_there(documents.newest_crl(reader)))

    def countersign(self, tx: Transaction, command: Document[Command]) -> Document[Command]:
        """A command that was accepted: with the signature that nodes want to see beside the operator's."""
        return add_signature(command, self._signer(tx))

    def still_says(self, tx: Transaction, status: Document[Status]) -> bool:
        """Whether a status names what is in force now, is signed by the key of now, and young."""
        body, now = status.body, tx.now
        return (
            names_newest(body, newest(tx, 0))
            and self.signer_id(tx) in {name for name, _ in status.signatures}
            and body.issued_at <= now < (body.issued_at + body.expires_at) / 2
        )

    def status(self, tx: Transaction) -> Document[Status]:
        """The next status, naming what is in force in this very transaction; stored."""
        policy = self.in_force(tx)
        crl_number, crl_digest = self._crl_in_force(tx)
        genesis = self.newest_genesis(tx)
        size, head = tx.audit_head
        number = tx.next_number("status")
        document = sign_document(
            Status(
                network_id=self.network_id,
                number=number,
                issued_at=tx.now,
                expires_at=tx.now + limits.STATUS_SECONDS,
                genesis=VersionedDigest(version=genesis.body.version, digest=genesis.digest),
                policy=VersionedDigest(version=policy.body.version, digest=policy.digest),
                crl=NumberedDigest(number=crl_number, digest=crl_digest),
                commands=newest_command(tx),
                audit=AuditHead(epoch=epoch(tx), size=size, head=head.hex()),
                instance=instance(tx),
            ),
            [self._signer(tx)],
        )
        documents.put_status(tx, number, document.encode())
        return document


@contextlib.contextmanager
def _explained_when_full() -> Iterator[None]:
    try:
        yield
    except DocumentRefused as error:
        if error.reason != "too-large":
            raise
        raise DocumentRefused(
            "too-large",
            f"the CRL is full ({DOCUMENT_LIMITS['crl'] >> 20} MiB) of certificates that have not ended:"
            " entries leave it as those end, so publish a policy with a shorter certificate.default and max",
        ) from error


def _within(life: CertificateLife, asked: int | None) -> int:
    return max(min(asked or life.default, life.max), limits.CERTIFICATE_SECONDS_MIN)


def entries(crl: Crl) -> int:
    """How many a CRL has."""
    return len(crl.revoked) + len(crl.revoked_nodes) + len(crl.revoked_keys)


def clock_is_behind(reader: Reader, now: int) -> bool:
    """Whether C{now} lies below the newest time seen by more than a clock's correction."""
    return now < (reader.mark("high_water") or 0) - limits.CLOCK_BACKSTEP_SECONDS


def names_newest(status: Status, found: Newest) -> bool:
    """Whether a status names everything that the database holds, by its numbers."""
    return (
        status.genesis.version >= found.genesis
        and status.policy.version >= found.policy
        and status.crl.number >= found.crl
        and status.commands.number >= found.command
    )


def newest_command(reader: Reader) -> NumberedDigest:
    """What a status says of commands: the newest number and its digest, zeros before the first."""
    newest = commands.page(reader, MAX_INTEGER, 1)
    first = first_number(reader)
    if not newest or newest[0].number < first:
        return NumberedDigest(number=first, digest=NO_COMMAND)
    return NumberedDigest(number=newest[0].number, digest=encoded_digest(newest[0].document))


def _policy_body(value: dict[str, Any]) -> Policy:
    try:
        return msgspec.convert(value, Policy, strict=True)
    except msgspec.ValidationError as error:
        raise DocumentRefused("invalid-field", f"policy: {human_error(error, Policy)}") from error


def _there(document: bytes | None) -> bytes:
    if document is None:
        raise StoreError("unavailable", "the database lacks a policy or a CRL: restore it from a backup")
    return document


def epoch(reader: Reader) -> int:
    """With which numbers and serials begin: a restore, or a takeover that lost rows, begins a higher one."""
    return reader.mark("epoch") or 0


def first_number(reader: Reader) -> int:
    """Which numbers and serials begin above, since the last restore: what is above it was given out here."""
    return epoch(reader) * SERIALS_PER_EPOCH + (reader.mark("numbers_from") or 0)
