# SPDX-License-Identifier: MIT
"""
What nodes ask for: to join by an invite, to renew, to be heard of. Each is one transaction.

Whatever is wrong with an invite has the same answer, and a refusal leaves nothing behind.
"""

from __future__ import annotations

from collections import OrderedDict

from twisted.internet.defer import Deferred, succeed

from gmesh.authority import audit, limits
from gmesh.authority.auth import Caller, Stale, enrolment_refused
from gmesh.authority.bodies import Numbers
from gmesh.authority.clock import SteadyClock
from gmesh.authority.issuer import Issuer
from gmesh.authority.store import certificates, invites, nodes
from gmesh.authority.store.certificates import CertificateRow
from gmesh.authority.store.invites import InviteRow
from gmesh.authority.store.transaction import Reader, Transaction
from gmesh.authority.store.writer import Store
from gmesh.errors import AdmissionRefused, RequestRefused
from gmesh.trust.documents import Certificate, Document
from gmesh.trust.encoding import b64url_decode
from gmesh.trust.join import JoinRequest
from gmesh.trust.keys import KEY_SIZE, decode_noise_public, key_id

__all__ = ["Admission"]


class Admission:
    """The use cases of nodes."""

    def __init__(self, store: Store, issuer: Issuer, clock: SteadyClock) -> None:
        self._store = store
        self._issuer = issuer
        self._clock = clock
        self._presence = Presence()
        self._generation = 0
        self._members: OrderedDict[int, tuple[str, int]] = OrderedDict()

    # Join.

    def admit(self, caller: Caller, body: JoinRequest) -> Deferred[tuple[bool, bytes]]:
        """
        Turn an invite into a certificate.

        @return: whether it is new, and the certificate's file form.
        @raise RequestRefused: C{enrolment-refused} for anything wrong with the invite.
        @raise AdmissionRefused: C{name-taken}, C{key-taken}, C{network-full}.
        """
        self._clock.check()
        if body.network_id != self._issuer.network_id:
            raise enrolment_refused()
        return self._store.decide(lambda tx: self._admit(tx, caller, body))

    def _admit(self, tx: Transaction, caller: Caller, body: JoinRequest) -> tuple[bool, bytes]:
        caller.claim(tx)
        invite = invites.get(tx, key_id(b64url_decode(body.invite_key, KEY_SIZE)))
        if invite is None or invite.revoked_at is not None or invite.node_key not in (None, body.node_key):
            raise enrolment_refused()
        if invite.used_serial is not None:
            return False, self._same_again(tx, invite, body)
        if invite.expires_at <= tx.now:
            raise enrolment_refused()
        node_id = caller.key_id
        self._check_free(tx, invite, node_id)
        if not nodes.claim_noise_key(tx, body.noise_key, node_id):
            raise AdmissionRefused("key-taken", "this Noise key belongs to another node: make a new one")
        row = self._issuer.certificate(
            tx, invite.name, node_id, body.node_key, body.noise_key, invite.roles, invite.lifetime
        )
        if not invites.use(tx, invite.id, row.serial):
            raise enrolment_refused()
        nodes.put(
            tx,
            nodes.NodeRow(
                row.name, node_id, body.node_key, invite.roles, invite.lifetime, row.serial, row.not_after
            ),
        )
        audit.record(
            tx,
            node_id,
            "join",
            row.name,
            request_id=caller.request_id,
            invite=invite.id,
            invited_by=invite.created_by,
            serial=row.serial,
        )
        return True, row.document

    def _same_again(self, tx: Transaction, invite: InviteRow, body: JoinRequest) -> bytes:
        """The answer was lost on its way: the same request gets the same certificate."""
        row = certificates.get(tx, invite.used_serial or 0)
        if (
            row is None
            or row.revoked_at is not None
            or row.node_id != key_id(b64url_decode(body.node_key, KEY_SIZE))
            or row.noise_key != body.noise_key
            or tx.now > invite.expires_at + limits.JOIN_RETRY_SECONDS
            or certificates.key_revoked(tx, row.node_id)
        ):
            raise enrolment_refused()
        return row.document

    def _check_free(self, tx: Transaction, invite: InviteRow, node_id: str) -> None:
        if certificates.key_revoked(tx, node_id):
            raise AdmissionRefused("cert-revoked", "this node key was revoked as compromised: make a new one")
        same_name = nodes.by_name(tx, invite.name)
        if same_name is not None and same_name.node_id != node_id and self._lives(same_name, tx.now):
            raise AdmissionRefused(
                "name-taken",
                f"{invite.name} is another node: an operator must revoke it before it is replaced",
            )
        same_key = nodes.by_id(tx, node_id)
        if same_key is not None and same_key.name != invite.name:
            if self._lives(same_key, tx.now):
                raise AdmissionRefused("key-taken", f"this node key is already a member, as {same_key.name}")
            nodes.remove(tx, same_key.name)
        if same_name is None and nodes.count(tx) >= self._issuer.policy.body.max_nodes:
            raise AdmissionRefused("network-full", "the policy's max_nodes is reached")

    def _lives(self, node: nodes.NodeRow, now: int) -> bool:
        return node.barred_at is None and now <= node.not_after + self._issuer.grace()

    # Renew.

    def renew(self, caller: Caller, certificate: Document[Certificate], noise_key: str) -> Deferred[bytes]:
        """
        Give a member its next certificate: same name and roles, the same or a new Noise key.

        @raise AdmissionRefused: C{cert-revoked}, C{cert-expired}, C{unknown-certificate}, C{key-taken}.
        """
        self._clock.check()
        decode_noise_public(noise_key)
        return self._store.decide(lambda tx: self._renew(tx, caller, certificate, noise_key))

    def _renew(
        self, tx: Transaction, caller: Caller, certificate: Document[Certificate], noise_key: str
    ) -> bytes:
        caller.claim(tx)
        self._standing(tx, caller.key_id, certificate, tx.now)
        node = nodes.by_id(tx, caller.key_id)
        if node is None or node.barred_at is not None:
            raise AdmissionRefused("cert-revoked", "this node was revoked: ask an operator for a new invite")
        if not nodes.claim_noise_key(tx, noise_key, caller.key_id):
            raise AdmissionRefused("key-taken", "this Noise key belongs to another node: make a new one")
        row = self._issuer.certificate(
            tx, node.name, node.node_id, node.node_key, noise_key, node.roles, node.lifetime
        )
        nodes.renewed(tx, node.node_id, row.serial, row.not_after)
        audit.record(
            tx,
            caller.key_id,
            "renew",
            node.name,
            request_id=caller.request_id,
            serial=row.serial,
            previous=certificate.body.serial,
        )
        return row.document

    def _standing(
        self, reader: Reader, node_id: str, certificate: Document[Certificate], now: int
    ) -> CertificateRow:
        """The stored certificate, if the node may still be served by it."""
        row = certificates.get(reader, certificate.body.serial)
        if row is None or row.node_id != node_id:
            raise AdmissionRefused("unknown-certificate", "this authority did not issue that certificate")
        if row.revoked_at is not None or certificates.key_revoked(reader, node_id):
            raise AdmissionRefused("cert-revoked", "this node was revoked: ask an operator for a new invite")
        if now > row.not_after + self._issuer.grace():
            raise AdmissionRefused(
                "cert-expired", "the certificate ended longer ago than the policy's renew_grace: join again"
            )
        return row

    # Heartbeat.

    async def heartbeat(
        self, caller: Caller, certificate: Document[Certificate], sent_ms: int, numbers: Numbers
    ) -> None:
        """
        Note that a member is alive and what it has applied.

        Nothing is written now: C{sent_ms} must rise, and the request be signed after this daemon's start.
        @raise RequestRefused: C{replayed}.
        @raise AdmissionRefused: as L{renew}.
        """
        serial = certificate.body.serial
        known = self._members.get(serial)
        if known is None:
            generation = self._generation
            row = await self._store.read(
                lambda reader: self._standing(reader, caller.key_id, certificate, self._clock.now())
            )
            known = (row.node_id, row.not_after + self._issuer.grace())
            if generation == self._generation:
                self._members[serial] = known
            if len(self._members) > limits.KEYS_REMEMBERED:
                self._members.popitem(last=False)
        if known[0] != caller.key_id:
            raise AdmissionRefused("unknown-certificate", "this authority did not issue that certificate")
        if self._clock.now() > known[1]:
            self._members.pop(serial, None)
            raise AdmissionRefused("cert-expired", "the certificate ended too long ago: join again")
        if caller.signed.created < int(self._clock.started):
            raise Stale(self._clock.now())
        self._presence.note(caller.key_id, sent_ms, self._clock.now(), numbers)

    def forget_members(self) -> None:
        """Something was revoked: judge every certificate anew, also what is being read right now."""
        self._generation += 1
        self._members.clear()

    def flush_presence(self) -> Deferred[None]:
        """Write down who was heard of since the last time."""
        seen = self._presence.take()
        if not seen:
            return succeed(None)
        return self._store.decide(lambda tx: nodes.seen(tx, seen))


class Presence:
    """Last heartbeats, in memory until they are flushed."""

    def __init__(self) -> None:
        self._sent: OrderedDict[str, int] = OrderedDict()
        self._news: dict[str, tuple[int, str]] = {}

    def note(self, node_id: str, sent_ms: int, now: int, numbers: Numbers) -> None:
        """@raise RequestRefused: C{replayed}, unless C{sent_ms} rose."""
        if sent_ms <= self._sent.get(node_id, -1):
            raise RequestRefused("replayed", "a later heartbeat of this node was already accepted")
        self._sent[node_id] = sent_ms
        self._sent.move_to_end(node_id)
        if len(self._sent) > limits.KEYS_REMEMBERED:
            self._sent.popitem(last=False)
        self._news[node_id] = (
            now,
            f'{{"genesis":{numbers.genesis},"policy":{numbers.policy},"crl":{numbers.crl},"status":{numbers.status}}}',
        )

    def take(self) -> list[tuple[str, int, str]]:
        """(node_id, time, numbers) since the last call."""
        news, self._news = self._news, {}
        return [(node_id, at, numbers) for node_id, (at, numbers) in news.items()]
