# SPDX-License-Identifier: MIT
"""
What members ask for: to renew, to be heard of. A renewal is one transaction, a heartbeat none.
How many certificates a member gets is L{gmesh.authority.renewal}.

A certificate of this database renews, whatever key signed it: its row is the evidence.  After a
restore from a backup almost every certificate is unknown: what L{gmesh.authority.readmission} finds
grounds for is adopted, unless a row contradicts it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta
from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.python.failure import Failure

from gmesh.authority import audit, limits
from gmesh.authority.auth import Caller, PresentedCertificate, RequestBody, Stale, claim_ahead
from gmesh.authority.clock import SteadyClock
from gmesh.authority.history import History
from gmesh.authority.issuer import DocumentIssuer
from gmesh.authority.presence import Numbers, Presence
from gmesh.authority.readmission import Grounds, UnknownCertificate, approved, grounds, rejoined
from gmesh.authority.renewal import Renewal, RenewalsTogether, RenewItem, fresh_enough
from gmesh.authority.store import certificates, nodes
from gmesh.authority.store import presence as presence_rows
from gmesh.authority.store.certificates import CertificateRow
from gmesh.authority.store.presence import HeardRow
from gmesh.authority.store.transaction import Notes, Reader, Transaction
from gmesh.authority.store.writer import Store
from gmesh.errors import AdmissionRefused, RequestRefused, StoreError
from gmesh.trust.documents import (
    Certificate,
    CertificateFile,
    CommandReceipt,
    Document,
    DocumentFile,
    RevocationReason,
    Status,
    document_from_dict,
)
from gmesh.trust.keys import decode_noise_public
from gmesh.trust.limits import MAX_INTEGER
from gmesh.trust.names import BootId, Fault, Key

__all__ = ["HeartbeatBody", "HeartbeatShape", "Members", "RenewBody", "RenewShape"]

Json = dict[str, Any]
T = TypeVar("T")


class RenewBody(RequestBody, frozen=True):
    """C{POST /renew}: the certificate held, and the Noise key to certify next."""

    certificate: dict[str, Any]
    noise_key: Key


class HeartbeatFields(RequestBody, frozen=True):
    """
    What C{POST /heartbeat} holds beside documents: the node's time, what it has applied.

    @ivar faults: what the node finds wrong with documents or with other nodes.
    @ivar boot_id: of this run of its daemon.
    """

    sent_ms: Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
    numbers: Numbers = Numbers()
    faults: Annotated[tuple[Fault, ...], Meta(max_length=limits.FAULTS)] = ()
    boot_id: BootId | None = None


class HeartbeatBody(HeartbeatFields, frozen=True, kw_only=True):
    """
    C{POST /heartbeat}: that, and the certificate held.

    @ivar status: the newest status held, if an answer was older or of another database.
    """

    certificate: dict[str, Any]
    status: dict[str, Any] | None = None
    receipts: Annotated[tuple[dict[str, Any], ...], Meta(max_length=limits.RECEIPTS)] = ()


class RenewShape(RequestBody, frozen=True):
    """What a L{RenewBody} holds, documents and all."""

    certificate: CertificateFile
    noise_key: Key


class HeartbeatShape(HeartbeatFields, frozen=True, kw_only=True):
    """What a L{HeartbeatBody} holds, documents and all."""

    certificate: CertificateFile
    status: DocumentFile[Status] | None = None
    receipts: Annotated[tuple[DocumentFile[CommandReceipt], ...], Meta(max_length=limits.RECEIPTS)] = ()


class _Known(msgspec.Struct, frozen=True, gc=False):
    """Of a certificate that was judged: whose it is, and until when heartbeats with it are answered."""

    node_id: str
    name: str
    until: int


class Members:
    """
    The use cases of members.

    @ivar presence: who was heard of.
    """

    def __init__(self, store: Store, issuer: DocumentIssuer, clock: SteadyClock, history: History) -> None:
        self._store = store
        self._issuer = issuer
        self._clock = clock
        self._history = history
        self.presence = Presence()
        self._flushing = DeferredLock()
        self._renewals = RenewalsTogether(issuer, self._renew)
        self._generation = 0
        self._members: OrderedDict[str, tuple[bytes, _Known]] = OrderedDict()

    # Renew.

    def renew(
        self, caller: Caller, certificate: Document[Certificate], noise_key: str
    ) -> Deferred[tuple[bytes, bool]]:
        """
        Give a member its next certificate: same name and roles, the same or a new Noise key.

        @return: its file form, and whether it is new: L{fresh_enough} says when it is not.
        @raise RateLimited: for too many new Noise keys.
        @raise AdmissionRefused: C{cert-revoked}, C{cert-expired}, C{unknown-certificate}, C{key-taken},
            C{enrolment-pending}, C{not-admitted}.
        """
        self._clock.check()
        decode_noise_public(noise_key)
        item = RenewItem(caller, certificate, noise_key)
        asked: Deferred[Renewal | None] = self._store.decide_in_bulk(self._renewals, item)
        return asked.addCallback(_there).addErrback(self._unknown, certificate)

    def _unknown(self, failure: Failure, certificate: Document[Certificate]) -> Any:
        """A certificate that is not ours may be another authority's with our key."""
        if not isinstance(failure.value, AdmissionRefused) or failure.value.reason != "unknown-certificate":
            return failure
        return self._history.weigh_certificate(certificate).addCallback(lambda _: failure)

    def _renew(self, tx: Transaction, item: RenewItem) -> Renewal | None:
        caller, certificate, noise_key = item.caller, item.certificate, item.noise_key
        caller.claim(tx)
        try:
            self._standing(tx, caller.key_id, certificate, tx.now)
        except UnknownCertificate:
            if self._adopt(tx, caller, certificate) is None:
                return None
        node = nodes.by_id(tx, caller.key_id)
        if node is None or rejoined(tx, node.node_id, node.serial):
            raise UnknownCertificate()
        if not self._issuer.admits(tx, node.name, node.node_key, node.roles):
            raise AdmissionRefused(
                "not-admitted",
                "the genesis asks for an admission, which an operator has to bring",
            )
        held = fresh_enough(tx, self._issuer, node, noise_key)
        if held is not None:
            return held.document, False
        if not nodes.claim_noise_key(tx, noise_key, caller.key_id):
            raise AdmissionRefused("key-taken", "this Noise key belongs to another node: make a new one")
        (row,) = self._renewals.issue(tx, [(item, node)])
        return row.document, True

    def _standing(
        self, reader: Reader, node_id: str, certificate: Document[Certificate], now: int
    ) -> CertificateRow:
        """The stored certificate, if the node may still be served by it."""
        row = certificates.get(reader, certificate.body.serial)
        if row is None:
            raise UnknownCertificate()
        if row.node_id != node_id or row.document != certificate.encode():
            raise AdmissionRefused("unknown-certificate", "this authority did not issue that certificate")
        if row.revoked_at is not None or certificates.cut_off(reader, node_id, row.serial):
            raise AdmissionRefused("cert-revoked", "this node was revoked: ask an operator for a new invite")
        if now > row.not_after + self._issuer.grace(reader):
            raise AdmissionRefused(
                "cert-expired", "the certificate ended longer ago than the policy's renew_grace: join again"
            )
        return row

    def _adopted(self, caller: Caller, certificate: Document[Certificate], tx: Transaction) -> _Known | None:
        """As L{_known}, of what is taken in; None, with a request for readmission, for an operator to see."""
        row = self._adopt(tx, caller, certificate)
        return None if row is None else self._known(tx, row)

    def _known(self, reader: Reader, row: CertificateRow) -> _Known:
        """Whose a certificate is, and until when heartbeats with it are answered."""
        return _Known(row.node_id, row.name, row.not_after + self._issuer.grace(reader))

    # Adoption.

    def _adopt(
        self, tx: Transaction, caller: Caller, certificate: Document[Certificate]
    ) -> CertificateRow | None:
        """Take in what the restored database does not know; None while an operator must look."""
        body = certificate.body
        found = grounds(tx, self._issuer, certificate, caller.key_id)
        if rejoined(tx, caller.key_id, body.serial):
            raise UnknownCertificate()
        node = nodes.by_id(tx, caller.key_id)
        named = nodes.by_name(tx, body.name)
        if certificates.cut_off(tx, caller.key_id, body.serial):
            raise AdmissionRefused("cert-revoked", "this node was revoked: ask an operator for a new invite")
        if tx.now > body.not_after + self._issuer.grace(tx):
            raise AdmissionRefused("cert-expired", "the certificate ended too long ago: join again")
        if (node is not None and node.name != body.name) or (
            named is not None and named.node_id != caller.key_id and self._issuer.keeps_name(tx, named)
        ):
            raise AdmissionRefused("name-taken", f"{body.name} is another node now")
        if found is Grounds.OPERATOR and not approved(tx, caller, certificate):
            return None
        if not nodes.claim_noise_key(tx, body.noise_key, caller.key_id):
            raise AdmissionRefused("key-taken", "this Noise key belongs to another node: join again")
        row = CertificateRow(
            body.serial,
            body.name,
            caller.key_id,
            body.noise_key,
            certificate.encode(),
            body.not_before,
            body.not_after,
        )
        certificates.add(tx, row)
        self._issuer.keep_admission(tx, certificate)
        if node is None or node.serial < body.serial:
            nodes.put(
                tx,
                nodes.NodeRow(
                    body.name, caller.key_id, body.node_key, body.roles, None, body.serial, body.not_after
                ),
            )
        audit.record(
            tx,
            caller.key_id,
            "adopt",
            body.name,
            request_id=caller.request_id,
            serial=body.serial,
            grounds=found.value,
            certificate=audit.certificate_digest(row.document),
        )
        return row

    # Heartbeat.

    def served(self, caller: Caller, presented: PresentedCertificate) -> Caller | None:
        """
        With the certificate that a node sent, if heartbeats of its key with that very file are answered.

        It was read and judged then, and nothing was revoked since.
        """
        known = self._remembered(caller.key_id, presented.fingerprint)
        if known is None:
            return None
        return msgspec.structs.replace(caller, name=known.name, presented=presented)

    def _remembered(self, key: str, fingerprint: bytes) -> _Known | None:
        """One file of each key is: with how many a node comes costs nobody else their place."""
        held, known = self._members.get(key, (b"", None))
        return known if held == fingerprint else None

    async def heartbeat(self, caller: Caller, body: HeartbeatBody) -> None:
        """
        Note that a member is alive and what it has applied.

        Nothing is written, unless a clock runs ahead: C{sent_ms} must rise, and lie after our start.

        It lies in the second that the signature names, and so near the authority's time: a node whose
        clock was years ahead is heard of again once it is right.
        @raise RequestRefused: C{invalid-field}, C{replayed}.
        @raise AdmissionRefused: as L{renew}.
        """
        sent_ms = body.sent_ms
        if sent_ms // 1000 != caller.signed.created:
            raise RequestRefused("invalid-field", "sent_ms must lie in the second that created names")
        if body.status is not None:
            await self._history.weigh_status(document_from_dict(body.status, Status))
        known = self._remembered(caller.key_id, caller.fingerprint)
        if known is None:
            judged = Deferred.fromCoroutine(self._judge(caller, caller.certificate))
            known = await judged.addErrback(self._unknown, caller.certificate)
        if known.node_id != caller.key_id:
            raise AdmissionRefused("unknown-certificate", "this authority did not issue that certificate")
        now = self._clock.now()
        if now > known.until:
            self._members.pop(caller.key_id, None)
            raise AdmissionRefused("cert-expired", "the certificate ended too long ago: join again")
        if sent_ms < int(self._clock.started * 1000):
            raise Stale(now)
        await claim_ahead(self._store, now, caller.signed)
        self.presence.note(caller, sent_ms, now, body.numbers, body.faults, body.boot_id)

    async def _judge(self, caller: Caller, certificate: Document[Certificate]) -> _Known:
        """Whose certificate this is, and until when it is good; remembered with its fingerprint."""
        generation = self._generation
        try:
            known = await self._store.read(
                lambda reader: self._known(
                    reader, self._standing(reader, caller.key_id, certificate, self._clock.now())
                )
            )
        except UnknownCertificate:
            self._clock.check()
            known = _there(await self._store.decide(partial(self._adopted, caller, certificate)))
        if generation == self._generation:
            self._members[caller.key_id] = caller.fingerprint, known
        if len(self._members) > limits.KEYS_REMEMBERED:
            self._members.popitem(last=False)
        return known

    def forget(self) -> None:
        """Something was revoked: judge every certificate again, also what is being read right now."""
        self._generation += 1
        self._members.clear()

    def flush_news(self) -> Deferred[None]:
        """Write down whose numbers have changed, if anything is written: operators wait for it."""
        if not self._store.writable or self._flushing.locked:  # by who writes news first
            return succeed(None)
        return self._flush(self.presence.take_news)

    def flush_presence(self) -> Deferred[None]:
        """Write down who was heard of since the last time, if anything is written."""
        return self._flush(self.presence.take)

    def _flush(self, take: Callable[[int], list[HeardRow]]) -> Deferred[None]:
        """One at a time, or a decision would wait for a note of each."""
        done: Deferred[None] = self._flushing.run(lambda: Deferred.fromCoroutine(self._write_presence(take)))
        return done

    async def _write_presence(self, take: Callable[[int], list[HeardRow]]) -> None:
        """In small notes one after the other, so that decisions come between them."""
        while self._store.damage is None and (rows := take(presence_rows.ROWS_A_NOTE)):
            try:
                await self._store.note(partial(_write_heard, rows=rows), lasting=False)
            except StoreError:
                self.presence.put_back(rows)
                raise

    def forget_presence(self) -> Deferred[int]:
        """Delete what is known of nodes that are no members any more."""
        before = self._clock.now() - limits.PRESENCE_KEPT_SECONDS
        return self._store.note(lambda notes: presence_rows.forget(notes, before), lasting=False)

    # Operators.

    def page(self, after: str, limit: int) -> Deferred[Json]:
        """A page of members."""

        def page(reader: Reader) -> Json:
            rows = nodes.page(reader, after, limit)
            heard = presence_rows.of(reader, [row.node_id for row in rows])
            listed = [
                {
                    "name": row.name,
                    "node_id": row.node_id,
                    "roles": list(row.roles),
                    "serial": row.serial,
                    "not_after": row.not_after,
                    "revoked": row.barred_at is not None,
                    **self.presence.shown(row.node_id, heard.get(row.node_id)),
                }
                for row in rows
            ]
            return {"nodes": listed, "next": rows[-1].name if len(rows) == limit else None}

        return self._store.read(page)

    def certificates(self, after: int, limit: int) -> Deferred[Json]:
        """A page of certificates."""

        def page(reader: Reader) -> Json:
            rows = certificates.page(reader, after, limit)
            listed = [
                {
                    "serial": row.serial,
                    "name": row.name,
                    "node_id": row.node_id,
                    "not_before": row.not_before,
                    "not_after": row.not_after,
                    "revoked_at": row.revoked_at,
                    "reason": None if row.reason is None else RevocationReason(row.reason).slug,
                }
                for row in rows
            ]
            return {"certificates": listed, "next": rows[-1].serial if len(rows) == limit else None}

        return self._store.read(page)

    def certificate(self, serial: int) -> Deferred[bytes]:
        """One certificate in file form. @raise RequestRefused: C{not-found}."""

        def get(reader: Reader) -> bytes:
            row = certificates.get(reader, serial)
            if row is None:
                raise RequestRefused("not-found", "no certificate has this serial")
            return row.document

        return self._store.read(get)


def _write_heard(notes: Notes, rows: list[HeardRow]) -> None:
    presence_rows.write(notes, rows)


def _there(decided: T | None) -> T:
    """What was decided, which is durable. @raise AdmissionRefused: C{enrolment-pending}."""
    if decided is None:
        raise AdmissionRefused(
            "enrolment-pending",
            "the authority was restored and cannot vouch for this certificate: an operator has to approve it,"
            " gmesh admin enrolments",
        )
    return decided
