# SPDX-License-Identifier: MIT
"""
The node record: one node's signed word on its own links, in its one canonical encoding.

Big-endian: version u8 | network id 16 | node key 32 | certificate serial u64 | fragment u8 |
sequence u64 | issued_at u64 | lifetime u16 | flags u8 | area u16 | n u8 | n x (peer handle 8,
cost u16) | length u16 | capabilities: type u8, length u8, value | signature 64, Ed25519 over
C{gmesh-lsa-v1}, NUL and all bytes before it.  The handle is derived from the key, never carried.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from gmesh.errors import FrameRefused
from gmesh.routing.limits import (
    HANDLE_SIZE,
    MAX_ADDRESS,
    MAX_ADDRESSES,
    MAX_COST,
    MAX_FRAGMENTS,
    MAX_LIFETIME,
    MAX_RECORD,
    MAX_RECORD_LINKS,
    MAX_SEQUENCE,
    MAX_SERIAL,
    MAX_SERVICE,
    MAX_SERVICES,
    MAX_SOFTWARE,
    RECORD_VERSION,
)

__all__ = [
    "Capability",
    "NodeRecord",
    "RecordFlag",
    "decode_record",
    "handle_of",
    "make_capabilities",
    "node_id_of",
    "peek",
    "signing_input",
]

SIGNATURE_CONTEXT: Final = b"gmesh-lsa-v1\0"
SIGNATURE_SIZE: Final = 64
_HEAD = struct.Struct(">B16s32sQBQQHBHB")
_LINK = struct.Struct(">8sH")
_LENGTH = struct.Struct(">H")
_SMALLEST: Final = _HEAD.size + _LENGTH.size + SIGNATURE_SIZE
_TEXT: Final = re.compile(rb"[\x21-\x7e]+(?: [\x21-\x7e]+)*")
_SERVICE: Final = re.compile(rb"[a-z0-9_.-]+")


class RecordFlag(IntFlag):
    """What a node says it is; counts in fragment 0 only."""

    RELAY = 1
    ANCHOR = 2
    STUB = 4
    OVERLOAD = 8  # route around this node: the overload bit of IS-IS (ISO 10589)


class Capability(IntEnum):
    """Known capability types; others are carried and ignored."""

    ADDRESS = 1
    SERVICE = 2
    SOFTWARE = 3


_KNOWN_FLAGS: Final = int(RecordFlag.RELAY | RecordFlag.ANCHOR | RecordFlag.STUB | RecordFlag.OVERLOAD)
_CAPABILITY_LIMITS: Final = {
    Capability.ADDRESS: (MAX_ADDRESSES, MAX_ADDRESS, _TEXT),
    Capability.SERVICE: (MAX_SERVICES, MAX_SERVICE, _SERVICE),
    Capability.SOFTWARE: (1, MAX_SOFTWARE, _TEXT),
}


def handle_of(public: bytes) -> bytes:
    """The routing handle of a raw Ed25519 public key: 8 bytes."""
    return hashlib.sha256(public).digest()[:HANDLE_SIZE]


def node_id_of(public: bytes) -> str:
    """The node id of a raw Ed25519 public key: 32 hex characters."""
    return hashlib.sha256(public).hexdigest()[: 4 * HANDLE_SIZE]


def signing_input(unsigned: bytes) -> bytes:
    """What the node key signs."""
    return SIGNATURE_CONTEXT + unsigned


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """
    One fragment of one node's record.

    @ivar links: (peer handle, cost), ascending by handle.
    @ivar capabilities: (type, value), ascending.
    @ivar signature: 64 bytes, or empty while unsigned.
    """

    network_id: bytes
    node_key: bytes
    serial: int
    fragment: int
    sequence: int
    issued_at: int
    lifetime: int
    flags: RecordFlag
    links: tuple[tuple[bytes, int], ...]
    capabilities: tuple[tuple[int, bytes], ...] = ()
    signature: bytes = b""
    area: int = 0

    @property
    def handle(self) -> bytes:
        """The originator's routing handle."""
        return handle_of(self.node_key)

    def encode_unsigned(self) -> bytes:
        """All bytes before the signature."""
        capabilities = b"".join(bytes((kind, len(value))) + value for kind, value in self.capabilities)
        return b"".join(
            (
                _HEAD.pack(
                    RECORD_VERSION,
                    self.network_id,
                    self.node_key,
                    self.serial,
                    self.fragment,
                    self.sequence,
                    self.issued_at,
                    self.lifetime,
                    self.flags,
                    self.area,
                    len(self.links),
                ),
                *(_LINK.pack(handle, cost) for handle, cost in self.links),
                _LENGTH.pack(len(capabilities)),
                capabilities,
            )
        )

    def encode(self) -> bytes:
        """The whole record; refused when unsigned."""
        if len(self.signature) != SIGNATURE_SIZE:
            raise FrameRefused("unsigned-record", "this node record carries no signature")
        return self.encode_unsigned() + self.signature

    def values(self, kind: Capability) -> tuple[str, ...]:
        """The capabilities of one known type, as text."""
        return tuple(value.decode("ascii") for found, value in self.capabilities if found == kind)


def peek(data: bytes) -> tuple[bytes, int, int] | None:
    """Handle, fragment and sequence of what may be a record, unchecked; None if it is too short."""
    if len(data) < _SMALLEST:
        return None
    head = _HEAD.unpack_from(data)
    return handle_of(head[2]), head[4], head[5]


def make_capabilities(
    addresses: Iterable[str] = (), services: Iterable[str] = (), software: str = ""
) -> tuple[tuple[int, bytes], ...]:
    """
    The capability list of an own record, checked against the same limits as a received one.

    @raise FrameRefused: C{bad-capability}, when a value is malformed or there are too many.
    """
    items = [(int(Capability.ADDRESS), text.encode()) for text in addresses]
    items += [(int(Capability.SERVICE), text.encode()) for text in services]
    if software:
        items.append((int(Capability.SOFTWARE), software.encode()))
    found = tuple(sorted(set(items)))
    _check_capabilities(found)
    return found


def decode_record(data: bytes, network_id: bytes) -> NodeRecord:
    """
    Parse one record, refusing whatever is not the canonical encoding of a record of this network.

    Touches no key and no clock: cheap enough for bytes from strangers.
    @raise FrameRefused: with the reason of the first rule that was broken.
    """
    if not _SMALLEST <= len(data) <= MAX_RECORD:
        raise FrameRefused(
            "bad-record-length", f"a node record has {_SMALLEST} to {MAX_RECORD} bytes, this one {len(data)}"
        )
    head = _HEAD.unpack_from(data)
    version, network, node_key, serial, fragment, sequence, issued_at, lifetime, flags, area, count = head
    if version != RECORD_VERSION:
        raise FrameRefused("bad-record-version", f"node record version {version} is not known here")
    if network != network_id:
        raise FrameRefused("wrong-network", "the node record belongs to another network")
    if fragment >= MAX_FRAGMENTS or not 0 < sequence <= MAX_SEQUENCE or serial > MAX_SERIAL:
        raise FrameRefused("bad-record", "serial, fragment or sequence out of range")
    if not 0 < lifetime <= MAX_LIFETIME or flags & ~_KNOWN_FLAGS or area:
        raise FrameRefused("bad-record", "lifetime, flags or area out of range")
    if count > MAX_RECORD_LINKS or len(data) < _SMALLEST + count * _LINK.size:
        raise FrameRefused("bad-record", f"{count} links do not fit in the record")
    end = _HEAD.size + count * _LINK.size
    links = tuple(_LINK.iter_unpack(data[_HEAD.size : end]))
    _check_links(links, handle_of(node_key))
    (length,) = _LENGTH.unpack_from(data, end)
    start = end + _LENGTH.size
    if start + length + SIGNATURE_SIZE != len(data):
        raise FrameRefused("bad-record", "the capability length does not match the record's")
    capabilities = _parse_capabilities(data[start : start + length])
    return NodeRecord(
        network_id=network,
        node_key=node_key,
        serial=serial,
        fragment=fragment,
        sequence=sequence,
        issued_at=issued_at,
        lifetime=lifetime,
        flags=RecordFlag(flags),
        links=links,
        capabilities=capabilities,
        signature=data[start + length :],
        area=area,
    )


def _check_links(links: tuple[tuple[bytes, int], ...], own: bytes) -> None:
    previous = b""
    for handle, cost in links:
        if handle <= previous:
            raise FrameRefused("bad-record", "links must ascend by handle without duplicates")
        if handle == own:
            raise FrameRefused("bad-record", "a record must not list its own node")
        if not 1 <= cost <= MAX_COST:
            raise FrameRefused("bad-record", "a link cost must be at least 1")
        previous = handle


def _parse_capabilities(data: bytes) -> tuple[tuple[int, bytes], ...]:
    found: list[tuple[int, bytes]] = []
    offset = 0
    while offset < len(data):
        if offset + 2 > len(data) or offset + 2 + data[offset + 1] > len(data):
            raise FrameRefused("bad-capability", "a capability runs past the end of the list")
        end = offset + 2 + data[offset + 1]
        item = (data[offset], data[offset + 2 : end])
        if found and item <= found[-1]:
            raise FrameRefused("bad-capability", "capabilities must ascend without duplicates")
        found.append(item)
        offset = end
    _check_capabilities(tuple(found))
    return tuple(found)


def _check_capabilities(capabilities: tuple[tuple[int, bytes], ...]) -> None:
    for kind, (most, longest, pattern) in _CAPABILITY_LIMITS.items():
        values = [value for found, value in capabilities if found == kind]
        if len(values) > most:
            raise FrameRefused("bad-capability", f"at most {most} capabilities of type {kind} are allowed")
        for value in values:
            if len(value) > longest or not pattern.fullmatch(value):
                raise FrameRefused("bad-capability", f"a capability of type {kind} is malformed or too long")
