# SPDX-License-Identifier: MIT
"""The HTTP client of the command line: bounded, and clear about what went wrong."""

from __future__ import annotations

import socket
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from gmesh.cli import http as http_module
from gmesh.cli.http import Endpoint, HttpRefused, Unreachable
from gmesh.errors import ConfigurationError


def test_json_both_ways(node_end: Any) -> None:
    """A JSON object goes there and an answer comes back, over a unix socket."""
    node_end.json("POST /v1/ping", {"rtt_ms": [1.5]})
    assert Endpoint(node_end.where).request_json("POST", "/v1/ping", {"node": "c"}) == {"rtt_ms": [1.5]}
    ((method, target, headers, body),) = node_end.requests
    assert (method, target, body) == ("POST", "/v1/ping", b'{"node": "c"}')
    assert headers["content-type"] == "application/json"


def test_d11_the_path_of_a_url_stands_before_what_is_asked(http_end: Any) -> None:
    """With a slash at its end or without."""
    http_end.answers["GET /mesh/genesis"] = (200, b"{}")
    for url in (http_end.where + "/mesh/", http_end.where + "/mesh"):
        Endpoint(url).request("GET", "/genesis")
    assert [request[1] for request in http_end.requests] == ["/mesh/genesis", "/mesh/genesis"]


def test_problem_document(http_end: Any) -> None:
    """A problem becomes an error with its slug, sentence and members."""
    http_end.problem("GET /x", "stale", 401, "the request is too old", time=17)
    with pytest.raises(HttpRefused) as caught:
        Endpoint(http_end.where).request("GET", "/x")
    assert (caught.value.reason, caught.value.detail) == ("stale", "the request is too old")
    assert (caught.value.status, caught.value.problem["time"]) == (401, 17)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"\xff", b"[" * 100_000])
def test_error_without_a_problem_document(http_end: Any, body: bytes) -> None:
    """An error that is no problem document is told by its status."""
    http_end.answers["GET /x"] = (502, body)
    with pytest.raises(HttpRefused, match="answered 502"):
        Endpoint(http_end.where).request("GET", "/x")


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000])
def test_answer_that_is_not_json(http_end: Any, body: bytes) -> None:
    """An answer that is not JSON is refused."""
    http_end.answers["GET /x"] = (200, body)
    with pytest.raises(HttpRefused, match="not valid JSON"):
        Endpoint(http_end.where).request_json("GET", "/x")


def test_answer_over_the_cap(http_end: Any) -> None:
    """An answer over the limit is refused; one at the limit passes."""
    http_end.answers["GET /x"] = (200, b"12345678")
    assert Endpoint(http_end.where).request("GET", "/x", limit=8).body == b"12345678"
    with pytest.raises(HttpRefused, match="too large"):
        Endpoint(http_end.where).request("GET", "/x", limit=7)


def test_redirect_is_refused(http_end: Any) -> None:
    """A redirect is an error: a signed request is never carried elsewhere."""
    http_end.answers["GET /x"] = (302, b"")
    with pytest.raises(HttpRefused):
        Endpoint(http_end.where).request("GET", "/x")


def test_nobody_listens(tmp_path: Path) -> None:
    """No socket, a dead socket and a closed port are told apart from an error of the daemon."""
    with pytest.raises(Unreachable, match="there is no socket"):
        Endpoint(f"unix:{tmp_path}/absent").request("GET", "/")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    with pytest.raises(Unreachable, match="nothing listens"):
        Endpoint(f"unix:{tmp_path}/dead").request("GET", "/")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable, match="nothing listens"):
            Endpoint(f"http://127.0.0.1:{unused.getsockname()[1]}").request("GET", "/")


def test_silence_is_given_up() -> None:
    """A far end that accepts and says nothing is given up after the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = Endpoint(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(Unreachable, match="did not answer in time"):
            endpoint.request("GET", "/", timeout=0.05)


def test_not_http(http_end: Any) -> None:
    """A far end that does not speak HTTP is named."""

    def banner(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n")
        handler.close_connection = True

    http_end.answers["GET /x"] = banner
    with pytest.raises(Unreachable, match="does not speak HTTP"):
        Endpoint(http_end.where).request("GET", "/x")


def test_cut_in_the_middle(http_end: Any) -> None:
    """An answer that ends before its length is an error, not a short answer."""

    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"{}")
        handler.close_connection = True

    http_end.answers["GET /x"] = cut
    with pytest.raises(Unreachable, match="closed the connection"):
        Endpoint(http_end.where).request("GET", "/x")


def _chunked(*chunks: bytes, end: bool = True) -> Any:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for chunk in chunks:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        if end:
            handler.wfile.write(b"0\r\n\r\n")
        handler.close_connection = True

    return answer


def test_stream_of_lines(node_end: Any) -> None:
    """A stream gives one object a line, however the lines are cut into chunks."""
    node_end.answers["GET /s"] = _chunked(b'{"n":1}\n{"n"', b":2}\n", b"\n", b'{"n":3}\n')
    with Endpoint(node_end.where).stream("/s") as messages:
        assert [message["n"] for message in messages] == [1, 2, 3]


def test_stream_that_breaks(node_end: Any) -> None:
    """A stream that is cut within a line tells so after the lines that came."""
    node_end.answers["GET /s"] = _chunked(b'{"n":1}\n{"n"', end=False)
    with Endpoint(node_end.where).stream("/s") as messages:
        assert next(messages) == {"n": 1}
        with pytest.raises(Unreachable, match="closed the connection"):
            next(messages)


def test_stream_line_over_the_cap(node_end: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line over the limit is refused before the rest of it is read."""
    monkeypatch.setattr(http_module, "MAX_LINE", 16)
    node_end.answers["GET /s"] = _chunked(b'{"n":"' + b"x" * 64)
    with Endpoint(node_end.where).stream("/s") as messages, pytest.raises(HttpRefused, match="too large"):
        next(messages)


def test_stream_refused(node_end: Any) -> None:
    """A refused stream is an error at once."""
    node_end.problem("GET /s", "service-taken", 409, "somebody receives it already")
    with pytest.raises(HttpRefused, match="somebody receives"), Endpoint(node_end.where).stream("/s"):
        pass


def test_errors_of_the_reader_are_its_own(node_end: Any) -> None:
    """What goes wrong while a message is shown is not blamed on the daemon."""
    node_end.answers["GET /s"] = _chunked(b'{"n":1}\n')
    with pytest.raises(BrokenPipeError), Endpoint(node_end.where).stream("/s") as messages:
        next(messages)
        raise BrokenPipeError


@pytest.mark.parametrize("url", ["ftp://h/", "http://", "http://h:port/", "h:1", "http://[::1/"])
def test_bad_urls(url: str) -> None:
    """A string that is no HTTP URL is refused as such."""
    with pytest.raises(ConfigurationError):
        Endpoint(url).request("GET", "/")


def test_c1_a_host_that_no_resolver_takes_is_unreachable() -> None:
    """A URL of a genesis or an invite whose host has an empty label ends in one line, as any other."""
    with pytest.raises(Unreachable, match="names no host"):
        Endpoint("http://a..b").request("GET", "/status")
