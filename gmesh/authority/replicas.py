# SPDX-License-Identifier: MIT
"""
The daemons that serve from one database, as operators see them, and what each of them must be able to do.

Tests: C{tests/authority/test_replica_reports.py}.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed

from gmesh.authority import limits
from gmesh.authority.published import Publisher
from gmesh.authority.store import replicas as replica_rows
from gmesh.authority.store.replicas import ReplicaReport
from gmesh.authority.store.transaction import Reader
from gmesh.authority.store.writer import Store
from gmesh.errors import RequestRefused
from gmesh.trust.documents import Genesis
from gmesh.trust.verify import authority_keys

__all__ = ["Replicas", "check_signers"]

Json = dict[str, Any]


def check_signers(reader: Reader, genesis: Genesis, now: int, but: str = "") -> None:
    """
    See that every daemon that lives could sign under a genesis.

    @param but: one that need not be asked.
    @raise RequestRefused: C{conflict}, naming those that hold no key which it lists for now.
    """
    entries = zip(authority_keys(genesis), genesis.authority, strict=True)
    signers = {name for name, entry in entries if entry.valid_from <= now < entry.valid_to}
    rows = replica_rows.live(reader, now - limits.REPLICA_LIVE_SECONDS)
    lacking = [row.name for row in rows if row.boot != but and signers.isdisjoint(row.keys.split())]
    if lacking:
        raise RequestRefused(
            "conflict",
            f"no key that it lists is held by {', '.join(lacking)}: put one into the state directory there,"
            " and reload that daemon, first",
        )


class Replicas:
    """
    This daemon among the others.

    @param ready: whether it can decide.
    """

    def __init__(self, store: Store, publisher: Publisher, ready: Callable[[], bool]) -> None:
        self._store = store
        self._publisher = publisher
        self._ready = ready

    def report(self) -> Deferred[None]:
        """Tell the others that this one lives: a decision, since these go by the time of the database."""
        replica = self._store.replica
        if replica is None or not self._store.shared:
            return succeed(None)
        numbers, ready = self._numbers(), self._ready()
        return self._store.decide(lambda tx: replica_rows.report(tx, replica, numbers, ready))

    def leave(self) -> Deferred[None]:
        """This one is about to stop."""
        replica = self._store.replica
        if replica is None or not self._store.shared:
            return succeed(None)
        return self._store.note(lambda notes: replica_rows.leave(notes, replica.boot), regardless=True)

    def page(self, after: str, limit: int) -> Deferred[Json]:
        """A page of them; this one as it is now."""

        def page(reader: Reader) -> list[ReplicaReport]:
            return replica_rows.page(reader, after, limit)

        return self._store.read(page).addCallback(self._listed, after, limit)

    def _listed(self, rows: list[ReplicaReport], after: str, limit: int) -> Json:
        own = self._own()
        following = rows[-1].boot if len(rows) == limit else None
        if own is not None and own.boot > after and (following is None or own.boot <= following):
            rows = sorted([row for row in rows if row.boot != own.boot] + [own], key=lambda row: row.boot)
        now = self._store.time
        return {"replicas": [self._shown(row, now) for row in rows], "next": following}

    def _own(self) -> ReplicaReport | None:
        held = self._store.replica
        if held is None:
            return None
        identity = msgspec.structs.asdict(held)
        numbers, ready = self._numbers(), int(self._ready())
        return ReplicaReport(**identity, seen_at=self._store.time, numbers=numbers, ready=ready)

    def _numbers(self) -> str:
        return json.dumps(asdict(self._publisher.shown))

    def _shown(self, row: ReplicaReport, now: int) -> Json:
        alive = row.seen_at >= now - limits.REPLICA_LIVE_SECONDS
        return {
            "boot": row.boot,
            "name": row.name,
            "version": row.version,
            "since": row.started_at,
            "seen": row.seen_at,
            "keys": row.keys.split(),
            "numbers": json.loads(row.numbers),
            "ready": bool(row.ready) and alive,
        }
