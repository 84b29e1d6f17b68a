# SPDX-License-Identifier: MIT
"""Documents as tests of their gossip offer, push and count them."""

from __future__ import annotations

from typing import Any

from mesh.network_doubles import DoubleLink, TestNode

from gmesh.trust.documents import Rule
from gmesh.wire.frames import Kind
from gmesh.wire.messages import DocumentPush

MANY = [
    Rule(effect="deny", sources=(f"node:n{number}",), to=("*",), services=(f"s{number}",))
    for number in range(400)
]
"""Enough rules to make a policy of several pieces."""


def sent(link: DoubleLink, kind: Kind) -> int:
    """How many frames of a kind went over a link."""
    return [each for each, _ in link.sent].count(kind)


def offer(node: TestNode, document: Any) -> None:
    """The node learns of a document by itself."""
    assert node.trust.offer(document, node.world.wall())


def push(number: int, document: bytes) -> bytes:
    """A frame's worth of push, without its header."""
    return b"\0\0\0" + DocumentPush.first(number, document).encode()


def numbers(node: TestNode) -> tuple[int, ...]:
    """What it holds."""
    trust = node.trust
    assert trust.crl and trust.policy and trust.status
    return (
        trust.genesis.body.version,
        trust.crl.body.number,
        trust.policy.body.version,
        trust.status.body.number,
    )
