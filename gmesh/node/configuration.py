# SPDX-License-Identifier: MIT
"""
What the user asks of the daemon: options and a TOML file with the same names, options first.

Tests: C{tests/node/test_configuration.py}.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from gmesh.daemon.logs import LOG_FORMATS, parse_level
from gmesh.daemon.settings_file import Kind, read_settings
from gmesh.errors import ConfigurationError, RequestRefused
from gmesh.node.api.acceptors import check_acceptable
from gmesh.node.api.access import ServiceGroups, find_group
from gmesh.node.gateways.settings import (
    NO_PROXY,
    TABLES,
    Exposure,
    Forward,
    ProxySettings,
    read_exposures,
    read_forward,
    read_proxy,
)
from gmesh.routing.limits import MAX_ADDRESS
from gmesh.trust.address_scope import Scope, parse_scope
from gmesh.trust.transport_address import FORMS, interface_fault, read_address
from gmesh.wire.proxy import DIRECT, parse_proxy_url

__all__ = ["Configuration", "check_address", "read_configuration"]

_LISTS = frozenset({"listen", "advertise", "peer", "metrics", "host", "tls_pin"})
_SWITCHES = frozenset({"stub", "tls_strict", "relay_joins"})
_PIN = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Configuration:
    """
    One daemon's settings.

    @ivar state: the state directory.
    @ivar listen: endpoint strings for the mesh; none for a node that only dials.
    @ivar control: the endpoint string of the local API.
    @ivar advertise: addresses by which others may reach this node.
    @ivar peer: addresses to dial beside the anchors of the genesis.
    @ivar log_level: the least level that is logged; all, if empty.
    @ivar log_format: C{text} or C{json}; twistd's own, if empty.
    @ivar read_group: the group that may look at the node over the local API.
    @ivar write_group: the group that may also send and receive over it.
    @ivar metrics: endpoint strings for C{/metrics} alone.
    @ivar host: names by which programs may ask what listens on TCP for them.
    @ivar lead_to: a word of L{Scope}: the nearest addresses to which others may lead this node.
    @ivar tls_ca: a file of certificates to trust under TLS links, instead of the roots of the system.
    @ivar tls_pin: hex SHA-256 of the public keys that are good there, whoever signed for them.
    @ivar tls_strict: no link over a TLS certificate that is wrong.
    @ivar proxy_url: of a proxy for what this node dials; C{none}; what the environment says, if empty.
    @ivar proxy_credentials: a file with C{USER:PASSWORD} for it.
    @ivar behind: where requests that are no links go, of listeners for WebSockets: C{unix:PATH}.
    @ivar stub: keep no table of the network, ask neighbours for paths, never relay.
    @ivar relay_joins: hosts without a certificate may join by way of this anchor.
    @ivar bind: the group that may accept streams to a service, by the service; C{*} for all others.
    @ivar expose: services of this node that other programs serve.
    @ivar forward: local ports that lead to services of other nodes.
    @ivar proxy: the proxy for programs of this host.
    """

    state: Path
    listen: tuple[str, ...] = ()
    control: str = ""
    advertise: tuple[str, ...] = ()
    peer: tuple[str, ...] = ()
    log_level: str = ""
    log_format: str = ""
    read_group: str = ""
    write_group: str = ""
    metrics: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    lead_to: str = ""
    tls_ca: str = ""
    tls_pin: tuple[str, ...] = ()
    tls_strict: bool = False
    proxy_url: str = field(default="", repr=False)
    proxy_credentials: str = ""
    behind: str = ""
    stub: bool = False
    relay_joins: bool = False
    bind: Mapping[str, str] = field(default_factory=dict)
    expose: tuple[Exposure, ...] = ()
    forward: tuple[Forward, ...] = ()
    proxy: ProxySettings = NO_PROXY

    def may_lead_to(self) -> Scope:
        """The nearest addresses to which records and commands may lead."""
        return parse_scope(self.lead_to) if self.lead_to else Scope.PRIVATE

    def control_endpoint(self) -> str:
        """
        The endpoint string of the local API, C{node.sock} in the state directory if none was given.

        A unix socket is for owner and group alone, unless its string says otherwise.
        """
        from twisted.internet.endpoints import quoteStringArgument  # a fifth of a second: not at every start

        endpoint = self.control or f"unix:{quoteStringArgument(str(self.state / 'node.sock'))}"
        if endpoint.startswith("unix:") and ":mode=" not in endpoint:
            endpoint += ":mode=660"
        return endpoint

    def metrics_endpoints(self) -> list[str]:
        """The endpoint strings for C{/metrics}; a bare TCP port is one of loopback."""
        return [
            f"{endpoint}:interface=127.0.0.1"
            if endpoint.startswith("tcp:") and ":interface=" not in endpoint
            else endpoint
            for endpoint in self.metrics
        ]


def check_address(text: str, local: bool = False) -> str:
    """
    C{text}, if it is C{HOST:PORT}, C{[IPV6]:PORT} or a URL of C{tcp://}, C{tls://} or C{wss://}.

    @param local: this host dials it, and may name one of its interfaces; else others do.
    @raise ConfigurationError: otherwise.
    """
    fault = interface_fault(text, local)
    if fault:
        raise ConfigurationError("bad-address", f"{text!r} cannot be used: {fault}")
    address = read_address(text, local)
    document_form = text.startswith(("tcp:", "tls:")) and "://" not in text
    if address is None or document_form or len(text) > MAX_ADDRESS:
        raise ConfigurationError("bad-address", f"{text!r} is not {FORMS}")
    return text


def read_configuration(file: Path | None, options: dict[str, Any]) -> Configuration:
    """
    Settings from C{options}, which win where they are given, and C{file}.

    @raise ConfigurationError: one line naming the file, the key and what is wrong.
    """
    values = read_settings(file, _kinds()) if file is not None else {}
    values.update({name.replace("-", "_"): value for name, value in options.items() if value})
    if not values.get("state"):
        raise ConfigurationError("no-state", "which node? give --state DIR, the directory `gmesh join` made")
    return Configuration(
        state=Path(values["state"]),
        listen=tuple(values.get("listen", ())),
        control=values.get("control", ""),
        advertise=tuple(check_address(text) for text in values.get("advertise", ())),
        peer=tuple(check_address(text, local=True) for text in values.get("peer", ())),
        log_level=_checked(parse_level, values.get("log_level", "")),
        log_format=_checked(_check_format, values.get("log_format", "")),
        read_group=_checked(find_group, values.get("read_group", "")),
        write_group=_checked(find_group, values.get("write_group", "")),
        metrics=tuple(values.get("metrics", ())),
        host=tuple(values.get("host", ())),
        lead_to=_checked(_check_scope, values.get("lead_to", "")),
        tls_ca=values.get("tls_ca", ""),
        tls_pin=tuple(_pin(text) for text in values.get("tls_pin", ())),
        proxy_url=_checked(_check_proxy, values.get("proxy_url", "")),
        proxy_credentials=values.get("proxy_credentials", ""),
        behind=_behind(values.get("behind", ""), values.get("listen", ())),
        tls_strict=bool(values.get("tls_strict")),
        stub=bool(values.get("stub")),
        relay_joins=bool(values.get("relay_joins")),
        bind=_bind(values.get("bind", {})),
        expose=read_exposures(values.get("expose", ())),
        forward=tuple(map(read_forward, values.get("forward", ()))),
        proxy=read_proxy(values.get("proxy", {})),
    )


def _checked(check: Callable[[str], object], text: str) -> str:
    if text:
        check(text)
    return text


def _bind(groups: Mapping[str, str]) -> Mapping[str, str]:
    """@raise ConfigurationError: C{bad-service}, C{no-group}."""
    for service in groups.keys() - {"*"}:
        try:
            check_acceptable(service)
        except RequestRefused as error:
            raise ConfigurationError(error.reason, f"bind: {service!r}: {error.detail}") from error
    ServiceGroups(groups)
    return groups


def _check_format(name: str) -> None:
    if name not in LOG_FORMATS:
        raise ConfigurationError(
            "bad-format", f"{name!r} is not a log format: there are {', '.join(LOG_FORMATS)}"
        )


def _behind(text: str, listen: Sequence[str]) -> str:
    if text and not text.startswith("unix:"):
        raise ConfigurationError("bad-behind", f"{text!r}: behind is unix:PATH, the socket of a web server")
    if text and not any(each.startswith("ws:") for each in listen):
        raise ConfigurationError(
            "bad-behind", "behind needs a --listen ws:..., whose other requests go there"
        )
    return text


def _check_proxy(text: str) -> None:
    if text != DIRECT:
        parse_proxy_url(text)


def _pin(text: str) -> str:
    plain = text.replace(":", "").lower()
    if not _PIN.fullmatch(plain):
        raise ConfigurationError(
            "bad-pin", f"{text!r} is no pin: the SHA-256 of a public key has 64 hex digits"
        )
    return plain


def _check_scope(text: str) -> None:
    try:
        parse_scope(text)
    except ValueError as error:
        raise ConfigurationError("bad-scope", f"lead_to: {error}") from error


def _kinds() -> dict[str, Kind]:
    names = [each.name for each in fields(Configuration)]
    plain: dict[str, Kind] = {
        name: list if name in _LISTS else bool if name in _SWITCHES else str for name in names
    }
    return {**plain, **TABLES, "bind": dict}
