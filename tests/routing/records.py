# SPDX-License-Identifier: MIT
"""Records and engines without a mesh: keys by name, members and signed records, signatures stubbed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from random import Random

from gmesh.routing.engine import RouteEngine
from gmesh.routing.origin import Originator
from gmesh.routing.record import NodeRecord, RecordFlag, handle_of, node_id_of, signing_input
from gmesh.routing.store import Member
from gmesh.testing.engine_stubs import StubSigner, stub_verify

NETWORK = bytes(range(16))
WALL = 1_760_000_000.0


def make_key(name: object) -> bytes:
    """A public key of sorts."""
    return hashlib.sha256(f"key {name}".encode()).digest()


def make_member(name: object, roles: Iterable[str] = ("relay",), serial: int = 1) -> Member:
    """A certificate's content."""
    key = make_key(name)
    return Member(node_id_of(key), str(name), key, frozenset(roles), serial, int(WALL) + 10**7)


def make_record(
    name: object,
    links: dict[object, int] | None = None,
    *,
    sequence: int = 1,
    fragment: int = 0,
    flags: RecordFlag = RecordFlag.RELAY,
    issued_at: float = WALL,
    **others: object,
) -> bytes:
    """A signed record of C{name}, whose links are given by name."""
    key = make_key(name)
    fields = {
        "network_id": NETWORK,
        "node_key": key,
        "serial": 1,
        "fragment": fragment,
        "sequence": sequence,
        "issued_at": int(issued_at),
        "lifetime": 3600,
        "flags": flags,
        "links": tuple(sorted((handle_of(make_key(peer)), cost) for peer, cost in (links or {}).items())),
        **others,
    }
    unsigned = NodeRecord(**fields)  # type: ignore[arg-type]  # keyword fields by name
    return unsigned.encode_unsigned() + StubSigner(key).sign(signing_input(unsigned.encode_unsigned()))


def make_engine(name: object, others: Iterable[Member], revoked: Collection[str] = ()) -> RouteEngine:
    """The engine of a relay that knows these members; C{revoked} holds node ids and may change."""
    own = make_member(name)
    members = {(handle_of(member.node_key), member.serial): member for member in (own, *others)}
    signer = StubSigner(own.node_key)
    return RouteEngine(
        Originator(NETWORK, signer, lambda: own.serial, Random(0), RecordFlag.RELAY),
        lambda: own,
        lambda handle, serial: members.get((handle, serial)),
        lambda serial, node_id: node_id in revoked,
        stub_verify,
    )
