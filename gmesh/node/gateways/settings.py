# SPDX-License-Identifier: MIT
"""
What the file says of exposures, forwards and the proxy: C{[[expose]]}, C{[[forward]]}, C{[proxy]}.

Tests: C{tests/node/gateways/test_gateway_settings.py}.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from gmesh.daemon.settings_file import Table
from gmesh.endtoend.services import is_reserved, valid_service
from gmesh.errors import ConfigurationError, RequestRefused
from gmesh.node.api.acceptors import check_acceptable
from gmesh.trust.names import is_name
from gmesh.trust.transport_address import Transport, read_address
from gmesh.wire.limits import MAX_SERVICE

__all__ = [
    "DOMAIN",
    "NO_PROXY",
    "TABLES",
    "Exposure",
    "Forward",
    "ProxySettings",
    "Target",
    "read_exposure",
    "read_exposures",
    "read_forward",
    "read_proxy",
    "read_target",
]

DOMAIN: Final = ".gmesh"
"""What names of nodes may end in, so that programs take them for names of hosts."""
CONNECT_TIMEOUT: Final = 10.0
"""Seconds that the target of an exposure has to take a connection."""
MAX_CONNECT_TIMEOUT: Final = 30.0
"""A stream that is being opened is given up after so many."""
PROXY_VERSIONS: Final = (0, 2)
UNIX_PATH: Final = 107
"""Bytes of a path: sun_path of unix(7), its last byte a zero."""
_LISTENING: Final = ("tcp", "tcp6", "unix", "systemd")

_LOOPBACK: Final = {"tcp": "127.0.0.1", "tcp6": r"\:\:1"}

TABLES: Final[Mapping[str, Table]] = {
    "expose": Table(
        {"service": str, "to": str, "proxy_protocol": int, "connect_timeout": float},
        several=True,
        required=frozenset({"service", "to"}),
    ),
    "forward": Table({"listen": str, "to": str}, several=True, required=frozenset({"listen", "to"})),
    "proxy": Table({"listen": list, "anyone": bool}),
}
"""For L{gmesh.daemon.settings_file.read_settings}."""


@dataclass(frozen=True, slots=True)
class Target:
    """
    Where an exposure leads: a port of a host, or a unix socket.

    @ivar host: a name or an IP address; empty for a unix socket.
    @ivar path: absolute; empty for a port.
    """

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"tcp:{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Exposure:
    """
    A service of this node that a program serves which knows nothing of the mesh.

    @ivar service: its name in the mesh.
    @ivar to: where that program listens.
    @ivar proxy_protocol: 2 to tell it who is there, 0 not to.
    @ivar connect_timeout: seconds that it has to take a connection.
    """

    service: str
    to: Target
    proxy_protocol: int = 0
    connect_timeout: float = CONNECT_TIMEOUT


@dataclass(frozen=True, slots=True)
class Forward:
    """
    A local port that leads to a service of another node.

    @ivar listen: an endpoint string.
    """

    listen: str
    node: str
    service: str

    @property
    def to(self) -> str:
        """C{pump-07:ssh}."""
        return f"{self.node}:{self.service}"


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """
    The proxy for programs that can use one.

    @ivar listen: endpoint strings; none, and there is no proxy.
    @ivar anyone: whether it may be on other addresses than those of loopback.
    """

    listen: tuple[str, ...] = ()
    anyone: bool = False


NO_PROXY: Final = ProxySettings()


def read_target(text: str) -> Target:
    """
    The target that C{text} names: C{tcp:HOST:PORT}, C{tcp:[IPV6]:PORT} or C{unix:PATH}.

    @raise ConfigurationError: C{bad-target}, if it names none.
    """
    kind, _, rest = text.partition(":")
    if kind == "unix" and rest.startswith("/") and "\0" not in rest:
        if len(os.fsencode(rest)) > UNIX_PATH:
            raise _bad("target", f"{text!r}: the path of a unix socket has at most {UNIX_PATH} bytes")
        return Target(path=rest)
    address = read_address(text, local=True) if kind == "tcp" else None
    if address is None or address.kind is not Transport.TCP:
        raise _bad("target", f"{text!r} is none of tcp:HOST:PORT, tcp:[IPV6]:PORT, unix:/PATH")
    return Target(address.host, address.port)


def read_exposure(values: Mapping[str, Any]) -> Exposure:
    """One C{[[expose]]}, or one asked for. @raise ConfigurationError: with what is wrong."""
    try:
        check_acceptable(values["service"])
    except RequestRefused as error:
        raise _bad("service", f"{values['service']!r} cannot be exposed: {error.detail}") from error
    exposure = Exposure(
        values["service"],
        read_target(values["to"]),
        values.get("proxy_protocol", 0),
        values.get("connect_timeout", CONNECT_TIMEOUT),
    )
    if exposure.proxy_protocol not in PROXY_VERSIONS:
        raise _bad("configuration", f"proxy_protocol {exposure.proxy_protocol} cannot be spoken, only 2")
    if not 0 < exposure.connect_timeout <= MAX_CONNECT_TIMEOUT:
        raise _bad("configuration", f"connect_timeout must be above 0, at most {MAX_CONNECT_TIMEOUT:g}")
    return exposure


def read_exposures(tables: Sequence[Mapping[str, Any]]) -> tuple[Exposure, ...]:
    """All of them. @raise ConfigurationError: also for two of one name."""
    found = tuple(map(read_exposure, tables))
    names = [exposure.service for exposure in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _bad("configuration", f"the service {twice[0]} is exposed twice")
    return found


def read_forward(values: Mapping[str, Any]) -> Forward:
    """One C{[[forward]]}, or one asked for. @raise ConfigurationError: with what is wrong."""
    listen, (node, colon, service) = _local(values["listen"]), values["to"].partition(":")
    kind = listen.partition(":")[0]
    if kind == "udp":
        raise _bad("endpoint", f"{listen!r}: udp is not forwarded, only byte streams are")
    if kind not in _LISTENING:
        raise _bad("endpoint", f"{listen!r}: a forward listens on one of {', '.join(_LISTENING)}")
    node = node.removesuffix(DOMAIN)
    if not colon or not is_name(node):
        raise _bad("configuration", f"{values['to']!r} is not NODE:SERVICE")
    return Forward(listen, node, _service(service))


def read_proxy(values: Mapping[str, Any]) -> ProxySettings:
    """The C{[proxy]}. @raise ConfigurationError: with what is wrong."""
    anyone = values.get("anyone", False)
    return ProxySettings(tuple(_guarded(text, anyone) for text in values.get("listen", ())), anyone)


def _guarded(text: str, anyone: bool) -> str:
    """As a proxy listens on it: a bare port is one of loopback, a unix socket is for owner and group."""
    kind = text.partition(":")[0]
    if kind not in _LISTENING:
        raise _bad("endpoint", f"{text!r}: a proxy listens on one of {', '.join(_LISTENING)}")
    if kind == "unix":
        return text if ":mode=" in text else f"{text}:mode=660"
    if anyone or kind == "systemd":  # whose address is known when it is there
        return text
    text = _local(text)
    parts = (part.replace("\0", ":") for part in text.replace("\\:", "\0").split(":"))
    interfaces = [part.removeprefix("interface=") for part in parts if part.startswith("interface=")]
    if not all(map(_is_loopback, interfaces)):
        raise _bad(
            "endpoint",
            f"{text!r}: the proxy is for this host; say anyone = true if others may use the mesh through it",
        )
    return text


def _local(text: str) -> str:
    """A bare port is one of loopback."""
    kind = text.partition(":")[0]
    return f"{text}:interface={_LOOPBACK[kind]}" if kind in _LOOPBACK and ":interface=" not in text else text


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _service(name: str) -> str:
    if not valid_service(name) or is_reserved(name):
        raise _bad(
            "service", f"{name!r} cannot name a service: a-z, 0-9 and dashes within, at most {MAX_SERVICE}"
        )
    return name


def _bad(what: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"bad-{what}", why)
