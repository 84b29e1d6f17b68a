# SPDX-License-Identifier: MIT
"""L{gmesh.client.answers}: requests are those of the local API, answers are read however they are cut."""

from __future__ import annotations

from contextlib import suppress

import pytest
from client.fake_daemon import HOST, PEER, UPGRADED, WAITS, problem
from hypothesis import given
from hypothesis import strategies as st

from gmesh.client.answers import (
    MAX_BODY,
    MAX_HEAD,
    AnswerReader,
    LocalAnswer,
    connect_request,
    plain_node,
    read_head,
    upgrade_request,
)
from gmesh.errors import FrameRefused


def test_requests_are_as_the_local_api_has_them() -> None:
    """What a name holds that is none cannot break out of its place."""
    assert upgrade_request("/v1/connect", node="pump-07", service="a b\r\n&x=1") == (
        b"GET /v1/connect?node=pump-07&service=a+b%0D%0A%26x%3D1 HTTP/1.1\r\n"
        b"Host: localhost\r\nConnection: Upgrade\r\nUpgrade: gmesh-stream\r\n\r\n"
    )
    assert connect_request("pump-07", "web:\n1") == (
        b"CONNECT pump-07:web%3A%0A1 HTTP/1.1\r\nHost: pump-07:web%3A%0A1\r\n\r\n"
    )


@pytest.mark.parametrize("text", ["pump-07", "pump-07.gmesh", "Pump-07.GMESH"])
def test_a_node_may_be_written_as_a_host(text: str) -> None:
    assert plain_node(text) == "pump-07"


def feed(sent: bytes, cuts: list[int]) -> tuple[list[LocalAnswer], bytes]:
    """All of C{sent}, in pieces; behind the last answer nothing is fed any more."""
    reader = AnswerReader()
    found: list[LocalAnswer] = []
    for size in [*cuts, len(sent)]:
        if not sent or (found and found[-1].status not in range(100, 101)):
            break
        found += reader.feed(sent[:size])
        sent = sent[size:]
    return found, reader.rest + sent


@given(st.lists(st.integers(1, 40), max_size=40))
def test_what_is_behind_the_head_is_the_streams(cuts: list[int]) -> None:
    found, rest = feed(WAITS + UPGRADED + b"\x01\0\0\0", cuts)
    assert [answer.status for answer in found] == [100, 101]
    assert (found[0].described("gmesh-host"), found[1].described("gmesh-peer")) == (HOST, PEER)
    assert rest == b"\x01\0\0\0"


@given(st.lists(st.integers(1, 40), max_size=40))
def test_a_refusal_says_why(cuts: list[int]) -> None:
    found, _ = feed(WAITS + problem(403, "denied", "rule 3 forbids it"), cuts)
    refusal = found[-1].refusal()
    assert (refusal.status, refusal.reason, refusal.detail) == (403, "denied", "rule 3 forbids it")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"[" * 60_000])
def test_a_refusal_without_a_reason_is_one_too(body: bytes) -> None:
    """Also one whose size is not said, at its end."""
    reader = AnswerReader()
    assert reader.feed(b"HTTP/1.0 502 Bad Gateway\r\n\r\n" + body) == []
    answer = reader.end()
    assert answer is not None
    assert answer.refusal().reason == "bad-answer"
    assert "502" in answer.refusal().detail


@pytest.mark.parametrize(
    "octets",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"\r\n\r\n",
        b"x" * (MAX_HEAD + 1),
        b"HTTP/1.1 500 Oops\r\n\r\n" + b"x" * (MAX_BODY + 1),
    ],
)
def test_what_is_no_answer_is_refused(octets: bytes) -> None:
    with pytest.raises(FrameRefused):
        AnswerReader().feed(octets)


@given(st.binary(max_size=200))
def test_anything_at_all_is_taken_or_refused(octets: bytes) -> None:
    with suppress(FrameRefused):
        assert read_head(octets).status >= 0


@pytest.mark.parametrize("text", ["", "no json", "[1]", "[" * 60_000])
def test_a_node_that_is_not_described_is_nobody(text: str) -> None:
    assert LocalAnswer(101, {"gmesh-peer": text}).described("gmesh-peer") == {}
    assert LocalAnswer(101, {}).described("gmesh-peer") == {}
