# SPDX-License-Identifier: MIT
"""
Bodies that concern one link: HELLO, PING, PONG, CLOSE. REKEY has an empty body.

Tests: C{tests/wire/test_messages.py}.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import IntEnum

from gmesh.errors import FrameRefused
from gmesh.wire.codec import Buffer, FieldReader, check_bytes, check_range, encode_text, refused
from gmesh.wire.limits import MAX_ADDRESS, MAX_EXTENSION, MAX_NUMBER, MAX_VERSION_TEXT

__all__ = ["BOOT_ID", "DIGEST_SIZE", "Close", "CloseReason", "Hello", "Ping", "Pong", "decode_rekey"]

BOOT_ID = 8
DIGEST_SIZE = 2048
"""256 buckets of 8 bytes."""

_FLAG_INITIATOR = 1
_HELLO = struct.Struct(">8sBQQQQQI")
_PING = struct.Struct(">QQ")
_MAX_U64 = 2**64 - 1
_MAX_U32 = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Hello:
    """
    The first frame each way.

    @ivar boot_id: 8 random bytes a start.
    @ivar initiator: True if the sender dialled.
    @ivar wall_ms: the sender's wall clock, milliseconds since 1970; for an alarm only.
    @ivar serial: of the sender's certificate.
    @ivar status: number of the newest status held, 0 for none; likewise C{crl}, C{policy}.
    @ivar genesis: version of the newest genesis held.
    @ivar digest: of the record database, 256 buckets of 8 bytes.
    @ivar software: name and version.
    @ivar observed: the address the receiver is seen at, C{HOST:PORT}; information, never identity.
    """

    boot_id: bytes
    initiator: bool
    wall_ms: int
    serial: int
    status: int
    crl: int
    policy: int
    genesis: int
    digest: bytes
    software: str = ""
    observed: str = ""

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        check_bytes("HELLO", self.boot_id, BOOT_ID, BOOT_ID)
        check_bytes("HELLO", self.digest, DIGEST_SIZE, DIGEST_SIZE)
        check_range("HELLO", self.wall_ms, MAX_NUMBER)
        for number in (self.serial, self.status, self.crl, self.policy):
            check_range("HELLO", number, MAX_NUMBER)
        check_range("HELLO", self.genesis, _MAX_U32)
        flags = _FLAG_INITIATOR if self.initiator else 0
        return b"".join(
            (
                _HELLO.pack(
                    self.boot_id,
                    flags,
                    self.wall_ms,
                    self.serial,
                    self.status,
                    self.crl,
                    self.policy,
                    self.genesis,
                ),
                self.digest,
                encode_text("HELLO", self.software, MAX_VERSION_TEXT),
                encode_text("HELLO", self.observed, MAX_ADDRESS),
            )
        )

    @classmethod
    def decode(cls, body: Buffer) -> Hello:
        """
        Undefined flags, and up to L{MAX_EXTENSION} bytes at the end, are ignored.

        @raise FrameRefused: if C{body} is not one.
        """
        reader = FieldReader(body, "HELLO")
        boot_id = reader.take(BOOT_ID)
        flags = reader.u8()
        wall_ms, serial, status, crl, policy = (reader.number(MAX_NUMBER) for _ in range(5))
        genesis = reader.u32()
        digest = reader.take(DIGEST_SIZE)
        software = reader.text8(MAX_VERSION_TEXT)
        observed = reader.text8(MAX_ADDRESS)
        reader.skip_extension(MAX_EXTENSION)
        initiator = bool(flags & _FLAG_INITIATOR)
        return cls(
            boot_id, initiator, wall_ms, serial, status, crl, policy, genesis, digest, software, observed
        )

    def without_digest(self) -> Hello:
        """What is kept as long as the link: the digest, 2 KiB, serves once, when it comes up."""
        return replace(self, digest=b"")


@dataclass(frozen=True, slots=True)
class Ping:
    """
    Are you there? Answered at once by a L{Pong} with the same fields.

    @ivar nonce: chosen by the prober.
    @ivar stamp: the prober's clock, in its own units: no clock needs to agree.
    """

    nonce: int
    stamp: int

    def encode(self) -> bytes:
        """@raise FrameRefused: if a number is too large."""
        return _PING.pack(
            check_range("PING", self.nonce, _MAX_U64), check_range("PING", self.stamp, _MAX_U64)
        )

    @classmethod
    def decode(cls, body: Buffer) -> Ping:
        """@raise FrameRefused: if C{body} is not one."""
        if len(body) != _PING.size:
            raise refused("PING", f"has {len(body)} bytes instead of {_PING.size}")
        return cls(*_PING.unpack(body))


@dataclass(frozen=True, slots=True)
class Pong(Ping):
    """The answer to a L{Ping}."""


class CloseReason(IntEnum):
    """Why a link is closed; the C{slug} is what logs and counters say."""

    UNSPECIFIED = 0
    DUPLICATE = 1
    REVOKED = 2
    EXPIRED = 3
    FULL = 4
    PROTOCOL = 5
    SHUTDOWN = 6
    TIMEOUT = 7
    RENEWED = 8
    OVERLOAD = 9
    VERSION = 10
    TWIN = 11
    FLOOD = 12

    @property
    def slug(self) -> str:
        """The name in lower case."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Close:
    """The last frame on a link."""

    reason: CloseReason

    def encode(self) -> bytes:
        """One byte."""
        return bytes((self.reason,))

    @classmethod
    def decode(cls, body: Buffer) -> Close:
        """
        A reason of a later version reads as UNSPECIFIED.

        @raise FrameRefused: if C{body} is not one byte.
        """
        reader = FieldReader(body, "CLOSE")
        number = reader.u8()
        reader.finish()
        try:
            return cls(CloseReason(number))
        except ValueError:
            return cls(CloseReason.UNSPECIFIED)


def decode_rekey(body: Buffer) -> None:
    """@raise FrameRefused: if the body of a REKEY is not empty."""
    if len(body):
        raise FrameRefused("malformed", f"a REKEY has {len(body)} bytes too many")
