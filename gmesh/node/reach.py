# SPDX-License-Identifier: MIT
"""
How the daemon reaches others, as its configuration says.

Tests: C{tests/node/test_reach.py}.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from gmesh.mesh.carriers import Carriers
from gmesh.mesh.spaced_log import SpacedLog
from gmesh.mesh.tls import TlsTrust
from gmesh.node.configuration import Configuration

__all__ = ["carriers"]

_log = Logger()


def carriers(reactor: Any, configuration: Configuration) -> Carriers:
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

    return Carriers(
        reactor, TlsTrust(configuration.tls_ca, configuration.tls_pin, configuration.tls_strict, warn)
    )
