# SPDX-License-Identifier: MIT
"""
What messages are on the socket of the local API: C{gmesh-messages}, after C{101 Switching Protocols}.

A frame is C{u8 kind | u24 length | u32 tag | body}, big-endian; the length counts tag and body.  A text is
C{u8 length | UTF-8}.  Whoever asks chooses the tag, and the answer bears it; L{FrameType} has each kind.  A
program has at most as many SENDs without an answer, and as many bytes in them, as WELCOME says; each one more
is answered FAILED C{busy}.  It is given at most as many messages as its SERVE says.  Who closes the
connection cancels what it has sent, and gives back what it has not ended with.

No input, no output: bytes go in and come out.  Tests: C{tests/client/test_message_frames.py}.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from gmesh.errors import FrameRefused

__all__ = [
    "MAX_BODY",
    "MessageFrameReader",
    "FrameType",
    "GivenMessage",
    "MessageFrame",
    "SendRequest",
    "failed_body",
    "pack_text",
    "read_failed",
    "take_text",
]

MAX_BODY = 1024 * 1024
"""Bytes of the longest body: an ANSWER about a large mesh."""
MAX_TEXT = 255
_HEAD = struct.Struct(">II")
_TIMEOUT = struct.Struct(">I")
_GIVEN = struct.Struct(">IB16s")
_REDELIVERED = 1
_MAX_U32 = 2**32 - 1


class FrameType(IntEnum):
    """
    The first byte of a frame; up to 15 a program says it, from 16 on the node.

     - SEND: C{u32 timeout in ms | text node | text service | text key | data}
     - CANCEL: nothing; the program waits no more for its SEND
     - SERVE: C{u16 concurrent | text service}; its tag names the service in MESSAGE
     - LEAVE: nothing; no more messages for that SERVE, or answers to that WATCH
     - DONE: what is given back; ended with the MESSAGE of that tag
     - REFUSE: why, UTF-8; the MESSAGE of that tag is refused
     - ASK: C{nodes} or C{services}
     - WATCH: C{text service}, empty for all: an ANSWER now and after each change of who offers it
     - WELCOME: C{u32 SENDs | u32 bytes | JSON of this node}, the first frame of all, with tag 0
     - SENT: C{u32 ms | what the receiver gave back}
     - FAILED: C{text slug | detail}, the answer to a SEND, SERVE, ASK or WATCH
     - SERVING: nothing; messages may come
     - MESSAGE: C{u32 tag of SERVE | u8 flags: 1 = redelivered | node_id 16 | text from | text roles, by
       commas | text key | data}, under a tag of the node
     - ANSWER: JSON, as of C{GET /v1/nodes} or C{/v1/services}
    """

    SEND = 0
    CANCEL = 1
    SERVE = 2
    LEAVE = 3
    DONE = 4
    REFUSE = 5
    ASK = 6
    WATCH = 7
    WELCOME = 16
    SENT = 17
    FAILED = 18
    SERVING = 19
    MESSAGE = 20
    ANSWER = 21


_KINDS = frozenset(map(int, FrameType))


class MessageFrame(NamedTuple):
    """One frame."""

    kind: FrameType
    tag: int
    body: bytes = b""

    def encode(self) -> bytes:
        """@raise FrameRefused: if it is too long."""
        size = len(self.body) + 4
        if size > MAX_BODY + 4 or not 0 <= self.tag <= _MAX_U32:
            raise _refused(f"a {self.kind.name} of {len(self.body)} bytes, at most {MAX_BODY} are allowed")
        return _HEAD.pack(self.kind << 24 | size, self.tag) + self.body


class MessageFrameReader:
    """
    Cuts what a socket reads into frames.

    @param limit: bytes of the longest body that may come.
    """

    __slots__ = ("_held", "_limit")

    def __init__(self, limit: int = MAX_BODY) -> None:
        self._held = b""
        self._limit = limit

    def feed(self, received: bytes) -> list[MessageFrame]:
        """
        The frames that are whole now.

        @raise FrameRefused: if it breaks the protocol; nothing may be fed any more.
        """
        found = []
        data = self._held + received if self._held else received
        at, end = 0, len(data)
        while end - at >= _HEAD.size:
            head, tag = _HEAD.unpack_from(data, at)
            kind, size = head >> 24, head & 0xFFFFFF
            if kind not in _KINDS:
                raise _refused(f"there is no frame of kind {kind}")
            if not 4 <= size <= self._limit + 4:
                raise _refused(f"a frame of {size} bytes, allowed are 4 to {self._limit + 4}")
            after = at + 4 + size
            if after > end:
                break
            found.append(MessageFrame(FrameType(kind), tag, data[at + _HEAD.size : after]))
            at = after
        self._held = data[at:]
        return found


def pack_text(text: str) -> bytes:
    """@raise FrameRefused: if it is longer than 255 bytes."""
    raw = text.encode("utf-8", "replace")
    if len(raw) > MAX_TEXT:
        raise _refused(f"a text of {len(raw)} bytes, at most {MAX_TEXT} are allowed")
    return bytes((len(raw),)) + raw


def take_text(body: bytes, at: int) -> tuple[str, int]:
    """A text, and where it ends. @raise FrameRefused: if it is not whole, or not UTF-8."""
    end = at + 1 + body[at] if at < len(body) else len(body) + 1
    if end > len(body):
        raise _refused("a text that is cut off")
    try:
        return body[at + 1 : end].decode("utf-8"), end
    except UnicodeDecodeError:
        raise _refused("a text that is not UTF-8") from None


@dataclass(frozen=True, slots=True)
class SendRequest:
    """
    The body of SEND.

    @ivar timeout: seconds, to a millisecond.
    """

    node: str
    service: str
    data: bytes
    timeout: float
    key: str = ""

    def encode(self) -> bytes:
        """@raise FrameRefused: if a text is too long."""
        milliseconds = min(_MAX_U32, max(0, round(1000 * self.timeout)))
        texts = map(pack_text, (self.node, self.service, self.key))
        return b"".join((_TIMEOUT.pack(milliseconds), *texts, self.data))

    @classmethod
    def decode(cls, body: bytes) -> SendRequest:
        """@raise FrameRefused: if it is none."""
        if len(body) < _TIMEOUT.size:
            raise _refused("a SEND that is cut off")
        node, at = take_text(body, _TIMEOUT.size)
        service, at = take_text(body, at)
        key, at = take_text(body, at)
        return cls(node, service, body[at:], _TIMEOUT.unpack_from(body)[0] / 1000, key)


@dataclass(frozen=True, slots=True)
class GivenMessage:
    """
    The body of MESSAGE.

    @ivar serve: tag of the SERVE.
    @ivar source: name of the node that sent it, as certified.
    @ivar source_id: its node_id.
    @ivar redelivered: it may have been handed over before.
    """

    serve: int
    source: str
    source_id: str
    roles: tuple[str, ...]
    data: bytes
    key: str = ""
    redelivered: bool = False

    def encode(self) -> bytes:
        """@raise FrameRefused: if a text is too long."""
        flags = _REDELIVERED if self.redelivered else 0
        texts = map(pack_text, (self.source, ",".join(self.roles), self.key))
        return b"".join((_GIVEN.pack(self.serve, flags, bytes.fromhex(self.source_id)), *texts, self.data))

    @classmethod
    def decode(cls, body: bytes) -> GivenMessage:
        """@raise FrameRefused: if it is none."""
        if len(body) < _GIVEN.size:
            raise _refused("a MESSAGE that is cut off")
        serve, flags, source_id = _GIVEN.unpack_from(body)
        source, at = take_text(body, _GIVEN.size)
        roles, at = take_text(body, at)
        key, at = take_text(body, at)
        listed = tuple(roles.split(",")) if roles else ()
        return cls(serve, source, source_id.hex(), listed, body[at:], key, bool(flags & _REDELIVERED))


def failed_body(slug: str, detail: str) -> bytes:
    """The body of FAILED."""
    return pack_text(slug) + detail.encode("utf-8", "replace")


def read_failed(body: bytes) -> tuple[str, str]:
    """Slug and detail. @raise FrameRefused: if it is none."""
    slug, at = take_text(body, 0)
    return slug, body[at:].decode("utf-8", "replace")


def _refused(why: str) -> FrameRefused:
    return FrameRefused("malformed", f"gmesh-messages: {why}")
