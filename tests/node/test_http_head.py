# SPDX-License-Identifier: MIT
"""The head of a request: what is read of it, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmesh.errors import RequestRefused
from gmesh.node.http_head import RequestHead, read_head


def test_a_head_is_read() -> None:
    """Names in lower case, values without the blanks around them."""
    head = read_head(b"CONNECT pump-07:web HTTP/1.1\r\nHost:  pump-07:web \r\nX-A: 1\r\nx-a: 2")
    fields = {"host": ("pump-07:web",), "x-a": ("1", "2")}
    assert head == RequestHead("CONNECT", "pump-07:web", fields)
    assert head.field("host") == "pump-07:web"
    assert head.field("none") is None
    assert head.listed("x-a") == ["1", "2"]
    with pytest.raises(RequestRefused, match="2 headers x-a"):
        head.field("x-a")


def test_a_list_is_read_over_several_lines() -> None:
    """C{Connection} often is."""
    head = read_head(b"GET / HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nConnection:, x")
    assert head.listed("connection") == ["keep-alive", "upgrade", "x"]


@pytest.mark.parametrize(
    ("line", "body"),
    [("Content-Length: 0", False), ("Content-Length: 1", True), ("Transfer-Encoding: chunked", True)],
)
def test_a_body_is_known(line: str, body: bool) -> None:
    """By what announces it."""
    assert read_head(b"GET / HTTP/1.1\r\n" + line.encode()).has_body is body


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET /",
        b"GET  / HTTP/1.1",
        b"GET / HTTP/2.0",
        b"GET / HTTP/1.1 ",
        b"G\x00T / HTTP/1.1",
        b"GET /\xff HTTP/1.1",
        b"GET / HTTP/1.1\r\nno colon",
        b"GET / HTTP/1.1\r\nHost : x",
        b"GET / HTTP/1.1\r\nA: 1\r\n folded",
        b"GET / HTTP/1.1\r\nA: 1\nB: 2",
        b"GET / HTTP/1.1\r\nA: \x00",
        b"GET / HTTP/1.1\r\n: empty",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(head: bytes) -> None:
    """As C{bad-request}."""
    with pytest.raises(RequestRefused) as caught:
        read_head(head)
    assert caught.value.reason == "bad-request"


@given(st.binary(max_size=300))
def test_any_bytes_are_a_head_or_refused(data: bytes) -> None:
    """Nothing else comes of them."""
    try:
        head = read_head(data)
    except RequestRefused:
        return
    assert head.method
    assert head.target
