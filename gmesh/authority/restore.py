# SPDX-License-Identifier: MIT
"""
Restore a backup, while the daemon is stopped, with what nodes hold.

A restored database is older than what nodes have seen.  So restoring raises the epoch, which all
serials and numbers start from, takes in the newest CRL and policy that any node holds, withdraws
the invites that were open (some were used), and refuses what was signed before it.  It goes by the
newest genesis that the backup, the state directory or the database there knows, and leaves it there.

Evidence for somebody (a policy, a number) counts only if a key of the newest genesis signed it.
Evidence against somebody (an entry of a CRL) counts from a key that was dropped, too: a thief who
has it can bar members, which is seen and undone, but admits nobody.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from gmesh.authority import audit
from gmesh.authority.audit import AuditMirror
from gmesh.authority.backups import AUDIT_PAGE, file_digest, verify_audit
from gmesh.authority.issuer import DocumentIssuer, epoch, policy_text
from gmesh.authority.state import DATABASE, EPOCH_FILE, LOCK, MIRROR, StateDirectory, check_state, read_epoch
from gmesh.authority.store import audit as audit_rows
from gmesh.authority.store import certificates, documents, engine, invites, migrate, nodes, operators
from gmesh.authority.store.clean_shutdown import take_clean
from gmesh.authority.store.history import begin_instance
from gmesh.authority.store.transaction import SERIALS_PER_EPOCH, Reader, Transaction, transaction
from gmesh.daemon.lock import StateLock
from gmesh.errors import ConfigurationError, DocumentRefused, StoreError
from gmesh.files import read_capped, write_atomic
from gmesh.keyfiles import Passphrases
from gmesh.trust.documents import Body, Crl, Document, Genesis, Policy, parse_document
from gmesh.trust.keys import decode_public, key_id
from gmesh.trust.limits import DOCUMENT_LIMITS, MAX_INTEGER
from gmesh.trust.verify import authority_keys, verify_genesis_chain, verify_signatures

__all__ = ["NodeFile", "NodeFiles", "Restored", "follow_policy", "merge_crl", "read_node_files", "restore"]

EPOCH_ZERO = 1_735_689_600  # 2025-01-01
DAY = 86_400
EPOCHS_AHEAD = 366
"""How far the epoch of a node's file may lie above the days since L{EPOCH_ZERO}: a clock a year ahead."""
B = TypeVar("B", Crl, Policy)


@dataclass(frozen=True, slots=True)
class NodeFile(Generic[B]):
    """
    A document and where it was found.

    @ivar dropped: only keys signed it that the newest genesis no longer lists.
    """

    path: Path
    document: Document[B]
    dropped: bool


@dataclass(frozen=True, slots=True)
class NodeFiles:
    """
    The files given to a restore.

    @ivar crls: signed by a key of the newest genesis.
    @ivar dropped_crls: signed by dropped keys only.
    @ivar policies: signed by a key of the newest genesis.
    """

    crls: list[NodeFile[Crl]]
    dropped_crls: list[NodeFile[Crl]]
    policies: list[NodeFile[Policy]]

    def epoch(self, bound: int) -> int:
        """
        The highest epoch of a number in these files; -1 without files.

        @param bound: the highest that can be right.
        @raise ConfigurationError: C{epoch-beyond}, naming the file that lies above.
        """
        numbers = [(file.path, file.document.body.number) for file in self.crls]
        numbers += [(file.path, file.document.body.version) for file in self.policies]
        for path, number in numbers:
            if number // SERIALS_PER_EPOCH > bound:
                raise ConfigurationError(
                    "epoch-beyond",
                    f"{path}: number {number} is of epoch {number // SERIALS_PER_EPOCH}, and this authority"
                    f" cannot have come beyond {bound}: leave that file out, and compare the clock",
                )
        return max((number // SERIALS_PER_EPOCH for _, number in numbers), default=-1)


def read_node_files(
    crls: Sequence[Path], policies: Sequence[Path], chain: Sequence[Document[Genesis]], network: str
) -> NodeFiles:
    """
    Read files of nodes and judge who signed them.

    @param chain: the whole genesis chain, its newest version the newest that anybody here knows.
    @raise ConfigurationError: for what no authority key ever signed, and for a policy that only dropped
        keys signed; it names the file.
    """
    found = [_read(path, Crl, chain, network) for path in crls]
    texts = [_read(path, Policy, chain, network) for path in policies]
    for file in texts:
        if file.dropped:
            version = chain[-1].body.version
            raise ConfigurationError(
                "dropped-key",
                f"{file.path}: this policy is signed by a key that genesis {version} dropped, so a thief may"
                f" have written it: take policy.json of a node that holds genesis {version}, or none",
            )
    return NodeFiles(
        [file for file in found if not file.dropped], [file for file in found if file.dropped], texts
    )


def _read(path: Path, struct: type[B], chain: Sequence[Document[Genesis]], network: str) -> NodeFile[B]:
    try:
        document = parse_document(read_capped(path, DOCUMENT_LIMITS[struct.TYPE]), struct)
        dropped = _is_dropped(document, chain)
    except DocumentRefused as error:
        hint = ": if a newer genesis lists its key, put that genesis.json into --state" * (
            error.reason == "unknown-key"
        )
        raise ConfigurationError(error.reason, f"{path}: {error.detail}{hint}") from error
    if document.body.network_id != network:
        raise ConfigurationError("wrong-network", f"{path} belongs to another network")
    return NodeFile(path, document, dropped)


def _is_dropped(document: Document[Body], chain: Sequence[Document[Genesis]]) -> bool:
    """@raise DocumentRefused: if no authority key of any genesis signed it."""
    try:
        verify_signatures(document, authority_keys(chain[-1].body))
    except DocumentRefused:
        ever: dict[str, bytes] = {}
        for genesis in chain:
            ever |= authority_keys(genesis.body)
        verify_signatures(document, ever)
        return True
    return False


def merge_crl(tx: Transaction, crl: Crl, epoch: int, last_end: int = MAX_INTEGER) -> list[str]:
    """
    Revoke what a CRL names, but for serials of C{epoch} or later: none of them is given out yet.

    @param last_end: when any certificate has ended; entries that say later end then, and leave our CRLs.
    @return: what was not revoked before: names of nodes, and serials and key_ids where none is known.
    """
    done = []
    for serial, not_after, reason in crl.revoked:
        row = certificates.get(tx, serial)
        if row is not None:
            if certificates.revoke(tx, serial, reason):
                done.append(row.name or f"serial {serial}")
                node = nodes.by_id(tx, row.node_id)
                if node is not None and node.serial == serial:
                    nodes.bar(tx, row.node_id)
        elif serial // SERIALS_PER_EPOCH < epoch:
            end = min(not_after, last_end)
            certificates.add(tx, certificates.unknown_revoked(serial, end, tx.now, reason))
            done.append(f"serial {serial}")
    for name, not_after in crl.revoked_keys:
        nodes.bar(tx, name)
        end = max(min(not_after, last_end), certificates.last_end(tx, name))
        if certificates.revoke_key(tx, name, end, 1):
            node = nodes.by_id(tx, name)
            done.append(f"key {name}" if node is None else f"key of {node.name}")
    return done


def follow_policy(tx: Transaction, policy: Policy) -> None:
    """Make the operators those that C{policy} names, and no others."""
    wanted = {key_id(decode_public(operator.key)): operator for operator in policy.operators}
    for row in operators.everyone(tx):
        if row.key_id not in wanted or wanted[row.key_id].role != row.role:
            operators.forget(tx, row.key_id)
    for name, operator in wanted.items():
        operators.forget_revoked(tx, name)
        operators.add(
            tx, operators.OperatorRow(name, operator.key, operator.role, "restored", tx.now, "restore")
        )


@dataclass(frozen=True, slots=True)
class Restored:
    """
    What a restore did, for people.

    @ivar revocations: taken in from CRLs that a key of the newest genesis signed.
    @ivar revoked_by_dropped_keys: what only CRLs of dropped keys name: nodes, serials, keys.
    @ivar operators_before: of the backup.
    @ivar operators_after: from now on.
    """

    epoch: int
    revocations: int
    revoked_by_dropped_keys: list[str]
    policy_version: int
    invites_withdrawn: int
    operators_before: list[operators.OperatorRow]
    operators_after: list[operators.OperatorRow]


def restore(
    state: Path,
    backup: Path,
    now: int,
    crl_files: Sequence[Path] = (),
    policy_files: Sequence[Path] = (),
    accept_lost_revocations: bool = False,
    passphrases: Passphrases | None = None,
) -> Restored:
    """
    Put a backup in the place of the database of a stopped daemon; it may be that database itself.

    @param crl_files: C{crl.json} of nodes, the newest that can be found.
    @param policy_files: C{policy.json} of nodes.
    @param passphrases: asked for the signing keys that are sealed.
    @raise ConfigurationError: C{lost-revocations} without such files; C{in-use}; C{dropped-key} and
        C{epoch-beyond}, naming the file of a node that cannot be trusted.
    @raise StoreError: if the backup is damaged or another network's.
    """
    if not backup.is_file():
        raise ConfigurationError("missing-file", f"{backup} does not exist")
    if not (crl_files and policy_files) and not accept_lost_revocations:
        raise _lost_revocations("give a node's newest crl.json and policy.json")
    check_state(state)
    lock = StateLock(state / LOCK, "gmesh-authority")
    try:
        directory = StateDirectory(state, now, passphrases)
        directory.keep_genesis(_genesis_held(directory))
        manifest = backup.with_suffix(".json")
        if manifest.exists():
            _check_manifest(backup, manifest)
        if directory.database.exists() and backup.samefile(directory.database):
            engine.connect(backup).close()  # what a crash left in its log, into the file
        engine.check_integrity(backup, still=True)
        fresh = state / (DATABASE + ".restoring")
        shutil.copyfile(backup, fresh)
        fresh.chmod(0o600)
        try:
            done = _rework(fresh, directory, now, crl_files, policy_files, accept_lost_revocations)
            _swap(state, fresh, now, done.epoch)
        finally:
            for leftover in state.glob(fresh.name + "*"):
                leftover.unlink()
    except engine.EngineError as error:
        raise engine.explain(error, backup) from error
    finally:
        lock.release()
    return done


def _genesis_held(directory: StateDirectory) -> list[Document[Genesis]]:
    """The genesis chain of the database that is to be replaced; empty if it cannot be read any more."""
    if not directory.database.exists():
        return []
    try:
        with engine.reading(directory.database) as cursor:
            chain = [parse_document(body, Genesis) for body in documents.genesis_chain(Reader(cursor))]
        verify_genesis_chain(chain, directory.network_id)
    except (engine.EngineError, DocumentRefused):
        return []
    return chain


def _lost_revocations(way_out: str) -> ConfigurationError:
    return ConfigurationError(
        "lost-revocations",
        f"what was revoked since the backup would be allowed again: {way_out}, or --accept-lost-revocations",
    )


def _rework(
    fresh: Path,
    directory: StateDirectory,
    now: int,
    crl_files: Sequence[Path],
    policy_files: Sequence[Path],
    accept_lost_revocations: bool,
) -> Restored:
    connection = engine.connect(fresh)
    try:
        migrate.migrate(connection, now)
        with transaction(connection, now) as tx:
            verify_audit(tx)
            issuer = directory.issuer()
            chain = directory.store_genesis(tx, issuer)
            files = read_node_files(crl_files, policy_files, chain, issuer.network_id)
            if not files.crls and not accept_lost_revocations:
                raise _lost_revocations(
                    f"{crl_files[0]} is signed by a key that genesis {chain[-1].body.version} dropped; give"
                    " crl.json of a node that holds this genesis"
                )
            done = _rework_rows(tx, directory, issuer, files)
            directory.keep_genesis(chain)
            return done
    finally:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.close()


def _rework_rows(
    tx: Transaction, directory: StateDirectory, issuer: DocumentIssuer, files: NodeFiles
) -> Restored:
    before, operators_before = epoch(tx), operators.everyone(tx)
    own, days = max(before, read_epoch(directory.path)), (tx.now - EPOCH_ZERO) // DAY
    raised = max(own + 1, days, files.epoch(max(own, days + EPOCHS_AHEAD)) + 1)
    tx.set_mark("epoch", raised)
    tx.set_mark("high_water", tx.now)
    tx.set_mark("restored_at", tx.now)
    tx.restart_counters()
    begin_instance(tx)
    withdrawn = invites.withdraw_all(tx)
    held = documents.newest_policy(tx)
    if held is None:
        raise StoreError("corrupt", "the backup holds no policy")
    policies = [parse_document(held, Policy), *(file.document for file in files.policies)]
    newest = max(policies, key=lambda document: document.body.version)
    issuer.policy = newest
    revocations = sum(len(merge_crl(tx, file.document.body, raised)) for file in files.crls)
    last_end = tx.now + newest.body.certificate.max
    doubtful = [
        name for file in files.dropped_crls for name in merge_crl(tx, file.document.body, raised, last_end)
    ]
    if newest.encode() != held:
        follow_policy(tx, newest.body)
    policy = issuer.next_policy(tx, policy_text(newest), "restore")
    issuer.policy = policy
    audit.record(
        tx,
        "authority",
        "restore",
        str(raised),
        previous_epoch=before,
        revocations=revocations,
        by_dropped_keys=len(doubtful),
    )
    try:
        issuer.crl(tx)
    except DocumentRefused as error:
        if not files.dropped_crls:
            raise
        names = ", ".join(str(file.path) for file in files.dropped_crls)
        raise ConfigurationError(
            error.reason, f"{error.detail}; or leave out what dropped keys signed: {names}"
        ) from error
    return Restored(
        raised,
        revocations,
        doubtful,
        policy.body.version,
        withdrawn,
        operators_before,
        operators.everyone(tx),
    )


def _check_manifest(backup: Path, manifest: Path) -> None:
    try:
        said = json.loads(read_capped(manifest, 64 * 1024))["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError("corrupt", f"{manifest} is not a manifest") from error
    if said != file_digest(backup):
        raise StoreError("corrupt", f"{backup} is not the file its manifest describes")


def _swap(state: Path, fresh: Path, now: int, raised: int) -> None:
    write_atomic(state / EPOCH_FILE, json.dumps({"epoch": raised}).encode(), 0o600)
    take_clean(state / DATABASE)
    for name in (DATABASE, DATABASE + "-wal", DATABASE + "-shm", MIRROR):
        path = state / name
        if path.exists():
            os.replace(path, state / f"{name}.before-restore-{now}")
    owner = state.stat()
    if os.geteuid() == 0:
        os.chown(fresh, owner.st_uid, owner.st_gid)
    os.replace(fresh, state / DATABASE)
    connection = engine.connect(state / DATABASE)
    try:
        mirror, after = AuditMirror(state / MIRROR), 0
        while rows := audit_rows.page(Reader(connection.cursor()), after, AUDIT_PAGE):
            mirror.append(rows)
            after = rows[-1][0]
    finally:
        connection.close()
