# SPDX-License-Identifier: MIT
"""
Which service of which node a program means that knows names of hosts and ports: C{pump-07.gmesh:80}.

Port 80 is the service C{http}, port N is C{tcp-N}; C{web.pump-07.gmesh} names a service, whatever the
port.  No other name is of the mesh.  Tests: C{tests/node/gateways/test_names.py}.
"""

from __future__ import annotations

from typing import Final

from gmesh.endtoend.services import is_reserved, valid_service
from gmesh.errors import RequestRefused
from gmesh.node.gateways.settings import DOMAIN
from gmesh.trust.names import is_name

__all__ = ["read_host"]

_HTTP: Final = 80


def read_host(host: str, port: int) -> tuple[str, str]:
    """
    The node and the service.

    @raise RequestRefused: C{outside}, for a name that is not of the mesh.
    """
    folded = host.lower().removesuffix(".")
    service, _, node = folded.removesuffix(DOMAIN).rpartition(".")
    if not folded.endswith(DOMAIN) or not is_name(node):
        shown = host if len(host) <= 64 and host.isprintable() else "that name"
        raise RequestRefused("outside", f"{shown} is outside the mesh: names here are NODE{DOMAIN}")
    if not service:
        service = "http" if port == _HTTP else f"tcp-{port}"
    if not valid_service(service) or is_reserved(service):
        raise RequestRefused("outside", f"{service[:64]!r} cannot name a service")
    return node, service
