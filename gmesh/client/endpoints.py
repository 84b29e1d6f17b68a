# SPDX-License-Identifier: MIT
"""
Endpoints of Twisted that lead to services of the mesh, by way of the daemon of this host.

Tests: C{tests/client/test_endpoints.py}.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.addresses import MeshAddress
from gmesh.client.answers import AnswerRefused, plain_node, upgrade_request
from gmesh.client.listening import MeshPort
from gmesh.client.upgrade import StreamRequest, socket_or_found
from gmesh.stream_errors import DialTimedOut, dial_refused

__all__ = ["MeshClientEndpoint", "MeshServerEndpoint"]

#: The longest that the daemon lets a dial take.
MAX_TIMEOUT = 60.0


@implementer(IStreamClientEndpoint)
class MeshClientEndpoint:
    """
    A service of a node.

    @param node: its name, with C{.gmesh} behind it or without.
    @param socket: the path of the daemon's socket; where L{find_socket} finds it, if left out.  Or an
        endpoint that connects to the daemon.
    @param timeout: seconds within which the far end must have accepted; more than 60 are 60.
    """

    def __init__(
        self,
        reactor: Any,
        node: str,
        service: str,
        socket: str | IStreamClientEndpoint | None = None,
        timeout: float = 30.0,
    ) -> None:
        self._reactor = reactor
        self._node = plain_node(node)
        self._service = service
        self._socket = socket_or_found(socket)
        self._timeout = timeout

    def connect(self, protocolFactory: Any) -> Deferred[IProtocol]:
        """
        Open a stream.

        @return: Deferred of the connected protocol; fails with
            L{DialRefused<gmesh.stream_errors.DialRefused>}, which is a C{ConnectError}.
        """
        return Deferred.fromCoroutine(self._connect(cast(Factory, protocolFactory)))

    async def _connect(self, factory: Factory) -> IProtocol:
        asked = upgrade_request(
            "/v1/connect",
            node=self._node,
            service=self._service,
            timeout=f"{min(self._timeout, MAX_TIMEOUT):g}",
        )
        request = StreamRequest(self._reactor, asked, self._service, factory.buildProtocol)
        answer = Deferred.fromCoroutine(request.ask(self._socket))
        request.closed.addCallback(lambda _: factory.doStop())
        factory.doStart()
        try:
            return await answer.addTimeout(self._timeout, self._reactor, onTimeoutCancel=self._late)
        except AnswerRefused as refusal:
            raise dial_refused(refusal.reason, refusal.detail) from refusal
        except CancelledError as cancelled:
            address = MeshAddress(self._node, "", (), 0, self._service)
            raise ConnectingCancelledError(address) from cancelled

    def _late(self, result: object, timeout: float) -> Failure:
        detail = f"{self._service} of {self._node} did not accept within {timeout:g} s"
        return Failure(DialTimedOut("timed-out", detail))


@implementer(IStreamServerEndpoint)
class MeshServerEndpoint:
    """
    A service that this program offers on this node.

    Several programs of one user share it.

    @param socket: as of L{MeshClientEndpoint}.
    """

    def __init__(self, reactor: Any, service: str, socket: str | IStreamClientEndpoint | None = None) -> None:
        self._reactor = reactor
        self._service = service
        self._socket = socket_or_found(socket)

    def listen(self, protocolFactory: Any) -> Deferred[IListeningPort]:
        """
        Offer it, as long as the program lives: over every restart of the daemon.

        @return: Deferred of a L{MeshPort}, once the daemon knows; it waits for one that is not up yet, and
            fails with L{ListenRefused<gmesh.client.listening.ListenRefused>} if it will not have it.
        """
        port = MeshPort(self._reactor, self._socket, self._service, cast(Factory, protocolFactory))
        return port.begin()
