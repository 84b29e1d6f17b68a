# SPDX-License-Identifier: MIT
"""
C{state.json}: numbers that rise over restarts, commands obeyed, receipts not yet delivered.

None of it is worth a failed start: what cannot be used begins empty, field by field.
Tests: C{tests/node/test_state_files.py}.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from gmesh.mesh.limits import MAX_DEPARTED
from gmesh.mesh.members import Departed
from gmesh.node.limits import (
    MAX_ALARMS,
    MAX_COMMANDS_SEEN,
    MAX_OLD_NOISE_KEYS,
    MAX_RECEIPTS,
    MAX_REVOKED_KEPT,
)

__all__ = ["KeptAlarm", "NodeState", "SeenCommand"]

_NODE_ID = re.compile(r"[0-9a-f]{32}")
_NUMBER_BITS = 63
_TIME_BITS = 36
"""Two thousand years: a time beyond is damage, and a clock that believed it could sign nothing."""


@dataclass(slots=True)
class SeenCommand:
    """
    A command this node took up.

    @ivar finished: whether there is a receipt for it.
    """

    number: int
    expires_at: int
    finished: bool = False


@dataclass(slots=True)
class KeptAlarm:
    """
    What signed documents contradicted.

    @ivar detail: the newest case, for people.
    @ivar at: when it came first, Unix seconds.
    @ivar epoch: of the authority then: a restore raises it, and the alarm is over.
    @ivar count: how often.
    """

    detail: str
    at: int
    epoch: int
    count: int = 1


@dataclass(slots=True)
class NodeState:
    """
    What a node must not forget beside its documents.

    @ivar time_floor: no time before this is now.
    @ivar doubted_time: when the newest status was signed, if that is not believed to be now.
    @ivar commands: by id, those that have not expired; none of them is obeyed again.
    @ivar commands_floor: commands up to this number are obeyed no more, known or not.
    @ivar commands_fetched: the newest number asked for at the authority.
    @ivar receipts: in file form, oldest first, until the authority has them.
    @ivar bootstrap: anchors that a command named, and the genesis version they were named under.
    @ivar noise_made_at: when the Noise key in use was made.
    @ivar noise_ends: public key in base64url of each older Noise key -> when its last certificate ends.
    @ivar revoked: name -> node_id and newest serial of nodes that were known here when they were revoked.
    @ivar departed: name -> what was known of nodes that are members no more.
    @ivar alarms: slug -> what the authority's documents contradicted, until a restore.
    @ivar others: what another version of gmesh keeps here.
    """

    record_sequence: int = 0
    handshake_number: int = 0
    time_floor: int = 0
    doubted_time: int = 0
    commands: dict[str, SeenCommand] = field(default_factory=dict)
    commands_floor: int = 0
    commands_fetched: int = 0
    receipts: list[dict[str, Any]] = field(default_factory=list)
    bootstrap: dict[str, Any] = field(default_factory=dict)
    noise_made_at: int = 0
    noise_ends: dict[str, int] = field(default_factory=dict)
    revoked: dict[str, tuple[str, int]] = field(default_factory=dict)
    departed: dict[str, Departed] = field(default_factory=dict)
    alarms: dict[str, KeptAlarm] = field(default_factory=dict)
    others: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> NodeState:
        """Whatever of C{value} can be used."""
        others = dict(value)
        found: dict[str, Any] = {}
        for name, read in _READERS.items():
            if name in others:
                found[name] = read(others.pop(name))
        return cls(**found, others=others)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; L{from_dict} reads them."""
        value = asdict(self)
        value.update(value.pop("others"))
        return value


def _integer(bits: int) -> Callable[[Any], int]:
    return lambda value: value if type(value) is int and 0 <= value < 2**bits else 0


def _commands(value: Any) -> dict[str, SeenCommand]:
    found = {}
    for identifier, seen in _items(value, MAX_COMMANDS_SEEN):
        if isinstance(seen, dict) and type(seen.get("number")) is int and type(seen.get("expires_at")) is int:
            finished = seen.get("finished") is True
            found[identifier] = SeenCommand(seen["number"], seen["expires_at"], finished)
    return found


def _receipts(value: Any) -> list[dict[str, Any]]:
    listed = value if isinstance(value, list) else []
    return [item for item in listed if isinstance(item, dict)][:MAX_RECEIPTS]


def _ends(value: Any) -> dict[str, int]:
    return {key: end for key, end in _items(value, MAX_OLD_NOISE_KEYS) if type(end) is int}


def _revoked(value: Any) -> dict[str, tuple[str, int]]:
    found = {}
    for name, entry in _items(value, MAX_REVOKED_KEPT):
        if isinstance(entry, (list, tuple)) and len(entry) == 2:
            node_id, serial = entry
            if isinstance(node_id, str) and _NODE_ID.fullmatch(node_id) and type(serial) is int:
                found[name] = (node_id, serial)
    return found


def _departed(value: Any) -> dict[str, Departed]:
    found = {}
    for name, entry in _items(value, MAX_DEPARTED):
        with suppress(msgspec.ValidationError):
            found[name] = msgspec.convert(entry, Departed)
    return found


def _alarms(value: Any) -> dict[str, KeptAlarm]:
    found = {}
    for slug, entry in _items(value, MAX_ALARMS):
        with suppress(msgspec.ValidationError):
            found[slug] = msgspec.convert(entry, KeptAlarm)
    return found


def _items(value: Any, limit: int) -> list[tuple[str, Any]]:
    return list(value.items())[:limit] if isinstance(value, dict) else []


_READERS: dict[str, Callable[[Any], Any]] = {
    "record_sequence": _integer(_NUMBER_BITS),
    "handshake_number": _integer(_NUMBER_BITS),
    "time_floor": _integer(_TIME_BITS),
    "doubted_time": _integer(_TIME_BITS),
    "commands": _commands,
    "commands_floor": _integer(_NUMBER_BITS),
    "commands_fetched": _integer(_NUMBER_BITS),
    "receipts": _receipts,
    "bootstrap": lambda value: value if isinstance(value, dict) else {},
    "noise_made_at": _integer(_TIME_BITS),
    "noise_ends": _ends,
    "revoked": _revoked,
    "departed": _departed,
    "alarms": _alarms,
}
