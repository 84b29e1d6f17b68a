# SPDX-License-Identifier: MIT
"""
What the HTTP of both daemons has in common: bodies with a cap, refusals that close, problem documents.

twisted.web buffers any body, and goes on reading after it was asked to close; here a body is counted while
it comes in, and what is refused is answered by a problem document (RFC 9457) and read no further.

Tests: C{tests/daemon/test_web.py}, C{tests/authority/test_http.py}, C{tests/node/api}.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from io import BytesIO
from typing import Any

from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.web.http import HTTPChannel
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

__all__ = ["PROBLEM_TYPE", "CappedChannel", "CappedRequest", "QuietSite", "problem_body", "refusal"]

PROBLEM_TYPE = "application/problem+json"
"""RFC 9457, section 3."""


def problem_body(slug: str, title: str, status: int, detail: str, **members: object) -> bytes:
    """
    The JSON of a problem document.

    @param slug: names the problem to programs, in its C{type}.
    @param members: what this problem says beyond the members of RFC 9457.
    """
    document = {
        "type": f"urn:gmesh:problem:{slug}",
        "title": title,
        "status": status,
        "detail": detail,
        **members,
    }
    return json.dumps(document, separators=(",", ":")).encode("utf-8") + b"\n"


def refusal(status: int, slug: str, detail: str) -> bytes:
    """A whole answer that refuses and closes, head and body, for what is no longer HTTP, or not yet."""
    return _answer(status, problem_body(slug, slug.replace("-", " "), status, detail))


def _answer(status: int, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {PROBLEM_TYPE}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


class QuietRequest(Request):
    """A request that anybody can make without a line in the log: twisted.web writes one for each HEAD."""

    def render(self, resrc: IResource) -> None:
        """Answer; a HEAD with the length of what a GET would get, and no body."""
        super().render(_HeadOf(resrc) if self.method == b"HEAD" else resrc)


class _HeadOf(Resource):
    """What a resource answers, without the body."""

    isLeaf = True

    def __init__(self, inner: IResource) -> None:
        super().__init__()
        self._inner = inner

    def render(self, request: Any) -> Any:
        """Nothing, where it answers at once: then its length is known."""
        body = self._inner.render(request)
        if not isinstance(body, bytes):
            return body
        request.setHeader(b"content-length", b"%d" % len(body))
        return b""


class CappedRequest(QuietRequest):
    """
    A request whose body is kept in memory, never on disk, and never grows over its cap.

    @cvar body_limit: bytes.
    """

    channel: CappedChannel
    body_limit: int

    def gotLength(self, length: int | None) -> None:
        """The headers are complete: refuse an announced body that is too large."""
        self.content = BytesIO()
        if length is not None and length > self.body_limit:
            self._too_large()

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a piece of the body, if it still fits."""
        if self.channel.refused:
            return
        assert self.content is not None
        if self.content.tell() + len(data) > self.body_limit:
            self._too_large()
        else:
            self.content.write(data)

    def _too_large(self) -> None:
        self.channel.refuse(413, "too-large", f"a body has at most {self.body_limit} bytes")


class CappedChannel(HTTPChannel):
    """
    A connection that can be refused in place of the application.

    @ivar refused: an answer was written and the connection is going down: take nothing more.
    """

    site: QuietSite
    transport: ITCPTransport
    refused = False
    _here: IAddress | None = None
    _there: IAddress | None = None

    def getHost(self) -> IAddress:
        """Where it came in."""
        return super().getHost() if self._here is None else self._here

    def getPeer(self) -> IAddress:
        """Who asks."""
        return super().getPeer() if self._there is None else self._there

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """Write a head in one piece: a transport looks at each piece that it is given."""
        lines = [b"%s %s %s" % (version, code, reason)]
        for name, values in headers.getAllRawHeaders():
            lines += [b"%s: %s" % (name, value) for value in values]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n")

    def lineReceived(self, line: bytes) -> None:
        """A line of a head."""
        self.keep_ends()
        if not self.refused:
            super().lineReceived(line)

    def keep_ends(self) -> None:
        """
        Ask both ends of the system with the first line and not for each request.

        Never before, since a proxy in front says in its own header whose connection it is.
        """
        if self._there is None:
            self._here, self._there = super().getHost(), super().getPeer()

    def rawDataReceived(self, data: bytes) -> None:
        """A piece of a body."""
        if not self.refused:
            super().rawDataReceived(data)

    def allContentReceived(self) -> None:
        """A request is whole."""
        if not self.refused:
            super().allContentReceived()

    def refuse(self, status: int, slug: str, detail: str) -> None:
        """Answer in place of the application, then close."""
        if self.refused:
            return
        self.refused = True
        self.transport.write(_answer(status, self.site.problem(slug, status, detail)))
        self.loseConnection()


class QuietSite(Site):
    """A site that logs no requests; HTTP/1.1 only, because h2 would bring a channel without these bounds."""

    protocol: Any = CappedChannel
    requestFactory: Any = QuietRequest
    noisy = False

    def acceptableProtocols(self) -> list[bytes]:
        """What TLS may negotiate."""
        return [b"http/1.1"]

    def problem(self, slug: str, status: int, detail: str) -> bytes:
        """The body of a refusal."""
        return problem_body(slug, slug.replace("-", " "), status, detail)

    def log(self, request: Any) -> None:
        """No access log: what is worth a line is logged where it is decided."""
