# SPDX-License-Identifier: MIT
"""
HTTP to nodes of the mesh, by name: for C{twisted.web.client} and treq.

Tests: C{tests/client/test_agent.py}.
"""

from __future__ import annotations

from typing import Any

from twisted.web.client import URI, Agent, HTTPConnectionPool
from twisted.web.error import SchemeNotSupported
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from gmesh.client.answers import plain_node
from gmesh.client.endpoints import MeshClientEndpoint
from gmesh.client.where import find_socket

__all__ = ["mesh_agent"]


@implementer(IAgentEndpointFactory)
class _ByName:
    """Which service a URL means."""

    def __init__(self, reactor: Any, socket: str, timeout: float) -> None:
        self._reactor = reactor
        self._socket = socket
        self._timeout = timeout

    def endpointForURI(self, uri: URI) -> MeshClientEndpoint:
        """@raise SchemeNotSupported: if it is not C{http}: the mesh seals what it carries."""
        if uri.scheme != b"http":
            raise SchemeNotSupported(f"{uri.toBytes().decode()}: over the mesh it is http, which it seals")
        node, service = _target(uri.host.decode("ascii"), uri.port)
        return MeshClientEndpoint(self._reactor, node, service, self._socket, self._timeout)


def _target(host: str, port: int) -> tuple[str, str]:
    """The node and the service: of a URL without a port, what stands before the node's name."""
    name = plain_node(host)
    if port != 80:
        return name, f"tcp-{port}"
    service, _, node = name.rpartition(".")
    return node, service or "http"


def mesh_agent(
    reactor: Any,
    socket: str | None = None,
    pool: HTTPConnectionPool | None = None,
    timeout: float = 30.0,
) -> Agent:
    """
    An agent for which C{http://pump-07/} is the service C{http} of the node C{pump-07}, C{http://web.pump-07/}
    its service C{web}, and C{http://pump-07:8080/} its service C{tcp-8080}.

    No other name is ever looked up.  With treq: C{treq.client.HTTPClient(mesh_agent(reactor))}.

    @param socket: as of L{MeshClientEndpoint}.
    @param pool: keeps connections for more than a request.
    @param timeout: seconds within which the far end must have accepted.
    """
    agent: Agent = Agent.usingEndpointFactory(reactor, _ByName(reactor, find_socket(socket), timeout), pool)
    return agent
