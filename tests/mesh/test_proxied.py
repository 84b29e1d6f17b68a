# SPDX-License-Identifier: MIT
"""Links through proxies, on real sockets: over everything that carries them, and what proxies say instead."""

from __future__ import annotations

import pytest
import pytest_twisted
from mesh.proxies import Proxy
from mesh.sockets_world import Authority, RealWorld, bulk, tcp, until
from twisted.internet import reactor
from twisted.logger import formatEvent, globalLogPublisher

from gmesh.mesh.carriers import Carriers
from gmesh.mesh.dials import TargetState
from gmesh.mesh.tls import TlsTrust
from gmesh.wire.proxy import Proxies

# Twisted's own calls.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
SECRET = ("Aladdin", "open sesame")
HOST = "anchor.invalid"
"""A name that no resolver knows: the proxy alone can lead there."""


@pytest_twisted.async_yield_fixture
async def world():
    world = RealWorld()
    yield world
    await world.finish()


@pytest.fixture
def proxy():
    made = Proxy()
    yield made
    made.stop()


@pytest.fixture
def socks():
    made = Proxy(socks=True)
    yield made
    made.stop()


async def dialled(world, tmp_path, kind, named, proxy):
    """Node one dials node two by a name that the proxy knows, over this kind of carrier."""
    one, two = world.node("one"), world.node("two")
    authority = Authority(tmp_path)
    served, _ = authority.endpoint(HOST)
    host = await world.listen(two, {"tcp": tcp(), "tls": tcp(served), "wss": tcp(f"ws:{served}")}[kind])
    proxy.to[f"{HOST}:443"] = host.port
    trust = TlsTrust(str(authority.file), strict=True)
    one.dialler._dials._connect = Carriers(reactor, lambda: trust, Proxies(named, {}, SECRET)).endpoint
    one.dialler.set_targets([f"{kind}://{HOST}:443"])
    one.dialler.start()
    return one, two


@pytest.mark.parametrize("kind", ["tcp", "tls", "wss"])
async def test_a_link_through_an_http_proxy(world, tmp_path, proxy, kind):
    """The proxy is asked for name and port with the credentials; the link is called by who is there."""
    one, two = await dialled(world, tmp_path, kind, await proxy.listen(world), proxy)
    await bulk(world, one, two, 100)
    assert set(proxy.asked) == {f"{HOST}:443"}
    assert b"Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==" in proxy.heads[0]
    assert one.link(two).address == f"{HOST}:443"
    assert one.link(two).over == f"{kind} via http://127.0.0.1:{proxy.port}" and two.link(one).over == kind


@pytest.mark.parametrize("kind", ["tcp", "tls", "wss"])
async def test_a_link_through_a_socks_proxy(world, tmp_path, socks, kind):
    """The same, and the name is left to the proxy."""
    one, two = await dialled(world, tmp_path, kind, await socks.listen(world), socks)
    await bulk(world, one, two, 20)
    assert set(socks.asked) == {f"{HOST}:443"}


@pytest.mark.parametrize(
    ("answer", "reason", "said"),
    [
        (
            b"HTTP/1.1 407 no\r\nProxy-Authenticate: Basic\r\n\r\n",
            "proxy-credentials",
            "does not take the user",
        ),
        (b"HTTP/1.1 403 no\r\n\r\n", "proxy-refused", f"does not let through to {HOST}:443 (403)"),
        (b"<html>hello\r\n\r\n", "proxy-failed", "is no HTTP proxy"),
        (b"", "proxy-failed", "took the connection and did not answer in time"),
    ],
    ids=["407", "403", "page", "hangs"],
)
async def test_a_proxy_that_gives_no_connection(world, tmp_path, proxy, answer, reason, said):
    """One clear line in the log and for doctor, with both ways that were tried; never the password."""
    proxy.answer = answer
    lines = []
    observe = lambda event: lines.append(formatEvent(event))  # noqa: E731
    globalLogPublisher.addObserver(observe)
    try:
        one, _ = await dialled(world, tmp_path, "tls", await proxy.listen(world), proxy)
        [target] = one.dialler.targets
        await until(lambda: target.reason)
    finally:
        globalLogPublisher.removeObserver(observe)
    assert target.reason == reason and said in target.why and "directly: " in target.why
    assert target.state is TargetState.WAITING
    [line] = [line for line in lines if line.startswith("Could not connect")]
    assert said in line
    assert not [line for line in lines if "sesame" in line or "QWxhZ" in line]


async def test_where_the_proxy_is_gone_the_host_is_dialled_directly(world, tmp_path, proxy):
    """A node that has moved to where there is no proxy is linked all the same, and remembers it."""
    one, two = world.node("one"), world.node("two")
    host = await world.listen(two, tcp())
    carriers = Carriers(reactor, TlsTrust, Proxies("http://127.0.0.1:9", {}))
    carriers._proxies._bypass.names = lambda *_: False
    one.dialler._dials._connect = carriers.endpoint
    one.dialler.set_targets([f"127.0.0.1:{host.port}"])
    one.dialler.start()
    await until(lambda: one.link(two) and two.link(one))
    address = one.dialler.targets[0].address
    order = carriers._experience.order(address, ["via http://127.0.0.1:9", "directly"])
    assert order[0] == "directly" and one.dialler.targets[0].why == ""


async def test_no_proxy_names_what_is_dialled_directly(world, proxy):
    """Without the proxy ever being asked."""
    one, two = world.node("one"), world.node("two")
    host = await world.listen(two, tcp())
    named = {"HTTPS_PROXY": await proxy.listen(world), "NO_PROXY": "localhost"}
    one.dialler._dials._connect = Carriers(reactor, TlsTrust, Proxies("", named)).endpoint
    one.dialler.set_targets([f"localhost:{host.port}"])
    one.dialler.start()
    await until(lambda: one.link(two) and two.link(one))
    assert proxy.asked == []


async def test_a_node_is_moved_between_the_proxy_and_the_open_and_back(world, tmp_path, proxy):
    """Each time its link ends it is back by the other way, without a change to anything, and says so."""
    one, two = world.node("one"), world.node("two")
    host = await world.listen(two, tcp())
    named = await proxy.listen(world)
    proxies = Proxies(named, {})
    proxies._bypass.names = lambda *_: False
    carriers = Carriers(reactor, TlsTrust, proxies)
    direct, blocked = carriers._tcp, []
    carriers._tcp = lambda host, port, avoid: direct(host, blocked[0] if blocked else port, avoid)
    one.dialler._dials._connect = carriers.endpoint
    one.dialler.set_targets([f"127.0.0.1:{host.port}"])
    one.dialler.start()
    await until(lambda: one.link(two) and one.link(two).over == f"tcp via {named}")
    proxy.answer = b"HTTP/1.1 503 no way out\r\n\r\n"  # the proxy is cut off from the world
    proxy.stop()
    await until(lambda: one.link(two) and one.link(two).over == "tcp")
    proxy.answer = None
    blocked.append(9)  # a port where nobody is: the firewall lets nothing out any more
    one.link(two)._transport.abort()
    await until(lambda: one.link(two) and one.link(two).over == f"tcp via {named}")
