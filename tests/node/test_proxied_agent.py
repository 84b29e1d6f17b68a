# SPDX-License-Identifier: MIT
"""The node's requests to the authority through proxies, on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from mesh.proxies import Proxy
from mesh.sockets_world import Authority, RealWorld, tcp
from twisted.internet import reactor
from twisted.internet.ssl import Certificate
from twisted.web.client import BrowserLikePolicyForHTTPS
from twisted.web.resource import Resource
from twisted.web.server import Site

from gmesh.node.authority_http import AuthorityHTTP, AuthorityUnreachable, http_client
from gmesh.wire.proxy import Proxies

# Twisted's own calls.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
HOST = "authority.invalid"
ANSWER = b'{"ok": true}'


class Answering(Resource):
    """Says yes to all, as the authority does, and keeps what it was asked."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[bytes, str | None]] = []

    def render(self, request: Any) -> bytes:
        self.asked.append((request.uri, request.getHeader("proxy-authorization")))
        request.setHeader("Content-Type", "application/json")
        return ANSWER


class Quiet(Site):
    noisy = False

    def startFactory(self) -> None:
        """No log."""

    def log(self, request: Any) -> None:
        """Nor a line."""


@pytest_twisted.async_yield_fixture
async def world() -> AsyncIterator[RealWorld]:
    world = RealWorld()
    yield world
    await world.finish()


async def served(world: RealWorld, text: str = "tcp:0:interface=127.0.0.1") -> tuple[Answering, int]:
    answering = Answering()
    port = await tcp(text).listen(Quiet(answering))
    world.ports.append(port)
    return answering, port.getHost().port


def asking(named: dict[str, str], *urls: str, option: str = "") -> AuthorityHTTP:
    proxies = Proxies(option, named, ("u", "hunter2"))
    return AuthorityHTTP(http_client(reactor, proxies), lambda: urls, reactor)


async def test_plain_http_is_a_request_to_the_proxy(world: RealWorld) -> None:
    """Which is sent the whole URL and the credentials."""
    proxy, port = await served(world)
    http = asking({"http_proxy": f"http://127.0.0.1:{port}"}, f"http://{HOST}:8440")
    assert await http.ask("GET", "/x", lambda _: {}) == ANSWER
    assert proxy.asked == [(b"http://" + HOST.encode() + b":8440/x", "Basic dTpodW50ZXIy")]


async def test_plain_http_through_socks_is_as_without_a_proxy(world: RealWorld) -> None:
    """The authority is sent no credentials of the proxy."""
    site, port = await served(world)
    socks = Proxy(socks=True)
    socks.to[f"{HOST}:8440"] = port
    socks_free = Proxies("", {"ALL_PROXY": await socks.listen(world)})
    http = AuthorityHTTP(http_client(reactor, socks_free), lambda: (f"http://{HOST}:8440",), reactor)
    assert await http.ask("GET", "/x", lambda _: {}) == ANSWER
    assert site.asked == [(b"/x", None)] and socks.asked == [f"{HOST}:8440"]
    socks.stop()


async def test_https_goes_through_a_tunnel(world: RealWorld, tmp_path: Any) -> None:
    """And the authority's certificate has to be right."""
    authority = Authority(tmp_path)
    site, port = await served(world, authority.endpoint(HOST)[0])
    proxy = Proxy()
    proxy.to[f"{HOST}:443"] = port
    http = asking({"HTTPS_PROXY": await proxy.listen(world)}, f"https://{HOST}")
    endpoints: Any = http._http._agent._agent._endpointFactory
    endpoints._policy = BrowserLikePolicyForHTTPS(Certificate.loadPEM(authority.file.read_bytes()))
    assert await http.ask("GET", "/x", lambda _: {}) == ANSWER
    assert site.asked == [(b"/x", None)] and proxy.asked == [f"{HOST}:443"]
    assert b"Proxy-Authorization: Basic dTpodW50ZXIy" in proxy.heads[0]
    endpoints._policy = BrowserLikePolicyForHTTPS()
    with pytest.raises(AuthorityUnreachable, match="certificate verify failed"):
        await http.ask("GET", "/x", lambda _: {})
    proxy.stop()


async def test_a_proxy_that_is_gone_is_passed_over(world: RealWorld) -> None:
    """The host has moved: the authority is asked directly."""
    site, port = await served(world)
    proxies = Proxies("", {"http_proxy": "http://127.0.0.1:9"})
    proxies._bypass.names = lambda *_: False
    http = AuthorityHTTP(http_client(reactor, proxies), lambda: (f"http://127.0.0.1:{port}",), reactor)
    assert await http.ask("POST", "/x", lambda _: {}, b"body") == ANSWER
    assert site.asked == [(b"/x", None)]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 407 no\r\nProxy-Authenticate: Basic\r\n\r\n", "does not take the user and password"),
        (b"HTTP/1.1 403 no\r\n\r\n", "does not let through"),
        (b"<html>hi</html>\r\n\r\n", "is no HTTP proxy"),
        (b"", "took the connection and did not answer in time"),
    ],
    ids=["407", "403", "page", "hangs"],
)
async def test_a_proxy_that_gives_no_connection(world: RealWorld, answer: bytes, said: str) -> None:
    """One line that names it, never the password."""
    proxy = Proxy()
    proxy.answer = answer
    http = asking({"HTTPS_PROXY": await proxy.listen(world)}, f"https://{HOST}")
    with pytest.raises(AuthorityUnreachable, match=said) as error:
        await http.ask("GET", "/x", lambda _: {}, timeout=60 if answer else 2)
    assert "hunter2" not in str(error.value) and "\n" not in str(error.value)
    proxy.stop()


async def test_407_to_a_plain_request(world: RealWorld) -> None:
    """Is the proxy's answer, and told as that."""
    answering, port = await served(world)
    answering.render = lambda request: request.setResponseCode(407) or b""
    http = asking({"http_proxy": f"http://127.0.0.1:{port}"}, f"http://{HOST}")
    with pytest.raises(AuthorityUnreachable, match="the proxy wants a user and a password"):
        await http.ask("GET", "/x", lambda _: {})
