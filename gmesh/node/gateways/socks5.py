# SPDX-License-Identifier: MIT
"""
The server's side of SOCKS 5 (RFC 1928) as far as a mesh of names needs it: CONNECT to a name, no password.

No input, no output: bytes go in and come out.
Tests: C{tests/node/gateways/test_socks5.py}, against the C{socksio} of others.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

__all__ = ["VERSION", "Reply", "Socks5"]

VERSION: Final = 5
_NO_PASSWORD, _NO_METHOD = 0x00, 0xFF
_CONNECT = 0x01
_NAME = 0x03
_ADDRESS_SIZES: Final = {0x01: 4, 0x04: 16}


class Reply(IntEnum):
    """RFC 1928, section 6."""

    SUCCEEDED = 0
    FAILED = 1
    NOT_ALLOWED = 2
    NO_ROUTE = 3
    NO_HOST = 4
    REFUSED = 5
    NO_COMMAND = 7
    NO_ADDRESS = 8

    def encode(self) -> bytes:
        """It, with an address of zeros: there is none."""
        return bytes((VERSION, self, 0, 1)) + bytes(6)

    @classmethod
    def of(cls, reason: str) -> Reply:
        """What stands for a slug of L{gmesh.stream_errors.DialRefused}."""
        return _OF_REASON.get(reason, cls.FAILED)


_OF_REASON: Mapping[str, Reply] = MappingProxyType(
    {
        "outside": Reply.NOT_ALLOWED,
        "forbidden": Reply.NOT_ALLOWED,
        "denied": Reply.NOT_ALLOWED,
        "revoked": Reply.NOT_ALLOWED,
        "expired": Reply.NOT_ALLOWED,
        "stale": Reply.NOT_ALLOWED,
        "no-route": Reply.NO_ROUTE,
        "too-far": Reply.NO_ROUTE,
        "unknown-node": Reply.NO_HOST,
        "timed-out": Reply.NO_HOST,
        "unreachable": Reply.NO_HOST,
        "refused": Reply.REFUSED,
        "no-such-service": Reply.REFUSED,
    }
)


class Socks5:
    """
    One connection, until it is known where to.

    @ivar asked: host and port, once they are known.
    @ivar over: nothing more can come of it: what is to be sent is the last.
    """

    def __init__(self) -> None:
        self._held = b""
        self._greeted = False
        self.asked: tuple[str, int] | None = None
        self.over = False

    def feed(self, data: bytes) -> bytes:
        """Take what has come. @return: what is to be sent."""
        self._held += data
        answer = b""
        while not self.over and self.asked is None:
            step = self._request() if self._greeted else self._greeting()
            if step is None:
                break
            answer += step
        return answer

    @property
    def rest(self) -> bytes:
        """What came after the request."""
        return self._held

    def _greeting(self) -> bytes | None:
        held = self._held
        if len(held) < 2 or len(held) < 2 + held[1]:
            return None
        methods, self._held = held[2 : 2 + held[1]], held[2 + held[1] :]
        self._greeted = _NO_PASSWORD in methods
        self.over = not self._greeted
        return bytes((VERSION, _NO_METHOD if self.over else _NO_PASSWORD))

    def _request(self) -> bytes | None:
        held = self._held
        if len(held) < 5:
            return None
        version, command, _, kind, size = held[:5]
        if version != VERSION:
            return self._refuse(Reply.FAILED)
        if kind != _NAME and kind not in _ADDRESS_SIZES:
            return self._refuse(Reply.NO_ADDRESS)
        end = 5 + size if kind == _NAME else 4 + _ADDRESS_SIZES[kind]
        if len(held) < end + 2:
            return None
        if command != _CONNECT:
            return self._refuse(Reply.NO_COMMAND)
        if kind != _NAME:
            return self._refuse(Reply.NO_ADDRESS)
        self.asked = held[5:end].decode("ascii", "replace"), int.from_bytes(held[end : end + 2])
        self._held = held[end + 2 :]
        return b""

    def _refuse(self, reply: Reply) -> bytes:
        self.over = True
        return reply.encode()
