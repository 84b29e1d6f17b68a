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
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from gmesh.errors import FrameRefused

__all__ = [
    "MAX_BODY",
    "MessageFrameReader",
    "FrameType",
    "GivenMessage",
    "MessageFrame",
    "SendRequest",
    "done_frame",
    "failed_body",
    "given_frame",
    "pack_text",
    "read_failed",
    "send_frame",
    "sent_frame",
    "take_text",
]

MAX_BODY = 1024 * 1024
"""Bytes of the longest body: an ANSWER about a large mesh."""
MAX_TEXT = 255
_HEAD = struct.Struct(">II")
_TIMEOUT = struct.Struct(">I")
_GIVEN = struct.Struct(">IB")
_GIVEN_HEAD = struct.Struct(">IIIB")
_REDELIVERED = 1
_EMPTY = b"\0"
_REMEMBERED = 1024
"""Beginnings that were read or written lately: that of a message is mostly that of the one before."""
_MAX_U32 = 2**32 - 1


class FrameType(IntEnum):
    """
    The first byte of a frame; up to 15 a program says it, from 16 on the node.

     - SEND: C{u32 timeout in ms | text node | text service | text key | data}
     - CANCEL: nothing; the program waits no more for its SEND
     - SERVE: C{u16 concurrent | text service}; its tag names the service in MESSAGE
     - LEAVE: nothing, or C{u32 tag of the last MESSAGE read}, and the node takes back what came after it; no
       more messages for that SERVE, or answers to that WATCH
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


_KINDS = {int(kind): kind for kind in FrameType}
_SEND_KIND, _DONE_KIND = FrameType.SEND << 24, FrameType.DONE << 24
_SENT_KIND, _MESSAGE_KIND = FrameType.SENT << 24, FrameType.MESSAGE << 24
_SENT_HEAD = struct.Struct(">III")
_new = tuple.__new__


class MessageFrame(NamedTuple):
    """One frame."""

    kind: FrameType
    tag: int
    body: bytes = b""

    def encode(self) -> bytes:
        """@raise FrameRefused: if it is too long."""
        kind, tag, body = self
        if len(body) > MAX_BODY or not 0 <= tag <= _MAX_U32:
            raise _refused(f"a {kind.name} of {len(body)} bytes, at most {MAX_BODY} are allowed")
        return _HEAD.pack(kind << 24 | len(body) + 4, tag) + body


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
        at, end, kinds, unpack = 0, len(data), _KINDS, _HEAD.unpack_from
        while end - at >= 8:
            head, tag = unpack(data, at)
            kind, size = kinds.get(head >> 24), head & 0xFFFFFF
            if kind is None:
                raise _refused(f"there is no frame of kind {head >> 24}")
            if not 4 <= size <= self._limit + 4:
                raise _refused(f"a frame of {size} bytes, allowed are 4 to {self._limit + 4}")
            after = at + 4 + size
            if after > end:
                break
            found.append(_new(MessageFrame, (kind, tag, data[at + 8 : after])))
            at = after
        self._held = data[at:]
        return found


def pack_text(text: str) -> bytes:
    """@raise FrameRefused: if it is longer than 255 bytes."""
    raw = text.encode("utf-8", "replace")
    if len(raw) > MAX_TEXT:
        raise _refused(f"a text of {len(raw)} bytes, at most {MAX_TEXT} are allowed")
    return bytes((len(raw),)) + raw


def _read_text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _refused("a text that is not UTF-8") from None


def take_text(body: bytes, at: int) -> tuple[str, int]:
    """A text, and where it ends. @raise FrameRefused: if it is not whole, or not UTF-8."""
    end = at + 1 + body[at] if at < len(body) else len(body) + 1
    if end > len(body):
        raise _refused("a text that is cut off")
    return _read_text(body[at + 1 : end]), end


class SendRequest(NamedTuple):
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
        key = pack_text(self.key) if self.key else _EMPTY
        return b"".join((_pack_order(self.node, self.service, self.timeout), key, self.data))

    @classmethod
    def decode(cls, body: bytes) -> SendRequest:
        """@raise FrameRefused: if it is none."""
        at, key, data = _three_texts(body, _TIMEOUT.size)
        node, service, timeout = _read_order(body[:at])
        return _new(cls, (node, service, data, timeout, key))


@lru_cache(_REMEMBERED)
def _pack_order(node: str, service: str, timeout: float) -> bytes:
    """What SENDs to one service begin with."""
    milliseconds = min(_MAX_U32, max(0, round(1000 * timeout)))
    return _TIMEOUT.pack(milliseconds) + pack_text(node) + pack_text(service)


@lru_cache(_REMEMBERED)
def _read_order(raw: bytes) -> tuple[str, str, float]:
    node, at = take_text(raw, _TIMEOUT.size)
    service, _ = take_text(raw, at)
    return node, service, _TIMEOUT.unpack_from(raw)[0] / 1000


def send_frame(tag: int, node: str, service: str, data: bytes, timeout: float, key: str = "") -> bytes:
    """The whole SEND, with the fields of L{SendRequest}. @raise FrameRefused: if it is too long."""
    order = _pack_order(node, service, timeout)
    packed = pack_text(key) if key else _EMPTY
    size = 4 + len(order) + len(packed) + len(data)
    if size > MAX_BODY + 4:
        raise _refused(f"a SEND of {len(data)} bytes of data, at most {MAX_BODY} are allowed with its texts")
    return b"".join((_HEAD.pack(_SEND_KIND | size, tag), order, packed, data))


class GivenMessage(NamedTuple):
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
        return given_frame(0, *self)[_HEAD.size :]

    @classmethod
    def decode(cls, body: bytes) -> GivenMessage:
        """@raise FrameRefused: if it is none."""
        at, key, data = _three_texts(body, _GIVEN.size + 16)
        source_id, source, roles = _read_source(body[_GIVEN.size : at])
        serve, flags = _GIVEN.unpack_from(body)
        return _new(cls, (serve, source, source_id, roles, data, key, bool(flags & _REDELIVERED)))


def given_frame(
    tag: int,
    serve: int,
    source: str,
    source_id: str,
    roles: tuple[str, ...],
    data: bytes,
    key: str = "",
    redelivered: bool = False,
) -> bytes:
    """The whole MESSAGE, with the fields of L{GivenMessage}. @raise FrameRefused: if a text is too long."""
    sender, packed = _pack_source(source_id, source, roles), pack_text(key) if key else _EMPTY
    size = 4 + _GIVEN.size + len(sender) + len(packed) + len(data)
    flags = _REDELIVERED if redelivered else 0
    return b"".join((_GIVEN_HEAD.pack(_MESSAGE_KIND | size, tag, serve, flags), sender, packed, data))


def done_frame(tag: int, answer: bytes) -> bytes:
    """The whole DONE. @raise FrameRefused: if it is too long."""
    if not answer:
        return _HEAD.pack(_DONE_KIND | 4, tag)
    return MessageFrame(FrameType.DONE, tag, answer).encode()


def sent_frame(tag: int, milliseconds: int, answer: bytes) -> bytes:
    """The whole SENT."""
    head = _SENT_HEAD.pack(_SENT_KIND | 8 + len(answer), tag, milliseconds)
    return head + answer if answer else head


@lru_cache(_REMEMBERED)
def _pack_source(source_id: str, source: str, roles: tuple[str, ...]) -> bytes:
    """Who sends: mostly it is who sent the message before."""
    return bytes.fromhex(source_id) + pack_text(source) + pack_text(",".join(roles))


@lru_cache(_REMEMBERED)
def _read_source(raw: bytes) -> tuple[str, str, tuple[str, ...]]:
    source, at = take_text(raw, 16)
    roles, _ = take_text(raw, at)
    return raw[:16].hex(), source, tuple(roles.split(",")) if roles else ()


def _three_texts(body: bytes, at: int) -> tuple[int, str, bytes]:
    """
    Two texts from C{at} on, which are mostly those of the frame before, a key, and data.

    @return: where the two end, the key, the data.
    @raise FrameRefused: if the texts are not whole.
    """
    try:
        at += 1 + body[at]
        at += 1 + body[at]
        end = at + 1 + body[at]
    except IndexError:
        end = len(body) + 1
    if end > len(body):
        raise _refused("a text that is cut off")
    return at, _read_text(body[at + 1 : end]) if end > at + 1 else "", body[end:]


def failed_body(slug: str, detail: str) -> bytes:
    """The body of FAILED."""
    return pack_text(slug) + detail.encode("utf-8", "replace")


def read_failed(body: bytes) -> tuple[str, str]:
    """Slug and detail. @raise FrameRefused: if it is none."""
    slug, at = take_text(body, 0)
    return slug, body[at:].decode("utf-8", "replace")


def _refused(why: str) -> FrameRefused:
    return FrameRefused("malformed", f"gmesh-messages: {why}")
