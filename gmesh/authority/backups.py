# SPDX-License-Identifier: MIT
"""Backup while the daemon runs: a checked copy of the database and its manifest."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gmesh.authority import audit
from gmesh.authority.audit import verify_audit
from gmesh.authority.auth import Caller
from gmesh.authority.database_copy import copy_end, snapshot
from gmesh.authority.issuer import epoch
from gmesh.authority.store import sqlite
from gmesh.authority.store.copy_sqlite import SqliteEnd
from gmesh.authority.store.transaction import Reader, Transaction
from gmesh.authority.store.writer import Store
from gmesh.errors import RequestRefused, StoreError
from gmesh.files import write_atomic

__all__ = ["Backups", "file_digest", "make_backup"]


def make_backup(engine: Any, target: Path, now: int) -> dict[str, Any]:
    """
    Copy a live database into a file, check the copy, and write its manifest beside it. Blocks.

    @param engine: L{gmesh.authority.interfaces.IEngine} of the database, which several daemons may share.
    @return: the manifest.
    @raise StoreError: C{corrupt}, C{audit-broken}, C{unavailable}.
    """
    target.parent.mkdir(mode=0o700, exist_ok=True)
    part = target.with_suffix(".part")
    try:
        if engine.shared:
            part.unlink(missing_ok=True)
            snapshot(copy_end(engine), SqliteEnd(part), now)
        else:
            part.touch(0o600)
            sqlite.backup(engine.path, part)
        with ThreadPoolExecutor(2) as pool:
            synced, digest = pool.submit(sqlite.sync, part), pool.submit(file_digest, part)
            sqlite.check_integrity(part, still=True)
            with sqlite.reading(part) as cursor:
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
    except sqlite.EngineError as error:
        raise sqlite.explain(error, part) from error
    except OSError as error:
        raise StoreError("unavailable", f"cannot write {target}: {error.strerror}") from error
    finally:
        for leftover in part.parent.glob(part.name + "*"):
            leftover.unlink()
    return manifest


class Backups:
    """The use case of administrators who want a copy, one at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._making = ""

    async def make(self, caller: Caller) -> dict[str, Any]:
        """
        Copy the database into C{backups/} of the state directory; the name is made here.

        @raise RequestRefused: C{conflict}, while one is being made, also where nobody waits for it any more.
        """

        def begin(tx: Transaction) -> int:
            caller.claim(tx)
            self._check_free()
            audit.record(tx, caller.key_id, "backup", "", request_id=caller.request_id)
            return tx.now

        now = await self._store.decide(begin)
        self._check_free()  # another may have begun meanwhile
        self._making = f"authority-{now}-{caller.request_id}.sqlite"
        target = self._store.state / "backups" / self._making
        return await self._store.in_thread(
            lambda: make_backup(self._store.engine, target, now), ended=self._made
        )

    def _made(self) -> None:
        self._making = ""

    def _check_free(self) -> None:
        if self._making:
            raise RequestRefused(
                "conflict", f"backups/{self._making} is being made: it has a .json beside it when it is whole"
            )


def file_digest(path: Path) -> str:
    """SHA-256, hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
