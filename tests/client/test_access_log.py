# SPDX-License-Identifier: MIT
"""L{gmesh.client.access_log}: the log of a web server names the nodes that asked."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.web.iweb import IAccessLogFormatter
from twisted.web.test.requesthelper import DummyRequest

from gmesh.addresses import MeshAddress
from gmesh.client import access_log_line


@pytest.mark.parametrize(
    ("peer", "who"),
    [
        (MeshAddress("desk", "de" * 16, (), 3, "http"), "desk"),
        (IPv4Address("TCP", "192.0.2.7", 80), "192.0.2.7"),
    ],
)
def test_a_line_names_who_asked(peer: Any, who: str) -> None:
    assert IAccessLogFormatter.providedBy(access_log_line)
    request = DummyRequest([])
    request.client = peer
    request.method, request.uri, request.clientproto, request.code = b"GET", b"/level", b"HTTP/1.1", 200
    request.sentLength = 27
    line = access_log_line("[30/Nov/2026]", request)
    assert line == f'"{who}" - - [30/Nov/2026] "GET /level HTTP/1.1" 200 27 "-" "-"'
