# SPDX-License-Identifier: MIT
"""
Endpoints for programs in the node's own process.

Programs elsewhere use those of L{gmesh.client}, which behave alike.
Tests: C{tests/streams/test_dialling.py}, C{tests/streams/test_twisted_mixins.py}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.addresses import MeshAddress
from gmesh.errors import ConfigurationError
from gmesh.interfaces import IStreamOffer, IStreams
from gmesh.stream_errors import StreamCode

__all__ = ["NodeClientEndpoint", "NodePort", "NodeServerEndpoint"]


@implementer(IStreamClientEndpoint)
class NodeClientEndpoint:
    """
    A service of a node.

    @param streams: of the node that this process is.
    @param timeout: seconds until the far end has accepted.
    """

    def __init__(self, streams: IStreams, node: str, service: str, timeout: float = 30.0) -> None:
        self._streams = streams
        self._node = node
        self._service = service
        self._timeout = timeout

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Open a stream.

        @return: Deferred of the connected protocol; fails with L{gmesh.stream_errors.DialRefused}.
        """
        factory.doStart()
        dialled: Deferred[IProtocol] = self._streams.dial(
            self._node, self._service, factory.buildProtocol, self._timeout, factory.doStop
        )

        def failed(failure: Failure) -> Failure:
            factory.doStop()
            return failure

        dialled.addErrback(failed)
        return dialled


@implementer(IStreamServerEndpoint)
class NodeServerEndpoint:
    """
    A service of this node.

    @param own: where it is, for who asks the port.
    """

    def __init__(self, streams: IStreams, own: MeshAddress) -> None:
        self._streams = streams
        self._own = own

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        Take the streams that are opened to it.

        @return: Deferred of the port; fails with L{gmesh.errors.ConfigurationError}.
        """
        return execute(self._listen, factory)

    def _listen(self, factory: IProtocolFactory) -> NodePort:
        port = NodePort(self._streams, self._own, factory)
        port.startListening()
        return port


@implementer(IListeningPort)
class NodePort:
    """What listens to one service."""

    def __init__(self, streams: IStreams, own: MeshAddress, factory: IProtocolFactory) -> None:
        self._streams = streams
        self._own = own
        self._factory = factory
        self._listener: Any = None

    def startListening(self) -> None:
        """Take streams from now on."""
        self._factory.doStart()  # streams that waited for a taker are handed over before this returns
        try:
            self._listener = self._streams.listen(self._own.service, self._take)
        except ConfigurationError:
            self._factory.doStop()
            raise

    def stopListening(self) -> None:
        """Take no more; open streams go on. May be called twice."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stopListening()
            self._factory.doStop()

    def getHost(self) -> MeshAddress:
        """This node, and the service."""
        return self._own

    def _take(self, offer: IStreamOffer) -> None:
        protocol = self._factory.buildProtocol(offer.peer)
        if protocol is None:
            offer.refuse(StreamCode.REFUSED.slug, "the service does not want it")
        else:
            offer.accept(protocol)
