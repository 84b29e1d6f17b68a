# SPDX-License-Identifier: MIT
"""
What audits tell of the time between a backup and its restore: who was admitted, revoked, which policies.

The authority mirrors each row to C{audit.jsonl}, which outlives the database, or is exported.  A row that
speaks for a certificate counts as far as the chain is borne out by heads from elsewhere; one that speaks
against something counts in any case.  A restore writes down which heads it met: nodes go on to those of the
new epoch, and the next restore has to know how far the audits of before were borne out.
Tests: C{tests/authority/test_lost_days.py}, C{tests/authority/test_restored_again.py}.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from gmesh.authority.audit_file import (
    HEADS_NAMED,
    AuditRow,
    HeldHead,
    Survey,
    audit_rows,
    number_in,
    survey,
)
from gmesh.authority.node_files import NodeFiles
from gmesh.authority.store import certificates, documents, lost_certificates, nodes
from gmesh.authority.store.lost_certificates import LostCertificate
from gmesh.authority.store.transaction import SERIALS_PER_EPOCH, Reader, Transaction
from gmesh.errors import ConfigurationError, StoreError
from gmesh.trust.documents import AuditHead, RevocationReason
from gmesh.trust.names import Digest, Identifier, Number, human_error

__all__ = [
    "AuditTold",
    "LostDays",
    "LostRevocation",
    "missing_revocations",
    "newer_policy",
    "read_lost_days",
]

ROWS_AT_ONCE = 1000
NAMED = 10
"""How many names a refusal lists."""
_ISSUED = ("join", "renew", "adopt")
_POLICIES = ("publish-policy", "operators-policy", "recover-operator")


class _Issued(msgspec.Struct):
    """A row of somebody who got a certificate."""

    at: Number
    actor: Identifier
    target: str
    serial: Number
    certificate: Digest | None = None


class LostRevocation(msgspec.Struct):
    """
    A row of a revocation.

    @ivar target: a node's name, a serial or a key_id.
    @ivar crl: the lowest number of a CRL that can name it.
    @ivar below_serial: of the certificates of C{nodes}, those with a lower serial.
    """

    at: Number
    target: str
    crl: Number = 0
    below_serial: Number = 0
    serials: tuple[Number, ...] = ()
    nodes: tuple[Identifier, ...] = ()
    keys: tuple[Identifier, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditTold:
    """
    What one file gave, for people.

    @ivar rows: of after the backup.
    @ivar verified: how many of these are borne out by heads.
    @ivar remark: what is wrong with it; empty if nothing is.
    """

    path: Path
    rows: int
    verified: int
    remark: str


@dataclass(slots=True)
class LostDays:
    """
    All of it.

    @ivar certificates: noted, but not yet written down.
    @ivar revocations: that could still matter.
    @ivar keys: identity keys that were refused for ever, however long ago, and when.
    @ivar policy: the newest version that people published; -1 without one.
    @ivar epochs: what the files tell of: file, epoch.
    @ivar heads: up to which each file is borne out beyond the backup, for the row of this restore.
    @ivar issued: up to which number of the backup's epoch each serial has a row that is borne out.
    """

    told: list[AuditTold] = field(default_factory=list)
    certificates: list[LostCertificate] = field(default_factory=list)
    revocations: list[LostRevocation] = field(default_factory=list)
    keys: dict[str, int] = field(default_factory=dict)
    policy: int = -1
    epochs: list[tuple[Path, int]] = field(default_factory=list)
    heads: list[AuditHead] = field(default_factory=list)
    issued: int = 0

    def take(self, row: AuditRow, verified: bool, epoch: int, matters_from: int) -> None:
        """Note what one row says. @param epoch: of the backup."""
        value = row.read()
        action, target = value.get("action"), str(value.get("target"))
        if value.get("outcome") != "done":
            return
        if action in _ISSUED:
            one = _read(row, value, _Issued)
            if verified and action != "adopt" and one.serial // SERIALS_PER_EPOCH == epoch:
                self.issued = max(self.issued, one.serial % SERIALS_PER_EPOCH)
            if one.at >= matters_from:
                digest = one.certificate if verified else None
                self.certificates.append(
                    LostCertificate(one.serial, one.actor, one.target, digest, action == "join", one.at)
                )
        elif action == "revoke":
            against = _read(row, value, LostRevocation)
            self.keys |= dict.fromkeys(against.keys, against.at)
            if against.at >= matters_from:
                self.revocations.append(against)
        elif action in _POLICIES:
            version = number_in(str(value.get("policy", target)))
            self.policy = self.policy if version is None else max(self.policy, version)

    def refuse_keys(self, tx: Transaction, longest: int) -> list[str]:
        """
        Revoke the identity keys: CRLs name them only while a certificate could, and a key stays revoked.

        @param longest: seconds that a certificate lives.
        @return: names of those that were not revoked before.
        """
        done = []
        for key, at in self.keys.items():
            node = nodes.by_id(tx, key)
            end = max(certificates.last_end(tx, key), min(at, tx.now) + longest)
            nodes.bar(tx, key)
            if certificates.revoke_key(tx, key, end, RevocationReason.KEY_COMPROMISE):
                done.append(f"key {key}" if node is None else f"key of {node.name}")
        return done

    def store(self, tx: Transaction) -> None:
        """Write down the certificates that were noted."""
        lost_certificates.add(tx, self.certificates)
        self.certificates.clear()

    def missing(self, reader: Reader, crl: int) -> list[str]:
        """The targets of revocations that no CRL up to this number names, and that are not in force here."""
        lost = [each.target for each in self.revocations if each.crl > crl and not _in_force(reader, each)]
        return list(dict.fromkeys(lost))


def _in_force(reader: Reader, lost: LostRevocation) -> bool:
    """By keys and serials alone: the name may have been another node's before."""
    rows = [certificates.get(reader, serial) for serial in lost.serials]
    gone = [row is not None and row.revoked_at is not None for row in rows]
    gone += [certificates.cut_off(reader, node_id, lost.below_serial - 1) for node_id in lost.nodes]
    gone += [certificates.key_revoked(reader, key) for key in lost.keys]
    return bool(gone) and all(gone)


def read_lost_days(
    tx: Transaction,
    here: Sequence[Path],
    given: Sequence[Path],
    heads: Sequence[HeldHead],
    backup: HeldHead,
    matters_from: int,
) -> LostDays:
    """
    Read the rows of after the backup, and keep what they say of certificates in the database.

    @param here: files of the state directory; those of another history than the backup's are passed over.
    @param given: files that people name.
    @param heads: from elsewhere.
    @param backup: where the chain of the backup ends.
    @param matters_from: what was issued before has ended, grace and all.
    @raise ConfigurationError: C{wrong-audit}, if a named file is of another history.
    """
    lost = LostDays()
    lost_certificates.forget_before(tx, matters_from)
    for path, found in _surveys((*here, *given), [*heads, backup]).items():
        if backup.size and backup not in found.met:
            if path in given:
                raise ConfigurationError(
                    "wrong-audit",
                    f"{path} does not pass through row {backup.size} of the backup's audit: it is of another"
                    f" history, or ends before. {found.broken}".rstrip(),
                )
            remark = found.broken or "of another history than the backup, or older"
            lost.told.append(AuditTold(path, 0, 0, remark))
            continue
        verified = max(found.verified, backup.size)
        lost.told.append(
            AuditTold(path, found.size - backup.size, verified - backup.size, found.broken or _forked(found))
        )
        lost.epochs.append((path, found.epoch))
        lost.heads += [
            AuditHead(met.epoch, met.size, met.digest)
            for met in found.met
            if met.size == verified and met.size > backup.size
        ]
        for row in _rows(path, backup.size, found.size):
            lost.take(row, row.seq <= verified, backup.epoch, matters_from)
            if len(lost.certificates) >= ROWS_AT_ONCE:
                lost.store(tx)
        lost.store(tx)
    newest_first = sorted(dict.fromkeys(lost.heads), key=lambda head: head.epoch, reverse=True)
    lost.heads = newest_first[:HEADS_NAMED]
    return lost


def _surveys(paths: Sequence[Path], heads: Sequence[HeldHead]) -> dict[Path, Survey]:
    """Compare all with these heads, and with those that any of them then vouches for."""
    known = dict.fromkeys(heads)
    while True:
        found = {path: survey(path, [*known]) for path in paths}
        before = len(known)
        known |= dict.fromkeys(head for each in found.values() for head in each.vouched)
        if len(known) == before:
            return found


def _forked(found: Survey) -> str:
    return "; ".join(f"row {head.size} is another one than {head.where} names" for head in found.forked)


def _rows(path: Path, after: int, last: int) -> Iterator[AuditRow]:
    for row in audit_rows(path):
        if row.seq > after:
            yield row
        if row.seq >= last:
            return  # what follows may be torn


def missing_revocations(
    reader: Reader, files: NodeFiles, lost: LostDays, crl_of_restore: int | None = None
) -> list[str]:
    """
    In words, what is known to be revoked and is not in force, once the CRLs of C{files} were merged.

    @param crl_of_restore: the number of a CRL that no node has had; files of nodes are older than that.
    """
    mark, found = documents.newest_crl_mark(reader), []
    own = -1 if mark is None else mark[0]
    newest = max(files.crl, own)
    names = lost.missing(reader, newest)
    if names:
        shown = ", ".join(names[:NAMED]) + ", ..." * (len(names) > NAMED)
        found.append(
            f"the audit names {len(names)} revocations after this backup that these files lack: {shown}"
        )
    found += [
        f"{file.path} names CRL {file.document.body.crl.number}, newer than these files"
        for file in files.statuses
        if file.document.body.crl.number > newest
    ]
    if files.crls and files.crl < own != crl_of_restore:
        found.append(f"the newest of these CRLs is number {files.crl}, older than the backup")
    return found


def newer_policy(files: NodeFiles, lost: LostDays, version: int) -> list[str]:
    """In words, who knows of a policy above C{version}, the newest of the files and the backup."""
    known = [(str(file.path), file.document.body.policy.version) for file in files.statuses]
    known.append(("the audit", lost.policy))
    return [
        f"{where} names policy {number}, and the newest of these files and the backup is {version}"
        for where, number in known
        if number > version
    ]


def _read(row: AuditRow, value: dict[str, Any], struct: type[Any]) -> Any:
    try:
        return msgspec.convert(value, struct)
    except msgspec.ValidationError as error:
        raise StoreError("audit-broken", f"audit row {row.seq}: {human_error(error)}") from error
