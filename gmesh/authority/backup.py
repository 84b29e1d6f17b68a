# SPDX-License-Identifier: MIT
"""
Backup while the daemon runs, restore while it does not.

A restored database is older than what nodes have seen.  So restoring raises the epoch, which all
serials and numbers start from, takes in the newest CRL and policy that any node holds, withdraws
the invites that were open (some were used), and refuses what was signed before it.
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
from gmesh.authority.state import DATABASE, EPOCH_FILE, LOCK, MIRROR, StateDirectory, check_state, read_epoch
from gmesh.authority.store import audit as audit_rows
from gmesh.authority.store import certificates, documents, engine, invites, migrate, nodes, operators
from gmesh.authority.store.clean import take_clean
from gmesh.authority.store.transaction import SERIALS_PER_EPOCH, Reader, Transaction, transaction
from gmesh.daemon.lock import StateLock
from gmesh.errors import ConfigurationError, DocumentRefused, StoreError
from gmesh.files import read_capped, write_atomic
from gmesh.keyfiles import Passphrases
from gmesh.trust.documents import Crl, Document, Policy, parse_document
from gmesh.trust.keys import decode_public, key_id
from gmesh.trust.limits import DOCUMENT_LIMITS
from gmesh.trust.verify import verify_signatures

__all__ = ["Restored", "make_backup", "restore", "verify_audit"]

EPOCH_ZERO = 1_735_689_600  # 2025-01-01
DAY = 86_400
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
    """What a restore did, for people."""

    epoch: int
    revocations: int
    policy_version: int
    invites_withdrawn: int


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
    @raise ConfigurationError: C{lost-revocations} without such files; C{in-use}.
    @raise StoreError: if the backup is damaged or another network's.
    """
    if not backup.is_file():
        raise ConfigurationError("missing-file", f"{backup} does not exist")
    if not (crl_files and policy_files) and not accept_lost_revocations:
        raise ConfigurationError(
            "lost-revocations",
            "what was revoked since the backup would be allowed again: give a node's newest crl.json and"
            " policy.json, or --accept-lost-revocations",
        )
    check_state(state)
    lock = StateLock(state / LOCK, "gmesh-authority")
    try:
        directory = StateDirectory(state, now, passphrases)
        manifest = backup.with_suffix(".json")
        if manifest.exists():
            _check_manifest(backup, manifest)
        engine.check_integrity(backup, still=True)
        fresh = state / (DATABASE + ".restoring")
        shutil.copyfile(backup, fresh)
        fresh.chmod(0o600)
        try:
            done = _rework(fresh, directory, now, crl_files, policy_files)
            _swap(state, fresh, now, done.epoch)
        finally:
            for leftover in state.glob(fresh.name + "*"):
                leftover.unlink()
    except engine.EngineError as error:
        raise engine.explain(error, backup) from error
    finally:
        lock.release()
    return done


def _rework(
    fresh: Path, directory: StateDirectory, now: int, crl_files: Sequence[Path], policy_files: Sequence[Path]
) -> Restored:
    connection = engine.connect(fresh)
    try:
        migrate.migrate(connection, now)
        with transaction(connection, now) as tx:
            verify_audit(tx)
            issuer = directory.issuer()
            directory.store_genesis(tx, issuer)
            keys = issuer.keys_ever(tx)
            crls = [_read(path, Crl, keys, issuer.network_id) for path in crl_files]
            policies = [_read(path, Policy, keys, issuer.network_id) for path in policy_files]
            return _rework_rows(tx, directory, issuer, crls, policies)
    finally:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.close()


def _rework_rows(
    tx: Transaction,
    directory: StateDirectory,
    issuer: Issuer,
    crls: list[Document[Crl]],
    policies: list[Document[Policy]],
) -> Restored:
    seen = [document.body.number for document in crls] + [document.body.version for document in policies]
    raised = max(
        epoch(tx) + 1,
        read_epoch(directory.path) + 1,
        (tx.now - EPOCH_ZERO) // DAY,
        *(number // SERIALS_PER_EPOCH + 1 for number in seen),
    )
    before = epoch(tx)
    tx.set_mark("epoch", raised)
    tx.set_mark("high_water", tx.now)
    tx.set_mark("restored_at", tx.now)
    tx.restart_counters()
    withdrawn = invites.withdraw_all(tx)
    revocations = sum(_merge_crl(tx, document.body) for document in crls)
    held = documents.newest_policy(tx)
    if held is None:
        raise StoreError("corrupt", "the backup holds no policy")
    newest = max([parse_document(held, Policy), *policies], key=lambda document: document.body.version)
    issuer.policy = newest
    if newest.encode() != held:
        _follow_policy(tx, newest.body)
    policy = issuer.next_policy(tx, policy_text(newest), "restore")
    issuer.policy = policy
    audit.record(tx, "authority", "restore", str(raised), previous_epoch=before, revocations=revocations)
    issuer.crl(tx)
    return Restored(raised, revocations, policy.body.version, withdrawn)


def _merge_crl(tx: Transaction, crl: Crl) -> int:
    count = 0
    for serial, not_after, reason in crl.revoked:
        row = certificates.get(tx, serial)
        if row is None:
            certificates.add(tx, certificates.unknown_revoked(serial, not_after, tx.now, reason))
            count += 1
        elif certificates.revoke(tx, serial, reason):
            count += 1
            node = nodes.by_id(tx, row.node_id)
            if node is not None and node.serial == serial:
                nodes.bar(tx, row.node_id)
    for name, not_after in crl.revoked_keys:
        nodes.bar(tx, name)
        count += certificates.revoke_key(tx, name, not_after, 1)
    return count


def _follow_policy(tx: Transaction, policy: Policy) -> None:
    wanted = {key_id(decode_public(operator.key)): operator for operator in policy.operators}
    for row in operators.everyone(tx):
        if row.key_id not in wanted or wanted[row.key_id].role != row.role:
            operators.forget(tx, row.key_id)
    for name, operator in wanted.items():
        operators.forget_revoked(tx, name)
        operators.add(
            tx, operators.OperatorRow(name, operator.key, operator.role, "restored", tx.now, "restore")
        )


def _read(path: Path, struct: Any, keys: dict[str, bytes], network: str) -> Document[Any]:
    try:
        document = parse_document(read_capped(path, DOCUMENT_LIMITS[struct.TYPE]), struct)
        verify_signatures(document, keys)
    except DocumentRefused as error:
        raise ConfigurationError(error.reason, f"{path}: {error.detail}") from error
    if document.body.network_id != network:
        raise ConfigurationError("wrong-network", f"{path} belongs to another network")
    return document


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
