# SPDX-License-Identifier: MIT
"""
Listening on endpoint strings as a service: a port that cannot be had ends the daemon with one line.

Tests: C{tests/daemon/test_listen.py}, C{tests/live/test_node_service.py}.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from OpenSSL import SSL
from twisted.application.service import MultiService, Service
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, DeferredLock, maybeDeferred
from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    TCP4ServerEndpoint,
    UNIXServerEndpoint,
    serverFromString,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from gmesh.daemon.tls_files import TlsFiles, allow_resumption
from gmesh.errors import ConfigurationError

__all__ = ["ListenService", "Listeners", "describe_address", "parse_server", "renew_certificates"]

#: What Twisted calls a UNIX socket whose owner lives.
UNIX_LOCK_TAKEN = "Cannot acquire lock"
#: How an endpoint string begins that names a socket which somebody else made.
GIVEN = "systemd:"
#: How one begins that has a proxy in front which speaks the PROXY protocol, version 1 or 2.
PROXIED = "haproxy:"
#: Bytes of a path: sun_path of unix(7), its last byte a zero.
UNIX_PATH = 107


def parse_server(reactor: Any, text: str, tls: Callable[..., Any] = TLSMemoryBIOFactory) -> Any:
    """
    The server endpoint that C{text} names.

    @param tls: puts TLS under the protocols of a factory, given what C{TLSMemoryBIOFactory} is.
    @raise ConfigurationError: with the text and what is wrong with it.
    """
    if text.startswith(PROXIED):
        inner = parse_server(reactor, text.removeprefix(PROXIED), tls)
        if isinstance(inner, TlsServerEndpoint):
            inner.proxied = True
            return inner
    try:
        endpoint = serverFromString(reactor, _for_twisted(text))
    except Exception as error:  # endpoint plugins raise what they like on a bad string
        given = text.startswith(GIVEN) and isinstance(error, IndexError | KeyError)
        cause = "the service manager passed no such socket" if given else error
        raise ConfigurationError(
            "bad-endpoint", f"{text!r} is not an endpoint to listen on: {cause}"
        ) from error
    if isinstance(endpoint, SSL4ServerEndpoint):
        allow_resumption(endpoint)
        endpoint = TlsServerEndpoint(endpoint, tls)
    if isinstance(endpoint, UNIXServerEndpoint) and len(os.fsencode(endpoint._address)) > UNIX_PATH:
        raise ConfigurationError(
            "bad-endpoint",
            f"{text!r}: the path of a unix socket has at most {UNIX_PATH} bytes: name a shorter one",
        )
    return endpoint


def _for_twisted(text: str) -> str:
    """C{tls:} is what addresses call it, C{ssl:} what Twisted does."""
    return f"ssl:{text.removeprefix('tls:')}" if text.startswith("tls:") else text


class TlsServerEndpoint(SSL4ServerEndpoint):
    """
    TLS of which the caller says what does it.

    @param parsed: Twisted's own of the same string.
    @param tls: as of L{parse_server}.
    @ivar proxied: behind a proxy that says first, outside TLS, whose connection it is: as HAProxy does.
    """

    def __init__(self, parsed: SSL4ServerEndpoint, tls: Callable[..., Any]) -> None:
        super().__init__(
            parsed._reactor, parsed._port, parsed._sslContextFactory, parsed._backlog, parsed._interface
        )
        self._tls = tls
        self.proxied = False

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """@see: C{IStreamServerEndpoint.listen}"""
        within = self._tls(self._sslContextFactory, False, protocolFactory)
        if self.proxied:
            from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory

            within = HAProxyWrappingFactory(within)
        listening: Deferred[IListeningPort] = TCP4ServerEndpoint(
            self._reactor, self._port, self._backlog, self._interface
        ).listen(within)
        return listening


def _innermost(endpoint: Any) -> Any:
    """The endpoint that others stand around, each with C{inner}."""
    while hasattr(endpoint, "inner"):
        endpoint = endpoint.inner
    return endpoint


def describe_address(address: IAddress) -> str:
    """An address as it stands in the log: C{tcp:7443}, C{unix:/run/gmesh-node/node.sock}."""
    if isinstance(address, (IPv4Address, IPv6Address)):
        return f"{address.type.lower()}:{address.port}"
    if isinstance(address, UNIXAddress) and address.name is not None:
        return f"unix:{address.name.decode('utf-8', 'replace')}"
    return str(address)


class ListenService(Service):
    """
    Listens from before privileges are dropped until the daemon stops.

    @param text: an endpoint string.
    @param purpose: what the log calls it: C{listening}, C{metrics} or C{local API}.
    @param unit: the daemon, for the line it ends with.
    @param group: the group that shall own a unix socket made here; None leaves it as it is.
    @param parse: makes the endpoint of its string: L{parse_server}, if not given.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        text: str,
        factory: IProtocolFactory,
        purpose: str,
        unit: str,
        group: int | None = None,
        parse: Callable[[Any, str], Any] | None = None,
    ) -> None:
        self._parse = parse or parse_server
        self._endpoint = self._parse(reactor, text)
        innermost = _innermost(self._endpoint)
        self._tls = TlsFiles(innermost) if isinstance(innermost, SSL4ServerEndpoint) else None
        self._text = text
        self._factory = factory
        self._purpose = purpose
        self._unit = unit
        self._group = group
        self._reactor = reactor
        self._opening: Deferred[Any] | None = None
        self._port: IListeningPort | None = None

    @property
    def address(self) -> IAddress | None:
        """Where it listens; None while it does not."""
        return None if self._port is None else self._port.getHost()

    def open(self) -> Deferred[None]:
        """Listen from now on; fails with a L{ConfigurationError} when the port cannot be had."""
        self._opening = maybeDeferred(self._endpoint.listen, self._factory)
        self._opening.addErrback(self._over_a_dead_socket)
        self._opening.addCallback(self._listening)
        self._opening.addErrback(self._refused)
        return self._opening

    def privilegedStartService(self) -> None:
        """@raise SystemExit: with one line, when the port cannot be had."""
        if self._opening is not None:
            return
        failures: list[Failure] = []
        opening = self.open()
        opening.addErrback(failures.append)
        if failures:
            raise SystemExit(f"{self._unit}: {_detail(failures[0])}")
        opening.addCallback(lambda _: self._late(failures))

    def give(self, group: int | None) -> None:
        """
        Let the unix socket made here belong to this group; None gives it back to the daemon's own.

        @raise ConfigurationError: when this process may not give it away; it stays whose it was.
        """
        path = self._made_here()
        if path is not None:
            _give(path, os.getegid() if group is None else group)
        self._group = group

    def renew(self) -> None:
        """
        Serve the certificate that its files hold now, where the endpoint has some.

        @raise ConfigurationError: if they cannot be used; what was served is served on.
        """
        if self._tls is None:
            return
        try:
            self._tls.take(_innermost(self._parse(self._reactor, self._text)))
        except (ConfigurationError, SSL.Error) as error:
            raise ConfigurationError(
                "bad-certificate", f"{self._text} goes on with the certificate it has: {_cause(error)}"
            ) from error
        self._log.info("{purpose}: certificate files of {text} read", purpose=self._purpose, text=self._text)

    def startService(self) -> None:
        """Open the port now, if no privileged start came before."""
        super().startService()
        if self._opening is None:
            self.privilegedStartService()

    def stopService(self) -> Deferred[Any]:
        """Close the port."""
        super().stopService()
        opening, self._opening = self._opening, None
        port, self._port = self._port, None
        if port is not None:
            return maybeDeferred(port.stopListening)
        if opening is not None:
            opening.cancel()
        return maybeDeferred(lambda: None)

    def _listening(self, port: IListeningPort) -> None:
        self._port = port
        if self._group is not None:
            self.give(self._group)
        address = describe_address(port.getHost())
        self._log.info("{purpose} on {address}", purpose=self._purpose, address=address)

    def _made_here(self) -> bytes | None:
        """The path of the open unix socket, unless somebody else made it."""
        address = None if self._port is None else self._port.getHost()
        given = self._text.startswith(GIVEN)
        return address.name if isinstance(address, UNIXAddress) and not given else None

    def _refused(self, failure: Failure) -> Any:
        raise ConfigurationError(
            "no-port", f"cannot listen on {self._text}: {_cause(failure.value)}"
        ) from failure.value

    def _over_a_dead_socket(self, failure: Failure) -> Any:
        """
        Listen where a daemon was killed, though another process has its number by now.

        Twisted's lock of a socket names a process, which says nothing after a restart of the host: whether
        somebody answers does.
        """
        error = failure.value
        if not isinstance(error, CannotListenError) or error.socketError != UNIX_LOCK_TAKEN:
            return failure
        path = os.fsdecode(error.port)
        if _answers(path):
            return failure
        with suppress(FileNotFoundError):
            os.unlink(f"{path}.lock")
        with suppress(FileNotFoundError):
            os.unlink(path)
        return self._endpoint.listen(self._factory)

    def _late(self, failures: list[Failure]) -> None:
        if failures and self.running:
            self._log.critical("{cause}", cause=_detail(failures[0]))
            self._reactor.stop()


class Listeners(MultiService):
    """
    One L{ListenService} for each endpoint string.

    Those of one purpose may be others after a reload; connections that were taken stay.

    @param factory: makes what serves a port.
    @param purpose: what the log calls it.
    @param unit: the daemon, for the line it ends with.
    @param parse: as of L{ListenService}.
    @param group: as of L{ListenService}.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        factory: Callable[[], IProtocolFactory],
        purpose: str,
        unit: str,
        endpoints: Iterable[str],
        parse: Callable[[Any, str], Any] | None = None,
        group: int | None = None,
    ) -> None:
        super().__init__()
        self._parse = parse
        self._group = group
        self._reactor = reactor
        self._factory = factory
        self._purpose = purpose
        self._unit = unit
        self._lock = DeferredLock()
        self._ports: dict[str, ListenService] = {}
        for text in dict.fromkeys(endpoints):
            self._keep(text, self._made(text))

    def give(self, group: int | None) -> None:
        """
        Let the unix sockets made here, and those to come, belong to this group, as L{ListenService.give}.

        @raise ConfigurationError: when this process may not give one away.
        """
        for port in self._ports.values():
            port.give(group)
        self._group = group

    def addresses(self) -> list[IAddress]:
        """Where they listen."""
        return [port.address for port in self._ports.values() if port.address is not None]

    async def follow(self, endpoints: Iterable[str]) -> None:
        """
        Listen on these alone: ports no longer named close before new ones open, which may be the same port.

        @raise ConfigurationError: when one cannot be had; all are as they were then.
        """
        await self._lock.acquire()
        try:
            await self._follow(tuple(dict.fromkeys(endpoints)))
        finally:
            self._lock.release()

    async def _follow(self, endpoints: tuple[str, ...]) -> None:
        added = {text: self._made(text) for text in endpoints if text not in self._ports}
        removed = [text for text in self._ports if text not in endpoints]
        for text in removed:
            await self._close(text)
        try:
            for text, service in added.items():
                await service.open()
                self._keep(text, service)
        except ConfigurationError:
            for text in added.keys() & self._ports.keys():
                await self._close(text)
            for text in removed:
                await self._reopen(text)
            raise

    async def _reopen(self, text: str) -> None:
        service = self._made(text)
        try:
            await service.open()
        except ConfigurationError as error:
            self._log.error("{purpose}: {cause}", purpose=self._purpose, cause=error.detail)
        self._keep(text, service)

    async def _close(self, text: str) -> None:
        await self._ports.pop(text).disownServiceParent()
        self._log.info("{purpose} no more on {endpoint}", purpose=self._purpose, endpoint=text)

    def _made(self, text: str) -> ListenService:
        made = self._factory()
        return ListenService(self._reactor, text, made, self._purpose, self._unit, self._group, self._parse)

    def _keep(self, text: str, service: ListenService) -> None:
        service.setServiceParent(self)
        self._ports[text] = service


def renew_certificates(service: MultiService) -> list[str]:
    """Have every listener below C{service} read its certificate files again. @return: what went wrong."""
    wrong = []
    for each in service:
        if isinstance(each, MultiService):
            wrong += renew_certificates(each)
        elif isinstance(each, ListenService):
            try:
                each.renew()
            except ConfigurationError as error:
                wrong.append(error.detail)
    return wrong


def _give(path: bytes, group: int) -> None:
    """@raise ConfigurationError: when this process may not give the socket away."""
    if os.stat(path).st_gid == group:
        return
    try:
        os.chown(path, -1, group)
    except OSError as error:
        raise ConfigurationError(
            "no-group",
            f"the socket cannot be given to group {group} ({error.strerror}): start with that group",
        ) from error


def _answers(path: str) -> bool:
    """Whether a process listens on this unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # its queue is full, or it is not ours to ask: somebody is there
    return True


def _detail(failure: Failure) -> str:
    error = failure.value
    return error.detail if isinstance(error, ConfigurationError) else str(error)


def _cause(error: BaseException | None) -> str:
    if isinstance(error, ConfigurationError):
        return error.detail
    if isinstance(error, CannotListenError):
        inner = error.socketError
        if inner == UNIX_LOCK_TAKEN:
            return "another process listens there"
        return str(getattr(inner, "strerror", None) or inner)
    return str(error)
