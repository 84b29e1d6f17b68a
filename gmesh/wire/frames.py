# SPDX-License-Identifier: MIT
"""
Frames: what a record holds. u16 length of the body, u8 kind, body.

Kinds below 64 are control, those from 64 to 95 data (they start with a path header); a kind
from 128 on may be ignored by a peer that does not know it, any other unknown kind closes the link.

A new kind is a number here, a body in one of C{gmesh/wire/*_messages.py}, and a receiver whose factory lists
it in C{kinds} and is registered in L{gmesh.node.composition}.  Frames inside of sealed sessions are
L{gmesh.wire.session_messages.Inner}.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from gmesh.errors import FrameRefused
from gmesh.wire.codec import Buffer
from gmesh.wire.limits import FRAME_HEADER, MAX_FRAME_BODY

__all__ = ["HEADER", "Kind", "is_data", "is_optional", "iter_frames", "pack_frame"]

HEADER = struct.Struct(">HB")
"""Length of the body, kind."""

FIRST_DATA = 64
FIRST_UNASSIGNED = 96
FIRST_OPTIONAL = 128


class Kind(IntEnum):
    """Frame kinds."""

    HELLO = 1
    PING = 2
    PONG = 3
    REKEY = 4
    CLOSE = 5
    RENEWAL = 6
    AUTHORITY = 7
    LSA = 16
    IHAVE = 17
    SYNC_DIGEST = 18
    SYNC_LIST = 19
    SYNC_WANT = 20
    CERT_REQ = 21
    CERT = 22
    CRL = 32
    CRL_REQ = 33
    POLICY = 34
    POLICY_REQ = 35
    GENESIS = 36
    GENESIS_REQ = 37
    STATUS = 38
    STATUS_REQ = 39
    COMMAND = 40
    COMMAND_REQ = 41
    PATH_REQ = 48
    PATH_REP = 49
    E2E_INIT = 64
    E2E_RESP = 65
    E2E_DATA = 66
    UNREACH = 67
    DROPPED = 68


def is_data(kind: int) -> bool:
    """True for kinds that travel behind control and start with a path header."""
    return FIRST_DATA <= kind < FIRST_UNASSIGNED


def is_optional(kind: int) -> bool:
    """True for kinds that a receiver which does not know them ignores."""
    return kind >= FIRST_OPTIONAL


def pack_frame(kind: int, body: Buffer = b"") -> bytes:
    """A whole frame. @raise FrameRefused: if the body is longer than L{MAX_FRAME_BODY}."""
    size = len(body)
    if size > MAX_FRAME_BODY:
        raise FrameRefused("too-large", f"a frame body of {size} bytes is larger than {MAX_FRAME_BODY}")
    return HEADER.pack(size, kind) + body


def iter_frames(record: Buffer) -> list[tuple[int, int, int]]:
    """
    The frames of a record as (kind, start, end): C{record[start:end]} is the whole frame, its body
    begins at C{start + 3}.

    All or nothing: a record that does not end with a frame is refused before any is handed out.

    @raise FrameRefused: C{bad-frame}.
    """
    frames = []
    unpack = HEADER.unpack_from
    start, size = 0, len(record)
    last = size - FRAME_HEADER
    while start <= last:
        length, kind = unpack(record, start)
        end = start + FRAME_HEADER + length
        frames.append((kind, start, end))
        start = end
    if start != size or not frames:
        raise FrameRefused("bad-frame", "a record is empty or does not end where its last frame ends")
    return frames
