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
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.web.resource import IResource, Resource, getChildForRequest
from twisted.web.server import Request

from gmesh.daemon.web import PROBLEM_TYPE, problem_body

__all__ = ["ForPrograms"]

_JSON = b"application/json"


class ForPrograms(Resource):
    """
    What is below answers programs alone; a web page is told that it does not.

    @param names: those under which programs may ask over TCP, beside C{localhost}, this host's own name
        and every address.
    """

    isLeaf = True

    def __init__(self, inner: IResource, names: Iterable[str] = ()) -> None:
        super().__init__()
        self._inner = inner
        self._names = {"localhost", socket.gethostname().lower(), *(name.lower() for name in names)}

    def render(self, request: Request) -> Any:
        """What the inner resource answers, or why nothing is answered."""
        refused = self._refusal(request)
        if refused is None:
            return getChildForRequest(self._inner, request).render(request)
        slug, status, detail = refused
        request.setResponseCode(status)
        request.setHeader(b"content-type", PROBLEM_TYPE.encode("ascii"))
        return problem_body(slug, slug.replace("-", " "), status, detail)

    def _refusal(self, request: Request) -> tuple[str, int, str] | None:
        """(slug, HTTP status, detail)"""
        site = request.getHeader(b"sec-fetch-site")
        if request.getHeader(b"origin") is not None or site not in (None, b"none"):
            return "forbidden", 403, "this is for programs: no page of a browser is answered"
        if isinstance(request.getHost(), UNIXAddress):
            return None
        host = request.getHeader(b"host")
        if host is not None and not self._known(host.decode("latin-1")):
            return "wrong-host", 421, "ask by localhost, by an address, or by a name given with --host"
        kind = (request.getHeader(b"content-type") or b"").partition(b";")[0].strip().lower()
        if request.method not in (b"GET", b"HEAD") and kind != _JSON:
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
