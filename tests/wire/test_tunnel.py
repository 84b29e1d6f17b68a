# SPDX-License-Identifier: MIT
"""What proxies are asked, and one line for each way in which they answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmesh.errors import CarrierRefused
from gmesh.wire.proxy import parse_proxy_url
from gmesh.wire.tunnel import HEAD_LIMIT, tunnel

HTTP = parse_proxy_url("http://p.example:3128")
KNOWN = parse_proxy_url("http://Aladdin:open%20sesame@p.example:3128")
SOCKS = parse_proxy_url("socks5://p.example")
SOCKS_KNOWN = parse_proxy_url("socks5://u:pw@p.example")


def play(proxy, answers, host="anchor.example", port=443, cuts=()):
    """Talk to a proxy that answers so. @return: what it was sent, and what came behind the end."""
    sent, talk = [], tunnel(proxy, host, port)
    sent.append(next(talk))
    for answer in answers:
        pieces = [answer[start:end] for start, end in zip([0, *cuts], [*cuts, None], strict=True)]
        for piece in filter(None, pieces):
            try:
                if more := talk.send(piece):
                    sent.append(more)
            except StopIteration as done:
                return sent, done.value
    raise AssertionError("it waits for more")


def refused(proxy, *answers):
    with pytest.raises(CarrierRefused) as error:
        play(proxy, answers)
    assert "sesame" not in str(error.value) and "\n" not in str(error.value) and "pw" not in str(error.value)
    return error.value.reason, str(error.value)


@given(st.lists(st.integers(1, 60), max_size=4).map(sorted))
def test_connect(cuts):
    """The request names the place twice; what comes behind the answer is the connection's."""
    sent, rest = play(
        HTTP, [b"HTTP/1.1 200 Connection established\r\nVia: squid\r\n\r\nbehind"], cuts=sorted({*cuts})
    )
    assert sent == [b"CONNECT anchor.example:443 HTTP/1.1\r\nHost: anchor.example:443\r\n\r\n"]
    assert rest == b"behind"[: len(rest)]


def test_connect_with_credentials_and_an_address():
    """Basic ones; IPv6 in brackets; an interim answer is passed over."""
    answers = [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200\r\n\r\n"]
    sent, rest = play(KNOWN, answers, host="2001:db8::1", port=7443)
    assert sent[0].startswith(b"CONNECT [2001:db8::1]:7443 HTTP/1.1\r\nHost: [2001:db8::1]:7443\r\n")
    assert b"\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n" in sent[0] and rest == b""


@pytest.mark.parametrize(
    ("proxy", "answer", "reason", "said"),
    [
        (HTTP, "407 x\r\nProxy-Authenticate: Basic realm=x", "proxy-credentials", "give --proxy-credentials"),
        (KNOWN, "407 x\r\nProxy-Authenticate: Basic realm=x", "proxy-credentials", "does not take the user"),
        (KNOWN, "407 x\r\nProxy-Authenticate: Negotiate", "proxy-credentials", "wants Negotiate credentials"),
        (HTTP, "403 Forbidden", "proxy-refused", "does not let through to anchor.example:443 (403)"),
        (HTTP, "503 x", "proxy-failed", "does not reach anchor.example:443 (503)"),
        (HTTP, "405 x", "proxy-failed", "answers 405 for anchor.example:443"),
        (HTTP, "302 Found\r\nLocation: http://portal/", "proxy-failed", "answers 302"),
        (HTTP, "200 OK\r\nContent-Type: text/html", "proxy-failed", "with a web page"),
    ],
)
def test_what_an_http_proxy_says_instead(proxy, answer, reason, said):
    """One line each, with the proxy and what to do."""
    found, text = refused(proxy, f"HTTP/1.1 {answer}\r\n\r\n<html>".encode())
    assert found == reason and said in text and "http://p.example:3128" in text


@pytest.mark.parametrize(
    "answer",
    [
        b"<html><body>Welcome</body></html>\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * HEAD_LIMIT,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 99,
        b"\x05\x00",
    ],
)
def test_what_is_no_http_proxy(answer):
    """Another program, an endless head, endless interim answers."""
    assert refused(HTTP, answer) == ("proxy-failed", "what answers at http://p.example:3128 is no HTTP proxy")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("anchor.example", b"\x03\x0eanchor.example"),
        ("192.0.2.1", b"\x01\xc0\x00\x02\x01"),
        ("2001:db8::1", b"\x04 \x01\r\xb8" + bytes(11) + b"\x01"),
    ],
)
def test_socks5(host, address):
    """Names are left to the proxy to look up; the answer's own address may have any form."""
    for bound in (b"\x01" + bytes(4), b"\x04" + bytes(16), b"\x03\x02hi"):
        sent, rest = play(SOCKS, [b"\x05\x00", b"\x05\x00\x00" + bound + b"\x00\x00behind"], host=host)
        assert sent == [b"\x05\x01\x00", b"\x05\x01\x00" + address + b"\x01\xbb"] and rest == b"behind"


def test_socks5_byte_by_byte_with_credentials():
    """RFC 1929, in whatever pieces it comes."""
    answers = [bytes([each]) for each in b"\x05\x02\x01\x00\x05\x00\x00\x01" + bytes(6)]
    sent, rest = play(SOCKS_KNOWN, answers)
    assert sent[:2] == [b"\x05\x02\x00\x02", b"\x01\x01u\x02pw"] and rest == b""


@pytest.mark.parametrize(
    ("proxy", "answers", "reason", "said"),
    [
        (SOCKS, [b"\x05\xff"], "proxy-credentials", "give --proxy-credentials"),
        (SOCKS_KNOWN, [b"\x05\x02", b"\x01\x01"], "proxy-credentials", "does not take"),
        (SOCKS, [b"\x05\x00", b"\x05\x02\x00\x01" + bytes(6)], "proxy-refused", "does not let this through"),
        (SOCKS, [b"\x05\x00", b"\x05\x04\x00\x01" + bytes(6)], "proxy-failed", "does not reach the host"),
        (SOCKS, [b"\x05\x00", b"\x05\x63\x00\x01" + bytes(6)], "proxy-failed", "it answers 99"),
        (SOCKS, [b"\x05\x00", b"\x05\x00\x00\x07" + bytes(6)], "proxy-failed", "is no SOCKS5 proxy"),
        (SOCKS, [b"HTTP/1.1 400 Bad Request\r\n\r\n"], "proxy-failed", "is no SOCKS5 proxy"),
    ],
)
def test_what_a_socks_proxy_says_instead(proxy, answers, reason, said):
    """One line each."""
    found, text = refused(proxy, *answers)
    assert found == reason and said in text and "socks5://p.example:1080" in text


@given(
    st.sampled_from([HTTP, KNOWN, SOCKS, SOCKS_KNOWN]),
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
)
def test_any_answer(proxy, answers):
    """Is a connection, a refusal with a reason, or wants more: never another error."""
    talk = tunnel(proxy, "h", 1)
    next(talk)
    try:
        for answer in answers:
            talk.send(answer)
    except (StopIteration, CarrierRefused):
        pass
