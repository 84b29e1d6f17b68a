# SPDX-License-Identifier: MIT
"""
What programs import to reach services of the mesh by node name.

Each name is imported when it is used first: who wants L{open_socket} alone does not import Twisted.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gmesh.addresses import MeshAddress
    from gmesh.client.access_log import access_log_line
    from gmesh.client.agent import mesh_agent
    from gmesh.client.blocking import SocketRefused, open_socket
    from gmesh.client.blocking_mesh import BlockingMesh
    from gmesh.client.blocking_stream import BlockingStream, StreamBroken
    from gmesh.client.endpoints import MeshClientEndpoint, MeshServerEndpoint
    from gmesh.client.listening import ListenRefused
    from gmesh.client.mesh import Mesh
    from gmesh.client.message_frames import GivenMessage
    from gmesh.client.service_events import ServiceEvent
    from gmesh.interfaces import IStreamReader
    from gmesh.stream_errors import DialRefused, StreamLost

__all__ = [
    "BlockingMesh",
    "BlockingStream",
    "DialRefused",
    "GivenMessage",
    "IStreamReader",
    "ListenRefused",
    "Mesh",
    "MeshAddress",
    "MeshClientEndpoint",
    "MeshServerEndpoint",
    "ServiceEvent",
    "SocketRefused",
    "StreamBroken",
    "StreamLost",
    "access_log_line",
    "mesh_agent",
    "open_socket",
]

_HOMES = {
    "BlockingMesh": "gmesh.client.blocking_mesh",
    "BlockingStream": "gmesh.client.blocking_stream",
    "StreamBroken": "gmesh.client.blocking_stream",
    "Mesh": "gmesh.client.mesh",
    "DialRefused": "gmesh.stream_errors",
    "GivenMessage": "gmesh.client.message_frames",
    "IStreamReader": "gmesh.interfaces",
    "ListenRefused": "gmesh.client.listening",
    "MeshAddress": "gmesh.addresses",
    "MeshClientEndpoint": "gmesh.client.endpoints",
    "MeshServerEndpoint": "gmesh.client.endpoints",
    "ServiceEvent": "gmesh.client.service_events",
    "SocketRefused": "gmesh.client.blocking",
    "StreamLost": "gmesh.stream_errors",
    "access_log_line": "gmesh.client.access_log",
    "mesh_agent": "gmesh.client.agent",
    "open_socket": "gmesh.client.blocking",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
