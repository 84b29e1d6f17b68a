# SPDX-License-Identifier: MIT
"""
The audit chain: every row's hash covers the row before it, so no past row can be changed quietly.

hash = SHA-256("gmesh-audit-v1\\0" + seq as 8 bytes big-endian + previous hash + SHA-256(entry)),
where entry is the canonical JSON of the row.  Rows are written in the transaction of what they
report, mirrored to C{audit.jsonl} after the commit, and the head stands in every status document.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed

from gmesh.authority import limits
from gmesh.authority.auth import Caller
from gmesh.authority.clock import SteadyClock
from gmesh.authority.store import audit as audit_rows
from gmesh.authority.store.transaction import Reader, Transaction
from gmesh.authority.store.writer import Store
from gmesh.errors import GmeshError, StoreError
from gmesh.files import give_to_owner
from gmesh.trust.canonical import canonical

__all__ = [
    "AUDIT_PAGE",
    "AuditMirror",
    "AuditTrail",
    "certificate_digest",
    "chain_hash",
    "printable",
    "record",
    "verify_audit",
    "verify_chain",
]

AUDIT_PAGE = 5000
"""Rows read at a time."""
_DOMAIN = b"gmesh-audit-v1\0"
Entry = tuple[int, bytes, bytes]
Json = dict[str, Any]


def chain_hash(seq: int, previous: bytes, entry: bytes) -> bytes:
    """The hash of row C{seq}."""
    return hashlib.sha256(
        _DOMAIN + seq.to_bytes(8, "big") + previous + hashlib.sha256(entry).digest()
    ).digest()


def printable(text: str) -> str:
    """Text by strangers, on one line: cut, and escaped where it is not plain ASCII."""
    return text[: limits.REASON_CHARACTERS].encode("unicode_escape").decode("ascii")


def certificate_digest(encoded: bytes) -> str:
    """How a row names a certificate: SHA-256 of its file form, in hexadecimal."""
    return hashlib.sha256(encoded).hexdigest()


def record(
    tx: Transaction,
    actor: str,
    action: str,
    target: str,
    outcome: str = "done",
    request_id: str = "",
    **more: object,
) -> None:
    """
    Append a row. If it cannot be written, nothing of the decision is.

    @param actor: key_id of who asked, or C{authority}.
    @param target: what it was done to: a node's name, a serial, a version.
    """
    seq, previous = tx.audit_head
    seq += 1
    entry = canonical(
        {
            "at": tx.now,
            "actor": actor,
            "action": action,
            "target": target,
            "outcome": outcome,
            "request_id": request_id,
            **more,
        }
    )
    tx.append_audit(seq, entry, chain_hash(seq, previous, entry))


def verify_chain(entries: Iterable[Entry], seq: int = 0, head: bytes = bytes(32)) -> tuple[int, bytes]:
    """
    Recompute the chain from a trusted point on.

    @return: the (sequence number, hash) it ends with.
    @raise StoreError: C{audit-broken}, naming the first bad row.
    """
    for number, entry, digest in entries:
        seq += 1
        if number != seq:
            raise StoreError(
                "audit-broken", f"audit row {seq} is missing: row {number} follows row {seq - 1}"
            )
        head = chain_hash(seq, head, entry)
        if digest != head:
            raise StoreError("audit-broken", f"audit row {seq} does not carry the hash of what it says")
    return seq, head


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


@dataclass(slots=True)
class _Refusals:
    """
    What one operator was refused since the last row that says so.

    @ivar until: no row about it before then.
    @ivar outcomes: how often which request was refused for which reason.
    """

    until: int
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)


class AuditTrail:
    """The use cases around the chain."""

    def __init__(self, store: Store, clock: SteadyClock) -> None:
        self._store = store
        self._clock = clock
        self._refusals: dict[str, _Refusals] = {}

    def refused(self, caller: Caller, action: str, target: str, error: GmeshError) -> Deferred[None]:
        """
        Note in the audit that a known operator was refused something: the first time in a minute.

        Further ones are counted, and L{flush} writes their number.
        """
        outcome = f"refused: {error.reason}"
        known = self._refusals.get(caller.key_id)
        if known is None:
            self._refusals[caller.key_id] = _Refusals(self._clock.now() + limits.REFUSAL_ROW_SECONDS)
        else:
            known.outcomes[action, outcome] += 1

        def note(tx: Transaction) -> None:
            caller.burn(tx)
            if known is None:
                record(tx, caller.key_id, action, printable(target), outcome, caller.request_id)

        return self._store.decide(note)

    def flush(self, all_of_them: bool = False) -> Deferred[None]:
        """
        Write a row for each operator whose refusals were counted for a minute.

        @param all_of_them: also those of less than a minute, for the daemon stops.
        """
        now = self._clock.now()
        due = {key: known for key, known in self._refusals.items() if all_of_them or known.until <= now}
        counted = {key: known.outcomes for key, known in due.items() if known.outcomes}
        for key in due:
            if key in counted:
                self._refusals[key] = _Refusals(now + limits.REFUSAL_ROW_SECONDS)
            else:
                del self._refusals[key]
        if not counted:
            return succeed(None)

        def note(tx: Transaction) -> None:
            for key, outcomes in counted.items():
                (action, outcome), _ = outcomes.most_common(1)[0]
                record(tx, key, action, "", outcome, count=outcomes.total())

        return self._store.decide(note)

    def page(self, after: int, limit: int) -> Deferred[Json]:
        """A page of the audit chain."""

        def page(reader: Reader) -> Json:
            rows = audit_rows.page(reader, after, limit)
            listed = [
                {"seq": seq, "hash": digest.hex(), "row": msgspec.Raw(entry)} for seq, entry, digest in rows
            ]
            size, head = reader.audit_head
            return {
                "entries": listed,
                "size": size,
                "head": head.hex(),
                "next": rows[-1][0] if len(rows) == limit else None,
            }

        return self._store.read(page)


class AuditMirror:
    """
    C{audit.jsonl}: one row per line, appended in the database thread after each commit.

    @ivar last_hash: of the last whole line, once L{last} was asked.
    @ivar failures: how often rows could not be appended.

    Rows that could not be appended (a full disk) are caught up with the next that can; beyond
    L{_PENDING_MAX} of them, the next start of the daemon does that.  No row is ever left out between others.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: list[Entry] = []
        self._left_to_start = False
        self._torn = False
        self.failures = 0
        self.last_hash = ""

    def last(self) -> int:
        """The sequence number of the last whole line; 0 when there is none. Cuts a torn last line off."""
        try:
            with open(self._path, "rb+") as stream:
                size = stream.seek(0, os.SEEK_END)
                start = max(0, size - _TAIL)
                stream.seek(start)
                tail = stream.read()
                whole = tail.rfind(b"\n") + 1
                if whole < len(tail):
                    stream.truncate(start + whole)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise StoreError("unwritable", f"cannot write {self._path}: {error.strerror}") from error
        self._torn = False
        lines = tail[:whole].splitlines()
        if not lines:
            return 0
        try:
            last = json.loads(lines[-1])
            self.last_hash = str(last["hash"])
            return int(last["seq"])
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError("audit-broken", f"the last line of {self._path} is not an audit row") from error

    def append(self, entries: Iterable[Entry]) -> None:
        """Write lines, now or with the next."""
        if not self._left_to_start:
            self._pending.extend(entries)
        try:
            self.write(self._pending)
        except (OSError, StoreError):
            self.failures += 1
            self._left_to_start = self._left_to_start or len(self._pending) >= _PENDING_MAX
        else:
            self._pending.clear()
            self.failures += self._left_to_start

    def write(self, entries: Iterable[Entry]) -> None:
        """
        Write lines, all or none of them, after what is left of some that could be neither written nor taken
        back is cut to whole lines.

        @raise OSError: if that fails.
        @raise StoreError: as L{last}, if the cut does.
        """
        if self._torn:
            held = self.last()
            entries = [entry for entry in entries if entry[0] > held]
        lines = memoryview(b"".join(map(_line, entries)))
        with open(self._path, "ab", buffering=0, opener=_private) as stream:
            whole = stream.tell()
            if not whole:
                give_to_owner(self._path)
            try:
                while lines:
                    lines = lines[stream.write(lines) :]
            except OSError:
                self._torn = True
                stream.truncate(whole)
                self._torn = False
                raise


_TAIL = 1 << 16
_PENDING_MAX = 10_000


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o640)


def _line(entry: Entry) -> bytes:
    seq, body, digest = entry
    return b'{"seq":%d,"hash":"%s","row":%s}\n' % (seq, digest.hex().encode(), body)
