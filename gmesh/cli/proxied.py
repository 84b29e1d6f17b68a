# SPDX-License-Identifier: MIT
"""
Proxies for commands: the options that name one, and connections of the HTTP client through it.

Tests: C{tests/cli/test_proxied.py}.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from typing import Any

import click

from gmesh.errors import CarrierRefused
from gmesh.proxy_settings import check_shown, read_proxies
from gmesh.wire.proxy import Proxies, ProxyAddress, ProxyKind
from gmesh.wire.tunnel import tunnel

__all__ = [
    "UNAUTHORIZED",
    "connect_through",
    "proxies_here",
    "proxy_options",
    "through_proxy",
    "wants_credentials",
]

UNAUTHORIZED = 407
"""Proxy Authentication Required: RFC 9110, section 15.5.8."""
_KEY = "gmesh.cli.proxied"
_CHUNK = 4096


def _remember(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Keep what an option says for every connection of this command."""
    name = str(parameter.name)
    if name == "proxy" and context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
        check_shown(value or "")
    context.meta.setdefault(_KEY, {})[name] = value or ""


def proxy_options(command: Any) -> Any:
    """C{--proxy} and C{--proxy-credentials}, for a command that asks the authority."""
    credentials = click.option(
        "--proxy-credentials",
        metavar="FILE",
        envvar="GMESH_PROXY_CREDENTIALS",
        show_envvar=True,
        expose_value=False,
        callback=_remember,
        help="File with USER:PASSWORD for the proxy.",
    )
    proxy = click.option(
        "--proxy",
        metavar="URL",
        envvar="GMESH_PROXY",
        show_envvar=True,
        expose_value=False,
        callback=_remember,
        help="Proxy to the authority: http://HOST:PORT, https:// or socks5://, or none.  Else HTTPS_PROXY,"
        " http_proxy and NO_PROXY count.",
    )
    return proxy(credentials(command))


def proxies_here() -> Proxies:
    """
    Those that options of this command or the environment name.

    @raise ConfigurationError: if one cannot be used.
    """
    context = click.get_current_context(silent=True)
    given = {} if context is None else context.meta.get(_KEY, {})
    return read_proxies(given.get("proxy", ""), given.get("proxy_credentials", ""), os.environ)


def _socket_to(proxy: ProxyAddress, timeout: float) -> socket.socket:
    try:
        sock = socket.create_connection((proxy.host, proxy.port), timeout)
        if proxy.kind is ProxyKind.HTTPS:
            return ssl.create_default_context().wrap_socket(sock, server_hostname=proxy.host)
        return sock
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise CarrierRefused("proxy-failed", f"the proxy {proxy} is not reached: {why}") from error


def through_proxy(proxy: ProxyAddress, host: str, port: int, timeout: float) -> socket.socket:
    """
    A connection to a host by a proxy.

    @raise CarrierRefused: why it gives none.
    """
    sock = _socket_to(proxy, timeout)
    try:
        talk = tunnel(proxy, host, port)
        more = next(talk)
        while True:
            if more:
                sock.sendall(more)
            data = sock.recv(_CHUNK)
            if not data:
                raise CarrierRefused("proxy-failed", f"the proxy {proxy} closed without an answer")
            more = talk.send(data)
    except StopIteration:
        return sock
    except TimeoutError as error:
        sock.close()
        raise CarrierRefused(
            "proxy-failed", f"the proxy {proxy} took the connection and did not answer in time"
        ) from error
    except BaseException:
        sock.close()
        raise


class _Plain(http.client.HTTPConnection):
    """To the proxy itself, which is sent whole URLs; through a tunnel, if it is a SOCKS proxy."""

    proxy: ProxyAddress

    def connect(self) -> None:
        timeout = float(self.timeout or 0)
        if self.proxy.kind is ProxyKind.SOCKS5:
            self.sock = through_proxy(self.proxy, self.host, self.port, timeout)
        else:
            self.sock = _socket_to(self.proxy, timeout)


class _Sealed(http.client.HTTPSConnection):
    """TLS to the authority in a tunnel."""

    proxy: ProxyAddress

    def connect(self) -> None:
        sock = through_proxy(self.proxy, self.host, self.port, float(self.timeout or 0))
        self.sock = ssl.create_default_context().wrap_socket(sock, server_hostname=self.host)


def connect_through(
    proxy: ProxyAddress, scheme: str, host: str, port: int, timeout: float
) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
    """
    A connection to the authority by a proxy, not made yet.

    @return: it, what stands before each target, and what each request says to the proxy.
    """
    if scheme == "https":
        sealed = _Sealed(host, port, timeout=timeout)
        sealed.proxy = proxy
        return sealed, "", {}
    plain = _Plain(host, port, timeout=timeout)
    plain.proxy = proxy
    if proxy.kind is ProxyKind.SOCKS5:
        return plain, "", {}
    place = f"[{host}]" if ":" in host else host
    headers = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}
    return plain, f"http://{place}:{port}", headers


def wants_credentials(proxy: ProxyAddress) -> CarrierRefused:
    """What is said when the proxy answers L{UNAUTHORIZED} itself."""
    given = proxy.credentials is not None
    why = "does not take the user and password it is given" if given else "wants a user and a password"
    return CarrierRefused("proxy-credentials", f"the proxy {proxy} {why} (407): see --proxy-credentials")
