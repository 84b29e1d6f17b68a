# SPDX-License-Identifier: MIT
"""Requests to an HTTP proxy: where they lead, what is sent on, and what is refused."""

from __future__ import annotations

import http.client
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmesh.errors import RequestRefused
from gmesh.node.gateways.http_requests import ProxyRequest, answer, pac, read_request, status_of


def head(*lines: str) -> bytes:
    """A head of these lines."""
    return "\r\n".join(lines).encode("latin-1")


def test_connect() -> None:
    """A host and a port, and nothing is sent on."""
    assert read_request(head("CONNECT pump-07.gmesh:22 HTTP/1.1", "Host: x")) == ProxyRequest(
        "pump-07.gmesh", 22
    )


def test_a_request_in_absolute_form_leaves_in_origin_form() -> None:
    """Its Host is that of its URL; what is for the proxy stays here; nothing may follow on the connection."""
    found = read_request(
        head(
            "POST http://pump-07.gmesh:8080/a%20b?c=d HTTP/1.1",
            "Host: somewhere.else",
            "Proxy-Connection: keep-alive",
            "Proxy-Authorization: Basic c2VjcmV0",
            "Connection: X-Mine, content-length",
            "X-Mine: 1",
            "Content-Length: 3",
            "Accept: */*",
        )
    )
    assert (found.host, found.port) == ("pump-07.gmesh", 8080)
    assert found.head == head(
        "POST /a%20b?c=d HTTP/1.1",
        "host: pump-07.gmesh:8080",
        "content-length: 3",
        "accept: */*",
        "via: 1.1 gmesh",
        "connection: close",
        "",
        "",
    )


@pytest.mark.parametrize(
    ("target", "path"), [("http://a.gmesh", "/"), ("http://a.gmesh?x", "/?x"), ("http://a.gmesh//b", "//b")]
)
def test_the_path(target: str, path: str) -> None:
    """It is not touched, and an empty one is the root."""
    assert read_request(head(f"GET {target} HTTP/1.0")).head.startswith(f"GET {path} HTTP/1.0\r\n".encode())


def test_options_of_a_whole_server() -> None:
    """RFC 9112, section 3.2.4: a proxy sends an asterisk."""
    assert read_request(head("OPTIONS http://a.gmesh HTTP/1.1")).head.startswith(b"OPTIONS * HTTP/1.1\r\n")


def test_the_script_for_browsers() -> None:
    """Names of the mesh go through the proxy, and no others."""
    assert read_request(head("GET /proxy.pac HTTP/1.1", "Host: 127.0.0.1:8118")).host == ""
    assert '? "PROXY 127.0.0.1:8118" : "DIRECT"' in pac("127.0.0.1", 8118)
    assert "PROXY [::1]:8118" in pac("::1", 8118)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["GET / HTTP/1.1"], "not-found"),
        (["POST /proxy.pac HTTP/1.1"], "not-found"),
        (["GET https://a.gmesh/ HTTP/1.1"], "bad-request"),
        (["GET ftp://a.gmesh/ HTTP/1.1"], "bad-request"),
        (["GET http://user@a.gmesh/ HTTP/1.1"], "bad-request"),
        (["GET http://a.gmesh:0/ HTTP/1.1"], "bad-request"),
        (["GET http://a.gmesh:99999/ HTTP/1.1"], "bad-request"),
        (["GET http://[a.gmesh/ HTTP/1.1"], "bad-request"),
        (["GET http:/// HTTP/1.1"], "bad-request"),
        (["GET http://a.gmesh/ HTTP/2.0"], "bad-request"),
        (["GET  http://a.gmesh/ HTTP/1.1"], "bad-request"),
        (["GET http://a.gmesh/ HTTP/1.1", " folded"], "bad-request"),
        (["GET http://a.gmesh/ HTTP/1.1", "Name : x"], "bad-request"),
        (["GET http://a.gmesh/ HTTP/1.1", "X: a\nHost: b"], "bad-request"),
        (
            ["GET http://a.gmesh/ HTTP/1.1", "Content-Length: 1", "Transfer-Encoding: chunked"],
            "bad-request",
        ),
        (["CONNECT a.gmesh HTTP/1.1"], "bad-request"),
        (["CONNECT a.gmesh:0 HTTP/1.1"], "bad-request"),
        (["CONNECT http://a.gmesh:1 HTTP/1.1"], "bad-request"),
        ([""], "bad-request"),
    ],
)
def test_what_is_refused(lines: list[str], reason: str) -> None:
    """What is no request, what two readers would read differently, and what is not for a proxy."""
    with pytest.raises(RequestRefused) as refused:
        read_request(head(*lines))
    assert refused.value.reason == reason


def test_an_answer_of_the_proxy_is_read_by_others() -> None:
    """As the standard library reads it."""

    class Wire:
        def makefile(self, mode: str) -> io.BytesIO:
            return io.BytesIO(answer(status_of("denied"), "rule 3 of the policy\n"))

    wire: Any = Wire()
    read = http.client.HTTPResponse(wire)
    read.begin()
    assert (read.status, read.read()) == (403, b"rule 3 of the policy\n")


@given(st.binary(max_size=200), st.sampled_from([b"", b"GET http://a.gmesh/ HTTP/1.1\r\n", b"CONNECT "]))
def test_no_input_breaks_it(data: bytes, before: bytes) -> None:
    """It is refused, or a request without a line break that was not there."""
    try:
        found = read_request(before + data)
    except RequestRefused:
        return
    assert found.head == b"" or found.head.endswith(b"\r\nconnection: close\r\n\r\n")
    assert b"\n" not in found.head.replace(b"\r\n", b"")
