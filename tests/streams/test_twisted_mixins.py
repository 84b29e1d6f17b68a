# SPDX-License-Identifier: MIT
"""Twisted's own tests of transports, an oracle from outside, over the endpoints in the node's process."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from streams.alone import Alone

from gmesh.streams.endpoints import NodeClientEndpoint, NodeServerEndpoint
from gmesh.streams.stream import Stream

pytest.importorskip("hamcrest", reason="Twisted's own tests need PyHamcrest")

from twisted.internet.test import connectionmixins, test_tcp
from twisted.internet.test.reactormixins import ReactorBuilder


class _Creator(connectionmixins.EndpointCreator):
    """A node that dials itself; what is left of it goes with its reactor."""

    def __init__(self) -> None:
        self.nodes: dict[Any, Alone] = {}

    def node(self, reactor: Any) -> Alone:
        """One for each reactor."""
        return self.nodes.setdefault(reactor, Alone(reactor))

    def server(self, reactor: Any) -> NodeServerEndpoint:
        node = self.node(reactor)
        return NodeServerEndpoint(node.streams, node.address("web"))

    def client(self, reactor: Any, serverAddress: Any) -> NodeClientEndpoint:
        return NodeClientEndpoint(self.node(reactor).streams, serverAddress.name, serverAddress.service)


class _OverStreams(ReactorBuilder):
    """Runs each test on a reactor of its own."""

    endpoints = _Creator()

    def setUp(self) -> None:
        """The reactor that runs all other tests hears of its children again afterwards."""
        handler, told = signal.getsignal(signal.SIGCHLD), signal.set_wakeup_fd(-1)

        def restore() -> None:
            signal.signal(signal.SIGCHLD, handler)
            signal.siginterrupt(signal.SIGCHLD, False)
            signal.set_wakeup_fd(told)

        signal.set_wakeup_fd(told)
        self.addCleanup(restore)
        super().setUp()

    def runReactor(self, reactor: Any, timeout: float | None = None) -> None:
        super().runReactor(reactor, timeout)
        self.endpoints.nodes.pop(reactor).close()

    def listen(self, reactor: Any, factory: Any) -> None:
        """As the mixins of clients want it."""
        self.endpoints.server(reactor).listen(factory)

    def connect(self, reactor: Any, factory: Any) -> None:
        """The same."""
        self.endpoints.client(reactor, self.endpoints.node(reactor).address("web")).connect(factory)


class ConnectionTests(_OverStreams, connectionmixins.ConnectionTestsMixin):
    """C{ITransport} in general."""


class AbortTests(_OverStreams, test_tcp.AbortConnectionMixin):
    """C{abortConnection}; a server that stops reading does so by the names that descriptors have for it."""

    def setUp(self) -> None:
        super().setUp()
        for name, method in (("stopReading", "pauseProducing"), ("startReading", "resumeProducing")):
            setattr(Stream, name, getattr(Stream, method))
            self.addCleanup(delattr, Stream, name)

    @pytest.fixture(autouse=True)
    def _flush(self, flush_logged_errors: Any) -> None:
        self._flush_ours = flush_logged_errors

    def flushLoggedErrors(self, *types: Any) -> Any:
        """Those that the test expects are expected by ours too."""
        self._flush_ours(*types)
        return super().flushLoggedErrors(*types)


class ProducerTests(_OverStreams, connectionmixins.StreamClientTestsMixin):
    """Producers, and what their registration means for an end."""

    # what is about C{IConnector}, which endpoints do not have
    test_interface = None
    test_clientConnectionFailedStopsReactor = None


for _case in (ConnectionTests, AbortTests, ProducerTests):
    _made = _case.makeTestCaseClasses()
    globals().update({name: made for name, made in _made.items() if name.endswith("_SelectReactorTests")})
del _case, _made, ConnectionTests, AbortTests, ProducerTests, _OverStreams
