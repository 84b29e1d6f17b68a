# SPDX-License-Identifier: MIT
"""
Listeners that are for programs do not answer web pages.

A browser on this host, or near it, reaches what listens on TCP, and sends there what any page it shows asks
for.  It names the page in C{Origin} (RFC 6454, section 7), or says in C{Sec-Fetch-Site} (W3C, Fetch
Metadata) where the request came from; a page whose own name was made to lead here (DNS rebinding) shows in
C{Host}; and what a page can send without being asked first is never C{application/json} (WHATWG Fetch,
section 2.2.2).

Tests: C{tests/daemon/test_browsers.py}.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.web.resource import IResource, Resource, getChildForRequest
from twisted.web.server import Request

from gmesh.daemon.web import PROBLEM_TYPE, problem_body

__all__ = ["ForPrograms", "PageFilter"]

_JSON = "application/json"

Header = Callable[[str], str | None]
"""Gives the value of a header, by its name in lower case."""


class PageFilter:
    """
    Knows the requests that a web page may have made.

    @param names: those under which programs may ask over TCP, beside C{localhost}, this host's own name
        and every address.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = {"localhost", socket.gethostname().lower(), *(name.lower() for name in names)}

    def refusal(
        self, method: str, header: Header, listens: IAddress, target: str = ""
    ) -> tuple[str, int, str] | None:
        """
        Why a request is not answered, if so.

        @param listens: the address at which it came in.
        @param target: whom it is to reach, if that is what C{Host} names: of C{CONNECT} (RFC 9112, section
            3.2.3), which no page can send.
        @return: slug, HTTP status, detail.
        """
        site = header("sec-fetch-site")
        if header("origin") is not None or site not in (None, "none"):
            return "forbidden", 403, "this is for programs: no page of a browser is answered"
        if isinstance(listens, UNIXAddress):
            return None
        host = header("host")
        if host is not None and host != target and not self._known(host):
            return "wrong-host", 421, "ask by localhost, by an address, or by a name given with --host"
        kind = (header("content-type") or "").partition(";")[0].strip().lower()
        if not target and method not in ("GET", "HEAD") and kind != _JSON:
            return "unsupported-type", 415, "a body here is application/json, and says so"
        return None

    def _known(self, host: str) -> bool:
        """Whether a C{Host} (RFC 9110, section 7.2) names this host, and nobody else's name for it."""
        name = re.sub(r":[0-9]*\Z", "", host)
        try:
            ip_address(name[1:-1] if name[:1] == "[" and name[-1:] == "]" else name)
        except ValueError:
            return name.lower().removesuffix(".") in self._names
        return True


class ForPrograms(Resource):
    """
    What is below answers programs alone; a web page is told that it does not.

    @param names: see L{PageFilter}.
    """

    isLeaf = True

    def __init__(self, inner: IResource, names: Iterable[str] = ()) -> None:
        super().__init__()
        self._inner = inner
        self._pages = PageFilter(names)

    def render(self, request: Request) -> Any:
        """What the inner resource answers, or why nothing is answered."""

        def header(name: str) -> str | None:
            value = request.getHeader(name.encode("ascii"))
            return None if value is None else value.decode("latin-1")

        refused = self._pages.refusal(request.method.decode("latin-1"), header, request.getHost())
        if refused is None:
            return getChildForRequest(self._inner, request).render(request)
        slug, status, detail = refused
        request.setResponseCode(status)
        request.setHeader(b"content-type", PROBLEM_TYPE.encode("ascii"))
        return problem_body(slug, slug.replace("-", " "), status, detail)
