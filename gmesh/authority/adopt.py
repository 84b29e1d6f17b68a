# SPDX-License-Identifier: MIT
"""
Going on with a shared database that is not the one it was, after its administrators put it there by their own
tools: a dump of yesterday, another point in time, a standby that lacked the last rows, another server.

Where nothing was lost, that is noted, and no more.  Else it is reworked as by a restore, with what nodes hold
and with what this host has: its audit, and the newest documents that it showed.
Tests: C{tests/authority/test_adopt.py}.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from gmesh.authority import audit
from gmesh.authority.audit import AuditMirror, verify_audit
from gmesh.authority.database_copy import copy_end, explained, snapshot
from gmesh.authority.restore import Choices, Evidence, Restored, restore
from gmesh.authority.restore_place import SharedPlace
from gmesh.authority.seen import check_seen
from gmesh.authority.shown_files import shown_files
from gmesh.authority.state import DATABASE, LOCK, MIRROR, check_state
from gmesh.authority.store.copy_sqlite import SqliteEnd
from gmesh.authority.store.identity import check_here
from gmesh.authority.store.transaction import transaction
from gmesh.daemon.lock import StateLock
from gmesh.keyfiles import Passphrases

__all__ = ["adopt", "adopt_whole"]

NO_EVIDENCE, NO_CHOICES = Evidence(), Choices()


def adopt_whole(state: Path, engine: Any, now: int) -> None:
    """
    Take it as it is: it was moved while the authority was stopped, and nothing was lost.

    @param engine: L{gmesh.authority.interfaces.IEngine} of the database.
    @raise StoreError: C{in-use}; C{older-database}, if it lacks what this host, or a daemon
        that ran, has seen; C{audit-broken}.
    """
    check_state(state)
    lock = StateLock(state / LOCK, "gmesh-authority")
    try:
        nobody = copy_end(engine)
        with explained(nobody):
            nobody.begin_source(alone=True)
        with (
            explained(nobody),
            closing(engine.connect()) as connection,
            transaction(connection, now, adopt=True) as tx,
        ):
            check_seen(tx, state / MIRROR, AuditMirror(state / MIRROR))
            check_here(tx.marks)
            size, head = verify_audit(tx)
            audit.record(tx, "authority", "adopt-database", "whole", size=size, head=head)
    finally:
        lock.release()


def adopt(
    state: Path,
    engine: Any,
    now: int,
    crl_files: Sequence[Path] = (),
    policy_files: Sequence[Path] = (),
    accept_lost_revocations: bool = False,
    passphrases: Passphrases | None = None,
    evidence: Evidence = NO_EVIDENCE,
    choices: Choices = NO_CHOICES,
) -> Restored:
    """
    Rework it in its place, as by L{gmesh.authority.restore.restore}, whose arguments these are.

    @param engine: L{gmesh.authority.interfaces.IEngine} of the database.
    @raise ConfigurationError: as that.
    @raise StoreError: as that.
    """
    check_state(state)
    taken = state / f"{DATABASE}.adopting"
    taken.unlink(missing_ok=True)
    try:
        lock = StateLock(state / LOCK, "gmesh-authority")
        try:
            snapshot(copy_end(engine), SqliteEnd(taken), now, alone=True)
        finally:
            lock.release()
        held = shown_files(state)
        return restore(
            state,
            taken,
            now,
            [*crl_files, *held.crls],
            [*policy_files, *held.policies],
            accept_lost_revocations,
            passphrases,
            Evidence([*evidence.statuses, *held.statuses], evidence.audits, evidence.heads),
            choices,
            place=SharedPlace(engine, state),
        )
    finally:
        taken.unlink(missing_ok=True)
