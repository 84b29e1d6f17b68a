# SPDX-License-Identifier: MIT
"""Small proxies on loopback for tests: HTTP CONNECT and SOCKS5, with what they were asked."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol


class Proxy(Factory):
    """
    Connects whoever asks.

    @ivar asked: the places, in order.
    @ivar heads: what HTTP ones were sent.
    @ivar answer: said instead of connecting, if set; empty bytes: nothing is ever said.
    @ivar to: ports by place, for names that lead nowhere.
    """

    def __init__(self, socks=False):
        self.socks, self.asked, self.heads, self.answer, self.to = socks, [], [], None, {}
        self.open = []

    async def listen(self, world):
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self)
        world.ports.append(port)
        self.port = port.getHost().port
        return f"{'socks5' if self.socks else 'http'}://127.0.0.1:{self.port}"

    def buildProtocol(self, addr):
        return _Socks(self) if self.socks else _Connect(self)

    def stop(self):
        for each in list(self.open):
            each.transport.abortConnection()


class _Pipe(Protocol):
    other = None

    def dataReceived(self, data):
        self.other.transport.write(data)

    def connectionLost(self, reason):
        if self.other is not None:
            self.other.transport.loseConnection()


class _Client(_Pipe):
    proxy, data = None, b""

    def __init__(self, proxy):
        self.proxy = proxy

    def connectionMade(self):
        self.proxy.open.append(self)

    def connectionLost(self, reason):
        self.proxy.open.remove(self)
        super().connectionLost(reason)

    def join(self, host, port, greeting):
        port = self.proxy.to.get(f"{host}:{port}", port)

        def joined(far):
            self.other, far.other = far, self
            self.transport.write(greeting)

        connecting = connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), _Pipe())
        connecting.addCallbacks(joined, lambda _: self.transport.loseConnection())


class _Connect(_Client):
    def dataReceived(self, data):
        if self.other is not None:
            super().dataReceived(data)
            return
        self.data += data
        if b"\r\n\r\n" not in self.data:
            return
        self.proxy.heads.append(self.data)
        place = self.data.split()[1].decode()
        self.proxy.asked.append(place)
        if self.proxy.answer is not None:
            self.transport.write(self.proxy.answer)
            return
        host, _, port = place.rpartition(":")
        self.join(host, int(port), b"HTTP/1.1 200 Connection established\r\n\r\n")


class _Socks(_Client):
    greeted = False

    def dataReceived(self, data):
        if self.other is not None:
            super().dataReceived(data)
            return
        if not self.greeted:
            self.greeted = True
            self.transport.write(b"\x05\x00")
            return
        size = data[4]
        host, port = data[5 : 5 + size].decode(), int.from_bytes(data[5 + size :][:2], "big")
        self.proxy.asked.append(f"{host}:{port}")
        self.join(host, port, b"\x05\x00\x00\x01" + bytes(6))
