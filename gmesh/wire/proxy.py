# SPDX-License-Identifier: MIT
"""
Which proxy a connection goes through: as an option says, or the variables that curl and others read.

Their names and the form of C{NO_PROXY} are those of curl(1).  What is on this host is dialled directly
whatever they say.  A user and a password appear in no text that anybody is shown.
Tests: C{tests/wire/test_proxy.py}.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import Final

from gmesh.errors import ConfigurationError

__all__ = [
    "CREDENTIAL",
    "DIRECT",
    "Proxies",
    "ProxyAddress",
    "ProxyKind",
    "parse_credentials",
    "parse_proxy_url",
]

DIRECT: Final = "none"
"""What an option says to use no proxy though the environment names one."""
CREDENTIAL: Final = "proxy-credentials"
"""The systemd credential with C{USER:PASSWORD}."""
_URL: Final = re.compile(
    r"(?:([a-z0-9]+)://)?(?:([^@/?#]*)@)?(?:\[([0-9A-Fa-f:.]+)\]|([0-9A-Za-z._-]+))(?::([0-9]{1,5}))?/?"
)
_LONGEST: Final = 2048
_ESCAPE: Final = re.compile("%([0-9A-Fa-f]{2})")


class ProxyKind(StrEnum):
    """How a proxy is spoken to."""

    HTTP = "http"
    HTTPS = "https"
    SOCKS5 = "socks5"


_SCHEMES: Final = {
    None: ProxyKind.HTTP,
    "http": ProxyKind.HTTP,
    "https": ProxyKind.HTTPS,
    "socks5": ProxyKind.SOCKS5,
    "socks5h": ProxyKind.SOCKS5,
}
_PORTS: Final = {ProxyKind.HTTP: 8080, ProxyKind.HTTPS: 443, ProxyKind.SOCKS5: 1080}


@dataclass(frozen=True, slots=True)
class ProxyAddress:
    """
    One proxy.

    @ivar credentials: user and password, or none.
    """

    kind: ProxyKind
    host: str
    port: int
    credentials: tuple[str, str] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """For people: without what nobody shall read."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind}://{host}:{self.port}"

    @property
    def authorization(self) -> str:
        """The value of C{Proxy-Authorization}: RFC 7617, section 2; empty without credentials."""
        if self.credentials is None:
            return ""
        return "Basic " + base64.b64encode(":".join(self.credentials).encode()).decode()


def parse_proxy_url(text: str) -> ProxyAddress:
    """
    C{http://HOST:PORT}, C{https://...} or C{socks5://...}, perhaps with C{USER:PASSWORD@}.

    @raise ConfigurationError: for anything else, without repeating it: there may be a password in it.
    """
    match = _URL.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None or match[1] not in _SCHEMES:
        raise ConfigurationError(
            "bad-proxy", "the proxy is no URL of the form http://HOST:PORT, https:// or socks5://"
        )
    scheme, userinfo, v6, name, port = match.groups()
    kind = _SCHEMES[scheme]
    number = int(port) if port else _PORTS[kind]
    if not 0 < number < 65536:
        raise ConfigurationError("bad-proxy", "the port of the proxy is none")
    credentials = parse_credentials(_unescaped(userinfo)) if userinfo else None
    return ProxyAddress(kind, v6 or name, number, credentials)


def parse_credentials(text: str) -> tuple[str, str]:
    """
    C{USER:PASSWORD}.

    @raise ConfigurationError: if it is not, without repeating it.
    """
    user, colon, password = text.partition(":")
    if not user or not colon or not text.isprintable():
        raise ConfigurationError("bad-credentials", "credentials for a proxy are USER:PASSWORD, on one line")
    if len(user.encode()) > 255 or len(password.encode()) > 255:  # RFC 1929, section 2
        raise ConfigurationError("bad-credentials", "user and password for a proxy: at most 255 bytes each")
    return user, password


def _unescaped(text: str) -> str:
    data = b"".join(
        bytes.fromhex(part) if index % 2 else part.encode() for index, part in enumerate(_ESCAPE.split(text))
    )
    return data.decode("utf-8", "replace")


class Proxies:
    """
    Which proxy, if any, leads to a host.

    @param option: a URL, C{none}, or empty for what the environment says.
    @param environment: as of the process.
    @param credentials: user and password for a proxy whose URL has none.
    @raise ConfigurationError: if one is named that cannot be used.
    """

    def __init__(
        self,
        option: str = "",
        environment: Mapping[str, str] | None = None,
        credentials: tuple[str, str] | None = None,
    ) -> None:
        named = environment or {}
        self._plain = self._sealed = None
        if option != DIRECT:
            self._sealed = _proxy(option or _first(named, "HTTPS_PROXY", "ALL_PROXY"), credentials)
            # HTTP_PROXY in capitals may be a header of a request: httpoxy.org.
            plain = named.get("http_proxy") or _first(named, "ALL_PROXY")
            self._plain = _proxy(option or plain, credentials)
        self._bypass = _Bypass(_first(named, "NO_PROXY"))

    def __bool__(self) -> bool:
        return self._plain is not None or self._sealed is not None

    def choose(self, host: str, port: int, plain_http: bool = False) -> ProxyAddress | None:
        """
        The proxy for a connection; None to dial directly.

        @param plain_http: it is for a request to an C{http://} URL.
        """
        proxy = self._plain if plain_http else self._sealed
        return None if proxy is None or self._bypass.names(host, port) else proxy


def _first(environment: Mapping[str, str], name: str, *others: str) -> str:
    for each in (name, *others):
        if found := environment.get(each.lower()) or environment.get(each):
            return found
    return ""


def _proxy(text: str, credentials: tuple[str, str] | None) -> ProxyAddress | None:
    if not text:
        return None
    proxy = parse_proxy_url(text)
    return proxy if proxy.credentials is not None else replace(proxy, credentials=credentials)


class _Bypass:
    """What C{NO_PROXY} names: hosts with all below them, addresses, networks, C{*}; a port may follow."""

    def __init__(self, text: str) -> None:
        self._entries = [entry for entry in re.split(r"[\s,]+", text.lower()) if entry]

    def names(self, host: str, port: int) -> bool:
        host = host.partition("%")[0].removesuffix(".").lower()
        if (
            host == "localhost"
            or host.endswith(".localhost")
            or _in_network(host, "127.0.0.0/8")
            or host == "::1"
        ):
            return True
        return any(_matches(entry, host, port) for entry in self._entries)


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    name, colon, digits = entry.rpartition(":")
    if colon and digits.isdecimal() and (":" not in name or name.endswith("]")):
        if int(digits[:6]) != port:
            return False
        entry = name
    entry = entry.strip("[]").lstrip("*").lstrip(".")
    return bool(entry) and (host == entry or host.endswith(f".{entry}") or _in_network(host, entry))


def _in_network(host: str, network: str) -> bool:
    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False
