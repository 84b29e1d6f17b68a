# SPDX-License-Identifier: MIT
"""
How the daemon reaches others, as its configuration says.

Tests: C{tests/node/test_reach.py}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from gmesh.mesh.carriers import Carriers
from gmesh.mesh.spaced_log import SpacedLog
from gmesh.node.configuration import Configuration
from gmesh.proxy_settings import read_proxies
from gmesh.wire.proxy import Proxies

if TYPE_CHECKING:
    from gmesh.mesh.tls import TlsTrust

__all__ = ["carriers", "proxies_of"]

_log = Logger()


def proxies_of(configuration: Configuration, environment: Mapping[str, str]) -> Proxies:
    """
    Which proxies lead to which hosts.

    @param environment: of the process.
    @raise ConfigurationError: if one is named, or its credentials are, that cannot be used.
    """
    return read_proxies(configuration.proxy_url, configuration.proxy_credentials, environment)


def carriers(reactor: Any, configuration: Configuration, proxies: Proxies | None = None) -> Carriers:
    """
    What links are dialled with.

    @raise ConfigurationError: if the certificates to trust cannot be read.
    """
    lines = SpacedLog()

    def warn(address: str, fault: str) -> None:
        lines.write(
            _log.warn,
            reactor.seconds(),
            "tls-certificate",
            address,
            "TLS at {address} is not what it should be: {fault}; the link inside it is sealed all the same",
            address=address,
            fault=fault,
        )

    def trust() -> TlsTrust:
        from gmesh.mesh.tls import TlsTrust  # whose memory a node without TLS addresses can spare

        return TlsTrust(configuration.tls_ca, configuration.tls_pin, configuration.tls_strict, warn)

    made = Carriers(reactor, trust, proxies)
    if configuration.tls_ca:
        _ = made.tls  # a file that cannot be read keeps the daemon from starting
    return made
