# SPDX-License-Identifier: MIT
"""Commands through proxies: what they ask them, and one line for each way in which these refuse."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from gmesh.cli import http as http_module
from gmesh.cli.http import Endpoint, Unreachable
from gmesh.cli.main import main
from gmesh.cli.proxied import proxies_here, proxy_options

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Proxy:
    """A real socket that reads what comes, keeps it, and answers with what it is told to."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.answers: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                taken, _ = self._listening.accept()
            except OSError:
                return
            with taken:
                for answer in self.answers:
                    self.asked.append(taken.recv(65536))
                    taken.sendall(answer)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_plain_http_asks_the_proxy_for_the_whole_url(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every proxy takes it, also one that lets CONNECT through to 443 alone; Host is the authority's."""
    monkeypatch.setenv("http_proxy", f"http://Aladdin:open%20sesame@127.0.0.1:{proxy.port}")
    proxy.answers = [OK]
    assert Endpoint("http://authority.invalid:8440/mesh").request("GET", "/status").body == b"{}"
    [asked] = proxy.asked
    assert asked.startswith(b"GET http://authority.invalid:8440/mesh/status HTTP/1.1\r\n")
    assert b"\r\nHost: authority.invalid:8440\r\n" in asked
    assert b"\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n" in asked


def test_through_a_socks_proxy_nothing_is_changed(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is as without one; the proxy is given the name."""
    monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{proxy.port}")
    proxy.answers = [b"\x05\x00", b"\x05\x00\x00\x01" + bytes(6), OK]
    assert Endpoint("http://authority.invalid:8440").request("GET", "/status").body == b"{}"
    assert proxy.asked[1] == b"\x05\x01\x00\x03\x11authority.invalid" + (8440).to_bytes(2, "big")
    assert proxy.asked[2].startswith(b"GET /status HTTP/1.1\r\n")


def test_https_is_asked_for_by_connect(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS begins in the tunnel."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    proxy.answers = [b"HTTP/1.1 200 yes\r\n\r\n", b"no TLS at all"]
    with pytest.raises(Unreachable):
        Endpoint("https://authority.invalid").request("GET", "/status")
    assert proxy.asked[0].startswith(b"CONNECT authority.invalid:443 HTTP/1.1\r\n")
    assert proxy.asked[1][:2] == b"\x16\x03" and b"authority.invalid" in proxy.asked[1]


REFUSALS = {
    "407": (
        b"HTTP/1.1 407 no\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
        "wants a user and a password",
    ),
    "403": (b"HTTP/1.1 403 no\r\n\r\n", "does not let through to authority.invalid:443"),
    "page": (b"<html>Welcome</html>\r\n\r\n", "is no HTTP proxy"),
    "closes": (b"", "closed without an answer"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_proxy_that_gives_no_connection(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """One line that names the proxy."""
    answer, said = REFUSALS[case]
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    proxy.answers = [answer]
    with pytest.raises(Unreachable, match=said) as error:
        Endpoint("https://authority.invalid").request("GET", "/status")
    assert f"http://127.0.0.1:{proxy.port}" in str(error.value) and "\n" not in str(error.value)


def test_plain_http_with_407(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the proxy's answer, not the authority's."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    proxy.answers = [REFUSALS["407"][0]]
    with pytest.raises(Unreachable, match=r"the proxy .* wants a user and a password"):
        Endpoint("http://authority.invalid").request("GET", "/status")


def test_a_proxy_that_hangs(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the time that a connection has."""
    monkeypatch.setattr(http_module, "CONNECT_TIMEOUT", 0.2)
    listening = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listening.getsockname()[1]}")
    with pytest.raises(Unreachable, match="took the connection and did not answer in time"):
        Endpoint("https://authority.invalid").request("GET", "/status")
    listening.close()


def test_nobody_at_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the proxy that is not reached."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(Unreachable, match=r"the proxy \S+ is not reached: Connection refused"):
        Endpoint("https://authority.invalid").request("GET", "/status")


def test_what_is_on_this_host_is_asked_directly(http_end: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though a proxy is named."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    http_end.answers["GET /x"] = (200, b"{}")
    assert Endpoint(http_end.where).request("GET", "/x").body == b"{}"


@pytest.fixture
def run() -> Callable[..., str]:
    """What options of a command and the environment make of a proxy for C{h}."""

    @click.command()
    @proxy_options
    def command() -> None:
        click.echo(repr((proxy := proxies_here().choose("h", 443)) and (str(proxy), proxy.credentials)))

    def invoke(*arguments: str, **environment: str) -> str:
        done = CliRunner(env=environment).invoke(command, arguments)
        return done.output.strip() if done.exception is None else f"{done.exception}"

    return invoke


def test_options_before_the_environment(run: Callable[..., str], tmp_path: Path) -> None:
    """The option, then GMESH_PROXY, then HTTPS_PROXY; credentials from a file."""
    file = tmp_path / "file"
    file.write_text("u:pw\n")
    file.chmod(0o600)
    assert run() == "None"
    assert run(HTTPS_PROXY="http://a:1") == "('http://a:1', None)"
    assert run(HTTPS_PROXY="http://a:1", GMESH_PROXY="http://b:1") == "('http://b:1', None)"
    given = run("--proxy", "http://c:1", "--proxy-credentials", str(file), GMESH_PROXY="http://b:1")
    assert given == "('http://c:1', ('u', 'pw'))"
    assert run("--proxy", "none", HTTPS_PROXY="http://a:1") == "None"


def test_a_password_on_the_command_line_is_refused(run: Callable[..., str]) -> None:
    """In the environment it may stand: nobody else reads that."""
    said = run("--proxy", "http://u:hunter2@a:1")
    assert "--proxy-credentials FILE" in said and "hunter2" not in said
    assert run(GMESH_PROXY="http://u:hunter2@a:1") == "('http://a:1', ('u', 'hunter2'))"


@pytest.mark.parametrize("words", [["join", "--help"], ["admin", "--help"]])
def test_who_asks_the_authority_takes_the_options(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """C{gmesh join} and C{gmesh admin}."""
    with pytest.raises(SystemExit):
        main(words)
    shown = capsys.readouterr().out
    assert "--proxy URL" in shown and "--proxy-credentials FILE" in shown
