# SPDX-License-Identifier: MIT
"""
The head of a request of HTTP/1 (RFC 9112), for what is to be bytes of a stream right after it.

Bytes in, words out.  Tests: C{tests/node/test_http_head.py}.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gmesh.errors import RequestRefused

__all__ = ["END", "MAX_HEAD", "RequestHead", "read_head"]

MAX_HEAD = 8 * 1024
"""Bytes of a head; RFC 9112 (section 3) asks for as much of its first line."""
END = b"\r\n\r\n"

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110, section 5.6.2."""
_VALUE = re.compile(r"[\t -~\x80-\xff]*")
"""RFC 9110, section 5.5."""
_TARGET = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class RequestHead:
    """
    What a request says before its body.

    @ivar method: as it was spelled.
    @ivar target: the same.
    @ivar fields: all values of each header, by its name in lower case.
    """

    method: str
    target: str
    fields: Mapping[str, tuple[str, ...]]

    def field(self, name: str) -> str | None:
        """
        The only value of a header, or None.

        @raise RequestRefused: C{bad-request}, if there are several.
        """
        values = self.fields.get(name, ())
        if len(values) > 1:
            raise _refused(f"there are {len(values)} headers {name}")
        return values[0] if values else None

    def listed(self, name: str) -> list[str]:
        """The members of a header that is a list (RFC 9110, section 5.6.1), in lower case."""
        members = ",".join(self.fields.get(name, ())).split(",")
        return [member.strip().lower() for member in members if member.strip()]

    @property
    def has_body(self) -> bool:
        """Whether it announces one."""
        return "transfer-encoding" in self.fields or self.field("content-length") not in (None, "0")


def read_head(head: bytes) -> RequestHead:
    """
    Read a head.

    @param head: all before L{END}.
    @raise RequestRefused: C{bad-request}, if it is not one of HTTP/1, or if two programs might read it
        in two ways.
    """
    first, *rest = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not _TOKEN.fullmatch(words[0]) or not _TARGET.fullmatch(words[1]):
        raise _refused("its first line is not METHOD TARGET HTTP/1.1")
    if words[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise _refused("it is not HTTP/1.1")
    fields: dict[str, tuple[str, ...]] = {}
    for line in rest:
        name, colon, value = line.partition(":")
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise _refused("a header is not NAME: VALUE")
        key = name.lower()
        fields[key] = (*fields.get(key, ()), value.strip(" \t"))
    return RequestHead(words[0], words[1], fields)


def _refused(why: str) -> RequestRefused:
    return RequestRefused("bad-request", f"this is no request: {why}")
