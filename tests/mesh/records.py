# SPDX-License-Identifier: MIT
"""Records that a test makes itself, and what went over a link."""

from __future__ import annotations

from mesh.network_doubles import DoubleLink, TestNode, TestWorld

from gmesh.routing.record import NodeRecord, RecordFlag, signing_input
from gmesh.wire.frames import Kind
from gmesh.wire.messages import Lsa


def kinds(link: DoubleLink) -> list[int]:
    """What was sent over a link."""
    return [kind for kind, _ in link.sent]


def records(link: DoubleLink) -> list[bytes]:
    """The node records sent over a link."""
    return [
        record for kind, frame in link.sent if kind == Kind.LSA for record in Lsa.decode(frame[3:]).records
    ]


def sign(node: TestNode, sequence: int, links: tuple[tuple[bytes, int], ...] = (), **others: object) -> bytes:
    """A record of C{node} made by its key."""
    fields = {
        "network_id": bytes.fromhex(node.world.issuer.network_id),
        "node_key": node.peer.node_key,
        "serial": node.peer.serial,
        "fragment": 0,
        "sequence": sequence,
        "issued_at": int(node.world.wall()),
        "lifetime": 3600,
        "flags": RecordFlag.RELAY,
        "links": links,
        **others,
    }
    unsigned = NodeRecord(**fields).encode_unsigned()  # type: ignore[arg-type]  # by name
    return unsigned + node.enrolled.node_key.sign(signing_input(unsigned))


def equal(world: TestWorld) -> bool:
    """Invariant 3."""
    return len({node.engine.store.digest() for node in world.nodes.values()}) == 1
