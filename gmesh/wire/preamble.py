# SPDX-License-Identifier: MIT
"""
The eight bytes a dialler sends first, and the prologues that bind them into the handshakes.

Tests: C{tests/wire/test_frames.py}.
"""

from __future__ import annotations

from collections.abc import Container

from gmesh.errors import FrameRefused
from gmesh.wire.limits import HANDLE
from gmesh.wire.suites import Suite

__all__ = [
    "MAGIC",
    "PREAMBLE_SIZE",
    "WIRE_VERSION",
    "encode_preamble",
    "end_prologue",
    "hop_prologue",
    "read_preamble",
]

MAGIC = b"gmesh"
WIRE_VERSION = 1
PREAMBLE_SIZE = 8
END_PROLOGUE = b"gmesh-e2e/1"
NETWORK_ID = 16

_FIXED = MAGIC + bytes((WIRE_VERSION,))


def encode_preamble(suite: Suite) -> bytes:
    """The preamble that proposes C{suite}."""
    return _FIXED + bytes((suite, 0))


def read_preamble(data: bytes, allowed: Container[Suite]) -> Suite | None:
    """
    The suite a preamble proposes, or None while C{data} is only the beginning of one.

    Only the first L{PREAMBLE_SIZE} bytes are looked at; a wrong byte is refused as soon as it is there.

    @raise FrameRefused: C{not-gmesh}, C{wire-version}, C{unknown-suite} or C{suite-not-allowed}.
    """
    head = bytes(data[:PREAMBLE_SIZE])
    if head[: len(MAGIC)] != MAGIC[: len(head)]:
        raise FrameRefused("not-gmesh", "the first bytes are not a gmesh preamble")
    if len(head) > 5 and head[5] != WIRE_VERSION:
        raise FrameRefused(
            "wire-version", f"the peer speaks wire version {head[5]}, this node {WIRE_VERSION}"
        )
    if len(head) > 6:
        try:
            suite = Suite(head[6])
        except ValueError:
            raise FrameRefused(
                "unknown-suite", f"the peer proposes the unknown cipher suite {head[6]}"
            ) from None
        if suite not in allowed:
            raise FrameRefused(
                "suite-not-allowed", f"the genesis does not allow the cipher suite {suite.label}"
            )
        if len(head) == PREAMBLE_SIZE:
            if head[7]:
                raise FrameRefused("not-gmesh", "the last byte of the preamble is not zero")
            return suite
    return None


def _network(network_id: str) -> bytes:
    try:
        raw = bytes.fromhex(network_id)
    except ValueError:
        raw = b""
    if len(raw) != NETWORK_ID:
        raise FrameRefused("bad-network-id", "a network_id is 32 hexadecimal digits")
    return raw


def hop_prologue(suite: Suite, network_id: str) -> bytes:
    """The Noise prologue between neighbours: preamble, network_id."""
    return encode_preamble(suite) + _network(network_id)


def end_prologue(suite: Suite, network_id: str, source: bytes, destination: bytes) -> bytes:
    """The Noise prologue end to end: C{gmesh-e2e/1}, suite id, network_id, both handles."""
    if len(source) != HANDLE or len(destination) != HANDLE:
        raise FrameRefused("bad-handle", "a routing handle has 8 bytes")
    return b"".join((END_PROLOGUE, bytes((suite,)), _network(network_id), source, destination))
