# SPDX-License-Identifier: MIT
"""
Whether a shared database holds what this host has seen of it before, by its C{audit.jsonl}.

What an administrator decided about a lost past, on any host, holds on all: one that saw no more of it
than they took in keeps its file aside and goes on with theirs.
Tests: C{tests/authority/test_identity.py}, C{tests/authority/test_failover.py}.
"""

from __future__ import annotations

import os
from pathlib import Path

from gmesh.authority.audit import AuditMirror
from gmesh.authority.audit_file import audit_rows as file_rows
from gmesh.authority.audit_file import survey
from gmesh.authority.store import audit as audit_rows
from gmesh.authority.store.identity import older_database
from gmesh.authority.store.transaction import Reader, Transaction

__all__ = ["check_seen", "note_taken_in"]

_EPOCH, _ROWS, _HEAD = "taken_in_epoch", "taken_in_rows", "taken_in_head"


def note_taken_in(tx: Transaction, epoch: int, rows: int) -> None:
    """
    People decided what counts; called before the first row of what they decided.

    @param epoch: that begins.
    @param rows: of the longest audit that was read.
    """
    tx.set_mark(_HEAD, tx.audit_head[0])
    tx.set_mark(_EPOCH, epoch)
    tx.set_mark(_ROWS, rows)


def check_seen(reader: Reader, path: Path, mirror: AuditMirror) -> None:
    """
    @param path: the audit file that C{mirror} goes on with.
    @raise StoreError: C{older-database}.
    """
    last = mirror.last()
    if not last or audit_rows.hash_of(reader, last) == bytes.fromhex(mirror.last_hash):
        return
    decided = reader.mark(_EPOCH)
    if (
        decided is None
        or decided <= survey(path, []).epoch
        or last > (reader.mark(_ROWS) or 0)
        or not _passes_through(reader, path, reader.mark(_HEAD) or 0)
    ):
        raise older_database(f"it lacks row {last} of {path}, so that an older one was put back")
    os.replace(path, path.with_name(f"{path.name}.before-restore-{decided}"))
    mirror.last_hash = ""


def _passes_through(reader: Reader, path: Path, row: int) -> bool:
    """
    Whether a file has a row as the database has it. Of the last before the decision: then it holds what
    followed it there and was taken in, and not what a fork added.
    """
    found = next((each.digest for each in file_rows(path) if each.seq == row), None)
    return found is not None and found == audit_rows.hash_of(reader, row)
