# SPDX-License-Identifier: MIT
"""
A connection of a command to an anchor, over what a node's links run over: TCP, TLS, WebSockets, by a proxy.

Whatever TLS says, both ends are proven by the handshake inside.
Tests: C{tests/cli/test_anchor_dial.py}.
"""

from __future__ import annotations

import socket
import ssl
import time

from gmesh.cli.proxied import proxies_here, through_proxy
from gmesh.errors import CarrierRefused
from gmesh.trust.transport_address import HTTPS_PORT, Transport, TransportAddress

__all__ = ["Dialled", "WebSocket", "dial_anchor"]

_CHUNK = 65536


class WebSocket:
    """
    The stream inside a WebSocket, with what is asked of a socket.

    @param below: to the web server.
    @param timeout: seconds for its answer.
    @raise CarrierRefused: where there is no WebSocket of gmesh.
    """

    def __init__(self, below: socket.socket, host: str, path: str, timeout: float) -> None:
        from wsproto import ConnectionType, WSConnection
        from wsproto.events import AcceptConnection, Request
        from wsproto.utilities import LocalProtocolError, RemoteProtocolError

        from gmesh.mesh.websocket import SUBPROTOCOL

        self._below = below
        self.settimeout(timeout)
        self._web = WSConnection(ConnectionType.CLIENT)
        self._refusals = (LocalProtocolError, RemoteProtocolError)
        below.sendall(self._web.send(Request(host=host, target=path, subprotocols=[SUBPROTOCOL])))
        answer = None
        while answer is None:
            self._receive()
            answer = next(self._web.events(), None)
        if not isinstance(answer, AcceptConnection) or answer.subprotocol != SUBPROTOCOL:
            raise CarrierRefused(
                "web-server", f"the web server gives no WebSocket of gmesh: see its path {path}"
            )

    def _receive(self) -> bool:
        """Read once. @return: False at the end."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._below.settimeout(left)
        data = self._below.recv(_CHUNK)
        try:
            self._web.receive_data(data or None)
        except self._refusals as error:
            raise CarrierRefused("web-server", "what answers is no web server with a WebSocket") from error
        return bool(data)

    def settimeout(self, seconds: float) -> None:
        """So long from now on may reads take, all together, and each write."""
        self._until = time.monotonic() + seconds
        self._below.settimeout(seconds)

    def sendall(self, data: bytes) -> None:
        """One message."""
        from wsproto.events import BytesMessage

        self._below.sendall(self._web.send(BytesMessage(data)))

    def recv(self, size: int) -> bytes:
        """What is in the messages that came; empty at the end, which a frame or the connection says."""
        from wsproto.events import BytesMessage, CloseConnection, Ping

        while True:
            received, ended = [], False
            for event in self._web.events():
                if isinstance(event, BytesMessage):
                    received.append(bytes(event.data))
                elif isinstance(event, Ping):
                    self._below.sendall(self._web.send(event.response()))
                else:
                    ended = ended or isinstance(event, CloseConnection)
            if received or ended or not self._receive():
                return b"".join(received)

    def close(self) -> None:
        """Hang up."""
        self._below.close()


Dialled = socket.socket | WebSocket


def dial_anchor(address: TransportAddress, timeout: float) -> Dialled:
    """
    Connect, by the proxy that this command or its environment names; directly where that leads nowhere.

    @raise OSError: if the anchor is not reached.
    @raise CarrierRefused: why what should carry it does not.
    """
    below = _connected(address, timeout)
    try:
        if address.kind is Transport.TCP:
            return below
        if isinstance(below, ssl.SSLSocket):
            raise CarrierRefused("proxy-failed", "a command speaks no TLS inside that of an https:// proxy")
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        below = context.wrap_socket(below, server_hostname=address.host)
        if address.kind is Transport.TLS:
            return below
        host = f"[{address.host}]" if ":" in address.host else address.host
        if address.port != HTTPS_PORT:
            host += f":{address.port}"
        return WebSocket(below, host, address.path, timeout)
    except BaseException:
        below.close()
        raise


def _connected(address: TransportAddress, timeout: float) -> socket.socket:
    proxy = proxies_here().choose(address.host, address.port)
    if proxy is None:
        return socket.create_connection((address.host, address.port), timeout)
    try:
        return through_proxy(proxy, address.host, address.port, timeout)
    except CarrierRefused:
        try:
            return socket.create_connection((address.host, address.port), timeout)
        except OSError:
            pass
        raise
