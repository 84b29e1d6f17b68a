# SPDX-License-Identifier: MIT
"""
Who was heard of, in memory until it is written: changed numbers within a second, all else in half a minute.

An operator who waits for a revocation waits for changed numbers, at whichever daemon he asks; the number of
the status alone changes too often to count as one.
Tests: C{tests/authority/test_presence.py}.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from itertools import chain, islice
from typing import Any

import msgspec

from gmesh.authority import limits
from gmesh.authority.auth import Caller, RequestBody
from gmesh.authority.hosts import Hosts
from gmesh.authority.store.presence import HeardRow
from gmesh.errors import RequestRefused
from gmesh.trust.names import Digest, Number

__all__ = ["Numbers", "Presence"]

Json = dict[str, Any]


class Numbers(RequestBody, frozen=True):
    """What a node has applied."""

    genesis: Number = 0
    policy: Number = 0
    crl: Number = 0
    crl_digest: Digest | None = None
    status: Number = 0


class _Heard(msgspec.Struct, frozen=True):
    """A heartbeat that is not written yet."""

    node_id: str
    sent_ms: int
    at: int
    numbers: Numbers
    faults: tuple[str, ...]
    hosts: list[str]

    def row(self) -> HeardRow:
        """As it is written: made then, not with each heartbeat."""
        report = {**msgspec.to_builtins(self.numbers), "faults": self.faults, "hosts": self.hosts}
        said = {name: value for name, value in report.items() if value is not None}
        return HeardRow(self.node_id, self.sent_ms, self.at, msgspec.json.encode(said).decode())


class Presence:
    """The last heartbeats."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._heard: dict[str, _Heard | HeardRow] = {}
        self._changed: dict[str, None] = {}
        self._hosts = Hosts()

    def note(
        self,
        caller: Caller,
        sent_ms: int,
        now: int,
        numbers: Numbers,
        faults: tuple[str, ...] = (),
        boot_id: str | None = None,
    ) -> None:
        """@raise RequestRefused: C{replayed}, unless C{sent_ms} rose."""
        node_id = caller.key_id
        before, said = self._known.get(node_id, (-1, 0))
        if sent_ms <= before:
            raise RequestRefused("replayed", "a later heartbeat of this node was already accepted")
        hosts = self._hosts.heard(caller.name, node_id, boot_id, caller.address, now)
        says = hash((numbers.genesis, numbers.policy, numbers.crl, numbers.crl_digest, faults, *hosts))
        self._known[node_id] = sent_ms, says
        self._known.move_to_end(node_id)
        if len(self._known) > limits.KEYS_REMEMBERED:
            self._known.popitem(last=False)
        self._heard[node_id] = _Heard(node_id, sent_ms, now, numbers, faults, hosts)
        if before < 0 or says != said:
            self._changed[node_id] = None

    def shown(self, node_id: str, written: HeardRow | None) -> Json:
        """
        What the newest heartbeat of a node said, though that may not be written yet: when it came, what is
        applied, what is wrong, from which hosts, if two take turns.
        """
        heard = self._heard.get(node_id)
        newest = written
        if heard is not None and (written is None or heard.sent_ms > written.sent_ms):
            newest = _row(heard)
        said = {} if newest is None else json.loads(newest.numbers)
        faults, hosts = said.pop("faults", []), said.pop("hosts", [])
        last_seen = None if newest is None else newest.last_seen
        return {"last_seen": last_seen, "numbers": said or None, "faults": faults, "hosts": hosts}

    def take_news(self, most: int) -> list[HeardRow]:
        """Those whose numbers have changed since they were taken last, at most so many; forgotten here."""
        return self._take(list(islice(self._changed, most)))

    def take(self, most: int) -> list[HeardRow]:
        """All that were heard of since, news first, at most so many; forgotten here."""
        others = (node_id for node_id in self._heard if node_id not in self._changed)
        return self._take(list(islice(chain(self._changed, others), most)))

    def put_back(self, rows: Sequence[HeardRow]) -> None:
        """They could not be written: those of which nothing newer was heard are news still."""
        for row in rows:
            self._heard.setdefault(row.node_id, row)
            self._changed[row.node_id] = None

    def _take(self, node_ids: Sequence[str]) -> list[HeardRow]:
        rows = []
        for node_id in node_ids:
            self._changed.pop(node_id, None)
            heard = self._heard.pop(node_id, None)
            if heard is not None:
                rows.append(_row(heard))
        return rows


def _row(heard: _Heard | HeardRow) -> HeardRow:
    return heard if isinstance(heard, HeardRow) else heard.row()
