# SPDX-License-Identifier: MIT
"""
Backup while the daemon runs, restore while it does not.

A restored database is older than what nodes have seen.  So restoring raises the epoch, which all
serials and numbers start from, takes in the newest CRL and policy that any node holds, withdraws
the invites that were open (some were used), and refuses what was signed before it.  It goes by the
newest genesis that the backup, the state directory or the database there knows, and leaves it there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmesh.authority import audit
from gmesh.authority.audit import AuditMirror, verify_chain
from gmesh.authority.issuer import Issuer, epoch, policy_text
from gmesh.authority.node_files import NodeFiles, follow_policy, merge_crl, read_node_files
from gmesh.authority.state import DATABASE, EPOCH_FILE, LOCK, MIRROR, StateDirectory, check_state, read_epoch
from gmesh.authority.store import audit as audit_rows
from gmesh.authority.store import documents, engine, invites, migrate, operators
from gmesh.authority.store.clean import take_clean
from gmesh.authority.store.transaction import Reader, Transaction, transaction
from gmesh.daemon.lock import StateLock
from gmesh.errors import ConfigurationError, DocumentRefused, StoreError
from gmesh.files import read_capped, write_atomic
from gmesh.keyfiles import Passphrases
from gmesh.trust.documents import Document, Genesis, Policy, parse_document
from gmesh.trust.verify import verify_genesis_chain

__all__ = ["Restored", "make_backup", "restore", "verify_audit"]

EPOCH_ZERO = 1_735_689_600  # 2025-01-01
DAY = 86_400
EPOCHS_AHEAD = 366
"""How far the epoch of a node's file may lie above the days since L{EPOCH_ZERO}: a clock a year ahead."""
AUDIT_PAGE = 5000


def verify_audit(reader: Reader) -> tuple[int, str]:
    """
    Recompute the whole chain of a database.

    @return: its size and head.
    @raise StoreError: C{audit-broken}.
    """
    seq, head = 0, bytes(32)
    while rows := audit_rows.page(reader, seq, AUDIT_PAGE):
        seq, head = verify_chain(rows, seq, head)
    return seq, head.hex()


def make_backup(database: Path, target: Path, now: int) -> dict[str, Any]:
    """
    Copy a live database, check the copy, and write its manifest beside it. Blocks.

    @return: the manifest.
    @raise StoreError: C{corrupt}, C{audit-broken}, C{unavailable}.
    """
    target.parent.mkdir(mode=0o700, exist_ok=True)
    part = target.with_suffix(".part")
    try:
        part.touch(0o600)
        engine.backup(database, part)
        with ThreadPoolExecutor(2) as pool:
            synced, digest = pool.submit(engine.sync, part), pool.submit(_digest, part)
            engine.check_integrity(part, still=True)
            with engine.reading(part) as cursor:
                reader = Reader(cursor)
                size, head = verify_audit(reader)
                raised = epoch(reader)
            synced.result()
        manifest = {
            "file": target.name,
            "bytes": part.stat().st_size,
            "sha256": digest.result(),
            "taken_at": now,
            "epoch": raised,
            "audit": {"size": size, "head": head},
        }
        os.replace(part, target)
        write_atomic(target.with_suffix(".json"), json.dumps(manifest).encode(), 0o600)
    except engine.EngineError as error:
        raise engine.explain(error, part) from error
    except OSError as error:
        raise StoreError("unavailable", f"cannot write {target}: {error.strerror}") from error
    finally:
        for leftover in part.parent.glob(part.name + "*"):
            leftover.unlink()
    return manifest


def _digest(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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
    Put a backup in the place of the database of a stopped daemon.

    @param crl_files: C{crl.json} of nodes, the newest that can be found.
    @param policy_files: C{policy.json} of nodes.
    @param passphrases: asked for the signing keys that are sealed.
    @raise ConfigurationError: C{lost-revocations} without such files; C{in-use}; C{dropped-key} and
        C{epoch-beyond}, naming the file of a node that is not to be believed.
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


def _rework_rows(tx: Transaction, directory: StateDirectory, issuer: Issuer, files: NodeFiles) -> Restored:
    before, operators_before = epoch(tx), operators.everyone(tx)
    own, days = max(before, read_epoch(directory.path)), (tx.now - EPOCH_ZERO) // DAY
    raised = max(own + 1, days, files.epoch(max(own, days + EPOCHS_AHEAD)) + 1)
    tx.set_mark("epoch", raised)
    tx.set_mark("high_water", tx.now)
    tx.set_mark("restored_at", tx.now)
    tx.restart_counters()
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
        raise StoreError("corrupt", f"{manifest} is no manifest") from error
    if said != _digest(backup):
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
