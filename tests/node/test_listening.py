# SPDX-License-Identifier: MIT
"""Where a node takes links: plain, in TLS, in WebSockets, behind proxies."""

from __future__ import annotations

from typing import Any

import pytest
from mesh.sockets_world import Authority
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock

from gmesh.daemon.listen import Listeners, TlsServerEndpoint, renew_certificates
from gmesh.errors import ConfigurationError
from gmesh.mesh.websocket import WebSocketServerEndpoint
from gmesh.node.listening import mesh_server


def test_plain_strings_are_those_of_twisted() -> None:
    """Nothing stands around them."""
    assert type(mesh_server(MemoryReactorClock(), "tcp:1")) is TCP4ServerEndpoint


def test_tls_and_websockets(tmp_path: Any) -> None:
    """C{tls:} is C{ssl:}; C{ws:} may stand before any, and what it stands before is read as ever."""
    served, _ = Authority(tmp_path).endpoint("a.example")
    assert type(mesh_server(MemoryReactorClock(), served)) is TlsServerEndpoint
    for text in ("tcp:1", "unix:/s", served, f"haproxy:{served}", "haproxy:tcp:1"):
        endpoint = mesh_server(MemoryReactorClock(), f"ws:{text}")
        assert type(endpoint) is WebSocketServerEndpoint
        assert type(endpoint.inner) is type(mesh_server(MemoryReactorClock(), text))


@pytest.mark.parametrize(
    "text", ["ws:", "ws:nonsense:1", "ws:ws:tcp:1", "tls:443:privateKey=/nonexistent", "haproxy:"]
)
def test_what_is_none_is_refused_with_its_text(text: str) -> None:
    """As any endpoint to listen on."""
    with pytest.raises(ConfigurationError, match="is not an endpoint to listen on"):
        mesh_server(MemoryReactorClock(), text)


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")  # Twisted's own call
@pytest.mark.parametrize("before", ["", "ws:", "haproxy:", "ws:haproxy:"])
def test_d12_files_are_read_again_behind_whatever_stands_before_them(tmp_path: Any, before: str) -> None:
    """At a reload the context of new connections is that of the new files."""
    authority = Authority(tmp_path)
    served, _ = authority.endpoint("a.example")
    listeners = Listeners(
        MemoryReactorClock(),
        lambda: Factory.forProtocol(Protocol),
        "listening",
        "test",
        [before + served],
        mesh_server,
    )
    [service] = list(listeners)
    before_reload = service._tls._factory
    authority.endpoint("b.example")
    assert renew_certificates(listeners) == []
    assert service._tls._factory is not before_reload
    (tmp_path / "leaf.pem").write_text("no certificate")
    [trouble] = renew_certificates(listeners)
    assert "goes on with the certificate it has" in trouble
