# SPDX-License-Identifier: MIT
"""
What one host believes: the newest genesis, CRL, policy and status, and the nodes they vouch for.

Everything arrives through L{TrustState.offer} (file, authority or neighbour: it makes no
difference) and is checked in full before anything changes.  Documents are ordered by version
or number, never by time.  The status pins, by digest, what others of its numbers must be;
its expiry makes this host stale but never stops a document with a higher number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, NoReturn

from gmesh.errors import DocumentRefused, PeerRefused
from gmesh.trust.admission import admission_end
from gmesh.trust.certificate_cache import CertificateCache
from gmesh.trust.documents import (
    Certificate,
    Command,
    Crl,
    CrlDelta,
    Document,
    Genesis,
    Policy,
    Status,
)
from gmesh.trust.floors import Floors
from gmesh.trust.limits import CERTIFICATE_LEEWAY, COMMANDS_AHEAD, DEFAULT_STALE_GRACE, EPOCH
from gmesh.trust.revocation import apply_delta, lost_entries
from gmesh.trust.revoked import Revoked
from gmesh.trust.verify import (
    authority_keys,
    verify_by_authority,
    verify_command,
    verify_next_genesis,
    verify_stored_chain,
)

__all__ = ["Freshness", "TrustState"]


class Freshness(Enum):
    """
    How far this host may trust that it misses nothing.

    C{FRESH}: the status has not expired.  C{STALE}: it has; everything runs, an age is shown.
    C{LAPSED}: the policy's stale_grace has passed too, or there never was a status; links carry
    documents and control only.
    """

    FRESH = "fresh"
    STALE = "stale"
    LAPSED = "lapsed"


class TrustState:
    """
    The pure core of "who may be believed".

    @param changed: called with C{"genesis"}, C{"crl"}, C{"policy"} or C{"status"} after that
        document changed (it may have become None).
    @param alarm: called with a slug and a sentence when the authority contradicts itself:
        C{digest-mismatch}, C{crl-fork}, C{audit-fork}, C{instance-fork}, or was restored: C{audit-epoch},
        C{epoch-jump}.
    @param dated: asked whether it may be this late, when the authority signed a certificate then that
        our clock says is yet to come.
    """

    def __init__(
        self,
        network_id: str,
        genesis_chain: Sequence[Document[Genesis]],
        floors: Floors | Mapping[str, Any] | None = None,
        *,
        changed: Callable[[str], object] = lambda kind: None,
        alarm: Callable[[str, str], object] = lambda slug, detail: None,
        dated: Callable[[int], bool] = lambda time: False,
    ) -> None:
        """
        @param genesis_chain: from version 1, or from one that this host has verified before and stored.
        @param floors: as L{to_floors} gave them.
        @raise DocumentRefused: if the chain is empty, broken, of another network or below the floor.
        """
        if not isinstance(floors, Floors):
            floors = Floors.from_dict(floors or {})
        self.network_id = network_id
        self.floors = floors
        self.crl: Document[Crl] | None = None
        self.policy: Document[Policy] | None = None
        self.status: Document[Status] | None = None
        self._changed = changed
        self._alarm = alarm
        self._dated = dated
        self._revoked = Revoked()
        self._chain = verify_stored_chain(genesis_chain, network_id)
        self._certificates = CertificateCache(self.genesis.body, network_id)
        if self.genesis.body.version < floors.genesis:
            raise DocumentRefused(
                "rollback", f"genesis {self.genesis.body.version} where {floors.genesis} was held before"
            )
        floors.genesis = self.genesis.body.version

    @property
    def genesis(self) -> Document[Genesis]:
        """The newest genesis."""
        return self._chain[-1]

    @property
    def genesis_chain(self) -> tuple[Document[Genesis], ...]:
        """Every genesis held, oldest first, without gaps."""
        return tuple(self._chain)

    @property
    def time_floor(self) -> int:
        """No time before this can be now: when the newest status was issued; 0 without one."""
        return self.status.body.issued_at if self.status is not None else 0

    def genesis_after(self, version: int) -> tuple[Document[Genesis], ...]:
        """Every genesis held that a host at C{version} lacks, oldest first."""
        return tuple(document for document in self._chain if document.body.version > version)

    def to_floors(self) -> dict[str, Any]:
        """The floors as JSON values, to be stored before what lifted them is used."""
        return self.floors.to_dict()

    def freshness(self, now: float) -> Freshness:
        """Whether the newest status still speaks for the present."""
        if self.status is None:
            return Freshness.LAPSED
        late = now - self.status.body.expires_at
        if late <= 0:
            return Freshness.FRESH
        grace = self.policy.body.stale_grace if self.policy is not None else DEFAULT_STALE_GRACE
        return Freshness.STALE if late <= grace else Freshness.LAPSED

    def revoked(self, serial: int, node_id: str) -> bool:
        """True if the CRL names this certificate, this node for it, or the key of this node."""
        return self._revoked.names(serial, node_id)

    def remember_revoked(self, serials: Mapping[str, int]) -> None:
        """By node_id, refuse serials up to these as long as no CRL is held: a lost one named them."""
        self._revoked.remember(serials)

    def judge_certificate(self, document: Document[Certificate], now: float) -> Certificate:
        """
        Believe a certificate, or say why not; the signature is verified once per genesis.

        @return: what the certificate says.
        @raise PeerRefused: C{wrong-network}, C{unknown-key}, C{bad-signature}, C{bad-key}, C{expired},
            C{not-yet-valid}, C{not-admitted} or C{revoked}.
        """
        genesis = self.genesis.body
        if now > genesis.expires_at + CERTIFICATE_LEEWAY:
            raise PeerRefused("expired", f"our genesis {genesis.version} has expired: fetch a newer one")
        body = document.body
        if body.issued_at > now + CERTIFICATE_LEEWAY and self._our_clock_is_late(document):
            now = body.issued_at
        try:
            verdict = self._certificates.judge(document, now)
        except DocumentRefused as error:
            raise PeerRefused(error.reason, error.detail) from error
        if self.revoked(body.serial, verdict.node_id):
            raise PeerRefused("revoked", f"the certificate of {body.name}, serial {body.serial}, is revoked")
        return body

    def outlives_admission(self, document: Document[Certificate]) -> bool:
        """Whether this certificate lacks the admission that is asked for now or later, or lasts longer."""
        if self.genesis.body.admission is None:
            return False
        try:
            return admission_end(document, self.genesis.body, self.network_id) < document.body.not_after
        except DocumentRefused:
            return True

    def judge_ended(self, document: Document[Certificate], now: float) -> None:
        """
        Believe a certificate that has ended, as far as it takes to renew it: what L{judge_certificate} asks
        was true until its end, and that is no longer ago than the policy's renew_grace.

        A CRL names what it revokes for as long, unless it is too full for that: nobody revoked gets here by
        waiting for the end, and in any case the authority decides on the renewal.

        @raise PeerRefused: as L{judge_certificate}; C{expired} also without a policy.
        """
        body = document.body
        grace = self.policy.body.certificate.renew_grace if self.policy is not None else 0
        if not body.not_after < now <= body.not_after + grace or now > self.genesis.body.expires_at:
            raise PeerRefused("expired", f"the certificate of {body.name} ended too long ago to be renewed")
        try:
            verdict = self._certificates.judge(document, body.not_after)
        except DocumentRefused as error:
            raise PeerRefused(error.reason, error.detail) from error
        if now > verdict.until:
            raise PeerRefused("unknown-key", f"the key that certified {body.name} has ended")
        if self.revoked(body.serial, verdict.node_id):
            raise PeerRefused("revoked", f"the certificate of {body.name}, serial {body.serial}, is revoked")

    def _our_clock_is_late(self, document: Document[Certificate]) -> bool:
        """Whether the authority signed this at a time that is now or past, whatever our clock says."""
        try:
            self._certificates.judge(document, document.body.issued_at)
        except DocumentRefused:
            return False
        return self._dated(document.body.issued_at)

    @property
    def newest_command(self) -> int:
        """The number of the newest command that the status names; 0 without a status."""
        return self.status.body.commands.number if self.status is not None else 0

    def command_floor(self, floor: int) -> int:
        """
        A floor of command numbers as far as it counts: not when it lies above what the status names, for
        then a key lifted it that is no longer believed.
        """
        return floor if floor <= self.newest_command else 0

    def judge_command(self, document: Document[Command], now: float) -> str:
        """
        Who may have given this command: C{authority} or an operator's role.

        @raise DocumentRefused: as L{gmesh.trust.verify.verify_command}; C{ahead}, if its number lies far
            above what the newest status names.
        """
        policy = self.policy.body if self.policy is not None else None
        giver = verify_command(document, self.genesis.body, policy, self.network_id, now)
        number, newest = document.body.number, self.newest_command
        if number > newest + COMMANDS_AHEAD:
            raise DocumentRefused("ahead", f"command {number} where the status names {newest} as the newest")
        return giver

    def offer(self, document: Document[Any], now: float) -> bool:
        """
        Check a genesis, CRL, CRL delta, policy or status and, if it is newer, believe it.

        @return: True if it is newer and now in force, False if it is held already.
        @raise DocumentRefused: with the reason; nothing has changed then.  C{unknown-key} and
            C{version-gap} may mean that a newer genesis must be fetched first.
        """
        body = document.body
        if isinstance(body, Genesis):
            return self._offer_genesis(document)
        if isinstance(body, CrlDelta):
            if self.crl is not None and body.number <= self.crl.body.number:
                return False
            if self.crl is None:
                raise DocumentRefused("wrong-base", "a CRL delta where no CRL is held")
            return self.offer(apply_delta(self.crl, document), now)
        if not isinstance(body, (Crl, Policy, Status)):
            raise DocumentRefused("wrong-type", f"a {document.type} is not part of what a host believes")
        before = self.status
        if not self._admit(document, body, now):
            return False
        setattr(self, body.TYPE, document)
        if isinstance(body, Crl):
            self._revoked.follow(body)
        elif isinstance(body, Status):
            alarm = self.floors.see_audit(body.audit)
            if alarm is not None:
                self._alarm(*alarm)
            if before is not None and _forked(before.body, body):
                self._alarm(
                    "instance-fork",
                    f"status {body.number} is from another database than {before.body.number}",
                )
        self._changed(body.TYPE)
        return True

    def _offer_genesis(self, document: Document[Genesis]) -> bool:
        version = document.body.version
        newest = self.genesis.body.version
        if version <= newest:
            for held in self._chain:
                if held.digest == document.digest:
                    return False
            raise DocumentRefused("rollback", f"another genesis {version} where {newest} is held")
        verify_next_genesis(self.genesis, document, self.network_id)
        self._chain.append(document)
        self.floors.genesis = version
        for kind in self._genesis_changed():
            self._changed(kind)
        return True

    def _genesis_changed(self) -> list[str]:
        """Forget verdicts, and documents whose signers the newest genesis no longer lists."""
        genesis = self.genesis.body
        self._certificates = CertificateCache(genesis, self.network_id)
        keys = authority_keys(genesis)
        changed = ["genesis"]
        for kind in ("crl", "policy", "status"):
            held = getattr(self, kind)
            if held is not None and not any(signer in keys for signer, _ in held.signatures):
                setattr(self, kind, None)
                changed.append(kind)
        if self.crl is None:
            self._revoked.follow(None)
        return changed

    def _admit(self, document: Document[Any], body: Crl | Policy | Status, now: float) -> bool:
        """Every check a document must pass; lifts the floors when it passes as newer."""
        kind, number = body.TYPE, _number(body)
        if body.network_id != self.network_id:
            raise DocumentRefused("wrong-network", f"the {kind} belongs to another network")
        held = getattr(self, kind)
        if held is not None and held.digest == document.digest:
            return False
        genesis = self.genesis.body
        signers = verify_by_authority(document, genesis, now)
        floor = self.floors.effective(kind, authority_keys(genesis))
        if isinstance(body, Policy):
            floor = max(floor, genesis.policy.version)
        if number < floor:
            raise DocumentRefused("rollback", f"{kind} {number} where {floor} is the least to be believed")
        if held is not None and number == _number(held.body):
            self._mismatch(f"two different documents are {kind} {number}")
        self._check_pins(document, body)
        if isinstance(body, Crl) and held is not None and number // EPOCH == held.body.number // EPOCH:
            self._check_kept(held.body, body)
        if held is not None and number - _number(held.body) > EPOCH:
            self._alarm("epoch-jump", f"{kind} went from {_number(held.body)} to {number}")
        self.floors.lift(kind, signers, number)
        return True

    def _check_pins(self, document: Document[Any], body: Crl | Policy | Status) -> None:
        """A status pins the digest of each document of its numbers, whichever of the two came first."""
        if isinstance(body, Status):
            pins = {"genesis": body.genesis.version, "policy": body.policy.version, "crl": body.crl.number}
            for kind, pinned in pins.items():
                held = getattr(self, kind)
                if held is not None and _number(held.body) == pinned:
                    digest = getattr(body, kind).digest
                    if held.digest != digest:
                        self._mismatch(f"status {body.number} names another {kind} {pinned} than we hold")
        elif self.status is not None:
            status = self.status.body
            number, digest = (
                (status.crl.number, status.crl.digest)
                if isinstance(body, Crl)
                else (status.policy.version, status.policy.digest)
            )
            if _number(body) == number and document.digest != digest:
                self._mismatch(f"the {body.TYPE} {number} is not the one that status {status.number} names")

    def _check_kept(self, held: Crl, new: Crl) -> None:
        """Between two restores nobody is taken off a CRL whose certificates have not ended."""
        lost = lost_entries(held, new)
        if lost:
            detail = f"CRL {new.number} no longer names {lost[0]}, which CRL {held.number} did"
            self._alarm("crl-fork", detail)
            raise DocumentRefused("crl-fork", detail)

    def _mismatch(self, detail: str) -> NoReturn:
        self._alarm("digest-mismatch", detail)
        raise DocumentRefused("digest-mismatch", detail)


def _forked(before: Status, after: Status) -> bool:
    """Two databases in one epoch: neither was restored from the other."""
    return (
        None not in (before.instance, after.instance)
        and before.instance != after.instance
        and before.number // EPOCH == after.number // EPOCH
    )


def _number(body: Genesis | Crl | Policy | Status) -> int:
    return body.version if isinstance(body, (Genesis, Policy)) else body.number
