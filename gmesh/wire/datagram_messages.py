# SPDX-License-Identifier: MIT
"""
Inner frames that carry messages to services: datagrams, what becomes of them, the echo of ping and trace.

Tests: C{tests/wire/test_messages.py}.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from gmesh.wire.codec import Buffer, FieldReader, check_bytes, check_range, encode_text, refused
from gmesh.wire.limits import (
    FRAME_HEADER,
    MAX_ANSWER,
    MAX_DATAGRAM_DATA,
    MAX_ECHO,
    MAX_FRAGMENTS,
    MAX_KEY,
    MAX_NUMBERS,
    MAX_REASON,
    MAX_SERVICE,
)
from gmesh.wire.session_messages import Inner

__all__ = [
    "DATAGRAM_HEAD",
    "FLAG_OUTCOME",
    "Datagram",
    "DatagramTemplate",
    "EchoMessage",
    "MessageOutcome",
    "MessageNumbers",
    "Outcome",
    "Receipt",
    "check_key",
    "check_service",
]

DATAGRAM_HEAD = struct.Struct(">HBBQB")
"""Length, kind, flags, message, length of the service name: all before it in a DATAGRAM frame."""

FLAG_OUTCOME = 4
"""Alone among the flags of a DATAGRAM frame: a whole message without key, whose sender wants its outcome."""

_FRAGMENT = struct.Struct(">HH")
_RECEIPT = struct.Struct(">QB")
_ECHO = struct.Struct(">BQQ")
_U64 = struct.Struct(">Q")
_MAX_U64 = 2**64 - 1
_FLAG_WANT_ACK = 1
_FLAG_FRAGMENT = 2
_FLAG_KEY = 8
_FLAG_AGAIN = 16
_FLAGS = 31
_DATAGRAM = int(Inner.DATAGRAM)  # a member of an Enum is looked up by a function in Python 3.11
_SERVICE_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.-")


def check_service(name: str) -> str:
    """
    C{name} if it is a service name: 1 to 32 of C{a-z 0-9 _ . -}.

    @raise FrameRefused: otherwise.
    """
    if not 0 < len(name) <= MAX_SERVICE or not _SERVICE_CHARACTERS.issuperset(name):
        raise refused("datagram", "has a service name that is not 1 to 32 of a-z, 0-9, _, . and -")
    return name


def check_key(key: str) -> str:
    """
    C{key} if it can be the key of a message: 1 to 64 printable ASCII characters.

    @raise FrameRefused: otherwise.
    """
    if not 0 < len(key) <= MAX_KEY or not (key.isascii() and key.isprintable()):
        raise refused("datagram", f"has a key that is not 1 to {MAX_KEY} printable ASCII characters")
    return key


@dataclass(frozen=True, slots=True)
class Datagram:
    """
    A message to a service, or a fragment of one.

    @ivar service: its name.
    @ivar message: the sender's number of the message, alike in all its fragments and retries.
    @ivar data: the message or this part of it.
    @ivar want_ack: True if a L{Receipt} is wanted.
    @ivar index: position of this fragment, from 0.
    @ivar count: number of fragments; 1 when the message is whole.
    @ivar outcome: True if TAKEN and an L{MessageOutcome} are wanted instead of the receipt.
    @ivar key: by which the application knows the message again; empty without one.
    @ivar again: True if it may have been handed over before, under another number.
    """

    service: str
    message: int
    data: bytes
    want_ack: bool = False
    index: int = 0
    count: int = 1
    outcome: bool = False
    key: str = ""
    again: bool = False

    @property
    def answered(self) -> bool:
        """True if the sender wants to know what becomes of it."""
        return self.want_ack or self.outcome

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        check_service(self.service)
        check_bytes("datagram", self.data, 0, MAX_DATAGRAM_DATA)
        _check_fragment(self.index, self.count)
        flags = (
            (_FLAG_WANT_ACK if self.want_ack else 0)
            | (_FLAG_FRAGMENT if self.count > 1 else 0)
            | (FLAG_OUTCOME if self.outcome else 0)
            | (_FLAG_KEY if self.key else 0)
            | (_FLAG_AGAIN if self.again else 0)
        )
        return b"".join(
            (
                bytes((flags,)),
                _U64.pack(check_range("datagram", self.message, _MAX_U64)),
                encode_text("datagram", self.service, MAX_SERVICE),
                encode_text("datagram", check_key(self.key), MAX_KEY) if self.key else b"",
                _FRAGMENT.pack(self.index, self.count) if self.count > 1 else b"",
                self.data,
            )
        )

    @classmethod
    def decode(cls, body: Buffer) -> Datagram:
        """@raise FrameRefused: if C{body} is not one."""
        reader = FieldReader(body, "datagram")
        flags = reader.u8()
        if flags > _FLAGS:
            raise reader.refused(f"has the unknown flags {flags}")
        message = reader.u64()
        service = check_service(reader.text8(MAX_SERVICE))
        key = check_key(reader.text8(MAX_KEY)) if flags & _FLAG_KEY else ""
        index, count = 0, 1
        if flags & _FLAG_FRAGMENT:
            index, count = reader.u16(), reader.u16()
            if count < 2:
                raise reader.refused("is the only fragment of a message")
            _check_fragment(index, count)
        data = reader.rest(MAX_DATAGRAM_DATA)
        return cls(
            service,
            message,
            data,
            bool(flags & _FLAG_WANT_ACK),
            index,
            count,
            bool(flags & FLAG_OUTCOME),
            key,
            bool(flags & _FLAG_AGAIN),
        )


class DatagramTemplate:
    """The fast way to write whole datagrams to one service: all before the data is one pack."""

    __slots__ = ("_fixed", "_flags", "_pack", "_service", "size")

    def __init__(
        self, service: str, want_ack: bool = False, outcome: bool = False, again: bool = False
    ) -> None:
        name = check_service(service).encode("ascii")
        self._service = name
        self._flags = _FLAG_WANT_ACK * want_ack | FLAG_OUTCOME * outcome | _FLAG_AGAIN * again
        head = struct.Struct(f"{DATAGRAM_HEAD.format}{len(name)}s")
        self._pack = head.pack
        self.size = head.size
        self._fixed = head.size - FRAME_HEADER

    def head(self, size: int, message: int = 0) -> bytes:
        """All that stands before C{size} bytes of data, which are at most L{MAX_DATAGRAM_DATA}."""
        name = self._service
        return self._pack(self._fixed + size, _DATAGRAM, self._flags, message, len(name), name)

    def frame(self, message: int, data: Buffer) -> bytes:
        """The whole inner frame. @raise FrameRefused: if C{data} is longer than L{MAX_DATAGRAM_DATA}."""
        size = len(data)
        if size > MAX_DATAGRAM_DATA:
            raise refused("datagram", f"cannot carry {size} bytes, at most {MAX_DATAGRAM_DATA}")
        name = self._service
        head = self._pack(self._fixed + size, _DATAGRAM, self._flags, message, len(name), name)
        return b"".join((head, data))


class Outcome(IntEnum):
    """What became of a message; a number of a later version reads as REFUSED."""

    DELIVERED = 0
    NO_SUCH_SERVICE = 1
    DENIED = 2
    TOO_LARGE = 3
    BUSY = 4
    REFUSED = 5
    RECEIVER_GONE = 6
    UNKNOWN = 7
    """The node does not know the message: it was restarted, or has forgotten its sender."""

    @property
    def slug(self) -> str:
        """As in errors: C{no-such-service}."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class Receipt:
    """
    What became of the message: DELIVERED means handed to a receiver, whatever that did with it.

    @ivar message: number of the message.
    """

    message: int
    outcome: Outcome

    def encode(self) -> bytes:
        """@raise FrameRefused: if the number is too large."""
        return _RECEIPT.pack(check_range("receipt", self.message, _MAX_U64), self.outcome)

    @classmethod
    def decode(cls, body: Buffer) -> Receipt:
        """@raise FrameRefused: if C{body} is not one."""
        reader = FieldReader(body, "receipt")
        message, number = reader.u64(), reader.u8()
        reader.finish()
        try:
            return cls(message, Outcome(number))
        except ValueError:
            return cls(message, Outcome.REFUSED)


class MessageOutcome(NamedTuple):
    """
    The body of OUTCOME, what became of the message: DELIVERED means that its receiver has ended well.

    @ivar message: number of the message.
    @ivar reason: for people, in the words of the receiver; printable, perhaps empty.
    @ivar answer: what the receiver gives back.
    """

    message: int
    outcome: Outcome
    reason: str = ""
    answer: bytes = b""

    def encode(self) -> bytes:
        """What is not printable in the reason, and what is too long, is left out."""
        reason = "".join(filter(str.isprintable, self.reason)).encode("utf-8", "replace")[:MAX_REASON]
        reason = reason.decode("utf-8", "ignore").encode("utf-8")
        head = _RECEIPT.pack(check_range("OUTCOME", self.message, _MAX_U64), self.outcome)
        answer = check_bytes("OUTCOME", self.answer, 0, MAX_ANSWER)
        return b"".join((head, bytes((len(reason),)), reason, answer))

    @classmethod
    def decode(cls, body: Buffer) -> MessageOutcome:
        """@raise FrameRefused: if C{body} is not one."""
        reader = FieldReader(body, "OUTCOME")
        message, number, size = reader.u64(), reader.u8(), reader.u8()
        if size > MAX_REASON:
            raise reader.refused(f"has a reason of {size} bytes, at most {MAX_REASON} are allowed")
        reason = "".join(filter(str.isprintable, reader.take(size).decode("utf-8", "replace")))
        answer = reader.rest(MAX_ANSWER)
        return cls(message, Outcome(number) if number in _OUTCOMES else Outcome.REFUSED, reason, answer)


_OUTCOMES = frozenset(map(int, Outcome))


@dataclass(frozen=True, slots=True)
class MessageNumbers:
    """
    The body of TAKEN, SETTLED, WAITING, DELIVERED and CANCELLED.

    @ivar messages: 1 to 128 numbers of messages.
    """

    messages: tuple[int, ...]

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        _check_numbers(8 * len(self.messages))
        for message in self.messages:
            check_range("list of messages", message, _MAX_U64)
        return struct.pack(f">{len(self.messages)}Q", *self.messages)

    @classmethod
    def decode(cls, body: Buffer) -> MessageNumbers:
        """@raise FrameRefused: if C{body} is not one."""
        size = len(body)
        _check_numbers(size)
        return cls(struct.unpack(f">{size // 8}Q", body))


@dataclass(frozen=True, slots=True)
class EchoMessage:
    """
    The data of a datagram to the reserved service C{_echo}: ping and trace.

    @ivar reply: True in the answer, which repeats everything else.
    @ivar nonce: chosen by the asker.
    @ivar stamp: the asker's clock, in its own units.
    """

    reply: bool
    nonce: int
    stamp: int
    padding: bytes = b""

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        check_range("echo", self.nonce, _MAX_U64)
        check_range("echo", self.stamp, _MAX_U64)
        check_bytes("echo", self.padding, 0, MAX_ECHO)
        return _ECHO.pack(2 if self.reply else 1, self.nonce, self.stamp) + self.padding

    @classmethod
    def decode(cls, data: Buffer) -> EchoMessage:
        """@raise FrameRefused: if C{data} is not one."""
        reader = FieldReader(data, "echo")
        kind = reader.u8()
        if kind not in (1, 2):
            raise reader.refused(f"is neither request nor reply but {kind}")
        return cls(kind == 2, reader.u64(), reader.u64(), reader.rest(MAX_ECHO))


def _check_numbers(size: int) -> None:
    if not 8 <= size <= 8 * MAX_NUMBERS or size % 8:
        raise refused("list of messages", f"cannot have {size} bytes: 1 to {MAX_NUMBERS} numbers of 8")


def _check_fragment(index: int, count: int) -> None:
    if not 0 <= index < count <= MAX_FRAGMENTS:
        raise refused(
            "datagram", f"cannot be fragment {index} of {count}, at most {MAX_FRAGMENTS} are allowed"
        )
