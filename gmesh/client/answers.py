# SPDX-License-Identifier: MIT
"""
What a program asks the local API for a stream or messages with, and how it reads the answer.

One request a connection, so little of HTTP/1.1 (RFC 9112) is needed; the bytes behind the head of C{101} are
the stream's.  No input, no output, and nothing of Twisted.  Tests: C{tests/client/test_answers.py}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from gmesh.errors import FrameRefused, GmeshError

__all__ = [
    "MAX_BODY",
    "MAX_HEAD",
    "MESSAGES_REQUEST",
    "PROBLEM_PREFIX",
    "LocalAnswer",
    "AnswerReader",
    "AnswerRefused",
    "connect_request",
    "read_head",
    "plain_node",
    "upgrade_request",
]

#: The largest head of an answer; a request has the same bound at the daemon.
MAX_HEAD = 8 * 1024
#: The largest body of a refusal: what a problem document is far below.
MAX_BODY = 64 * 1024

#: Asks for the frames of messages.
MESSAGES_REQUEST = (
    b"GET /v1/messages HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: gmesh-messages\r\n\r\n"
)
#: What the type of a problem document begins with (RFC 9457).
PROBLEM_PREFIX = "urn:gmesh:problem:"
_END = b"\r\n\r\n"


def plain_node(node: str) -> str:
    """A node's name without the C{.gmesh} that proxies and ssh know it by."""
    return node.lower().removesuffix(".gmesh")


def upgrade_request(path: str, **query: str) -> bytes:
    """Ask for a framed stream. @param query: C{node} and C{service} to connect, C{service} to accept."""
    return (
        f"GET {path}?{urlencode(query)} HTTP/1.1\r\n"
        "Host: localhost\r\nConnection: Upgrade\r\nUpgrade: gmesh-stream\r\n\r\n"
    ).encode("ascii")


def connect_request(node: str, service: str) -> bytes:
    """Ask for a raw one: what follows C{200} are the bytes of the stream."""
    target = f"{quote(node, safe='')}:{quote(service, safe='')}"
    return f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode("ascii")


class AnswerRefused(GmeshError):
    """
    The daemon does not do what it is asked.

    @param status: of HTTP.
    """

    def __init__(self, reason: str, detail: str, status: int) -> None:
        super().__init__(reason, detail)
        self.status = status


@dataclass(frozen=True, slots=True)
class LocalAnswer:
    """
    @ivar status: of HTTP; below 200 but 101 another one follows.
    @ivar fields: by name in lower case.
    @ivar body: of a refusal.
    """

    status: int
    fields: Mapping[str, str]
    body: bytes = b""

    def described(self, field: str) -> Mapping[str, Any]:
        """The node that C{Gmesh-Peer} or C{Gmesh-Host} describes; nothing if it does not."""
        try:
            value = json.loads(self.fields.get(field, "{}"))
        except (ValueError, RecursionError):
            value = None
        return value if isinstance(value, dict) else {}

    def refusal(self) -> AnswerRefused:
        """Why not, as its problem document says it."""
        try:
            problem = json.loads(self.body)
        except (ValueError, RecursionError):
            problem = None
        if not isinstance(problem, dict):
            detail = f"the node's daemon answered {self.status} without saying why"
            return AnswerRefused("bad-answer", detail, self.status)
        slug = str(problem.get("type", "")).removeprefix(PROBLEM_PREFIX) or "refused"
        detail = str(problem.get("detail") or problem.get("title") or slug)
        return AnswerRefused(slug, detail, self.status)


def read_head(head: bytes) -> LocalAnswer:
    """
    An answer without its body.

    @param head: up to the empty line, which may be left out.
    @raise FrameRefused: if it is none of HTTP/1.
    """
    first, *lines = head.decode("latin-1").strip("\r\n").split("\r\n")
    version, _, rest = first.partition(" ")
    status = rest[:3]
    if not version.startswith("HTTP/1.") or not (status.isascii() and status.isdigit() and len(status) == 3):
        raise FrameRefused("bad-answer", "what listens there does not speak HTTP: it is no node's daemon")
    pairs = (line.partition(":") for line in lines)
    return LocalAnswer(int(status), {name.strip().lower(): value.strip() for name, _, value in pairs})


class AnswerReader:
    """
    Reads answers up to the last: C{1xx} ones, then C{101}, or a refusal with its body.

    @ivar rest: what came behind it.
    """

    def __init__(self) -> None:
        self.rest = b""
        self._refusal: LocalAnswer | None = None

    def feed(self, data: bytes) -> list[LocalAnswer]:
        """
        The answers that C{data} completes.

        @raise FrameRefused: if they are none of HTTP, or too large.
        """
        self.rest += data
        found: list[LocalAnswer] = []
        while self._refusal is None and (end := self.rest.find(_END)) >= 0:
            answer, self.rest = read_head(self.rest[:end]), self.rest[end + len(_END) :]
            if answer.status < 200:
                found.append(answer)
                if answer.status == 101:
                    return found
            else:
                self._refusal = answer
        if self._refusal is not None:
            size = self._refusal.fields.get("content-length", "")
            if size.isdecimal() and len(self.rest) >= int(size):
                found.append(self._whole(int(size)))
        limit = MAX_HEAD if self._refusal is None else MAX_BODY
        if not found and len(self.rest) > limit:
            raise FrameRefused("bad-answer", f"the answer is larger than {limit} bytes")
        return found

    def end(self) -> LocalAnswer | None:
        """Nothing more comes: the refusal, if its head has come."""
        return self._whole(len(self.rest)) if self._refusal is not None else None

    def _whole(self, size: int) -> LocalAnswer:
        assert self._refusal is not None
        return LocalAnswer(self._refusal.status, self._refusal.fields, self.rest[:size])
