# SPDX-License-Identifier: MIT
"""
Services of this node that other programs serve: each stream to one is joined to a connection to its target.

The target is connected before the stream is accepted, so that whoever dials hears at once that it is dead.
Where it is stands in the log of this host alone.
Tests: C{tests/node/gateways/test_exposures.py}, C{tests/live/test_streams_by_programs.py}.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Any

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint
from twisted.internet.error import ConnectingCancelledError, ConnectionRefusedError
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.logger import Logger

from gmesh.client.one_shot import connect_once
from gmesh.errors import ConfigurationError, RequestRefused
from gmesh.interfaces import IStreamOffer, IStreams
from gmesh.mesh.spaced_log import SpacedLog
from gmesh.node.gateways.proxy_header import proxy_header
from gmesh.node.gateways.settings import Exposure, Target
from gmesh.stream_errors import StreamCode
from gmesh.streams.join import TransportJoin
from gmesh.streams.listeners import no_such_service

__all__ = ["Exposed", "Exposures", "is_own", "target_endpoint"]

_HIDDEN = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")  # named, not used
"""What the service manager may hide from the daemon: ProtectHome and PrivateTmp of systemd.exec(5)."""


class Exposed:
    """
    One exposure that is in force.

    @ivar exposure: what it is.
    @ivar lasting: it stands in the configuration file.
    @ivar joins: its streams.
    @ivar removed: fires with None once it is no more.
    @ivar ended_by: why it is no more, if its program may not have it.
    """

    def __init__(self, exposure: Exposure, lasting: bool) -> None:
        self.exposure = exposure
        self.lasting = lasting
        self.joins: set[TransportJoin] = set()
        self.listening: Any = None
        self.removed: Deferred[None] = Deferred()
        self.ended_by = ""

    def row(self) -> dict[str, Any]:
        """For programs of this host."""
        exposure = self.exposure
        return {
            "service": exposure.service,
            "to": str(exposure.to),
            "proxy_protocol": exposure.proxy_protocol,
            "connect_timeout": exposure.connect_timeout,
            "lasting": self.lasting,
            "open": len(self.joins),
        }


class Exposures(Service):
    """
    All of them.

    @param network_id: hex, for the PROXY header.
    @param own_id: the node id of this node, hex.
    @param own: the addresses of the daemon's own doors, which are never a target.
    @param exposures: what the configuration file says at the start.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        streams: IStreams,
        network_id: str,
        own_id: str,
        own: Callable[[], Iterable[IAddress]] = tuple,
        exposures: Iterable[Exposure] = (),
    ) -> None:
        self._reactor = reactor
        self._streams = streams
        self._network_id = network_id
        self._own_id = own_id
        self._own = own
        self._asked = tuple(exposures)
        self._exposed: dict[str, Exposed] = {}
        self._lines = SpacedLog()

    def startService(self) -> None:
        """Expose what the file says; what cannot be is one line."""
        super().startService()
        self.follow(self._asked)

    def stopService(self) -> None:
        """Expose nothing, and break what is joined."""
        super().stopService()
        for exposed in list(self._exposed.values()):
            self._remove(exposed)
            for join in list(exposed.joins):
                join.abort()

    def follow(self, exposures: Iterable[Exposure]) -> list[str]:
        """
        Expose these as the configuration file says now; streams that are open stay.

        @return: what cannot be exposed, one line each; the others are.
        """
        wanted, troubles = tuple(exposures), []
        for exposed in [each for each in self._exposed.values() if each.lasting]:
            if exposed.exposure not in wanted:
                self._remove(exposed)
        there = [each.exposure for each in self._exposed.values() if each.lasting]
        for exposure in wanted:
            try:
                if exposure not in there:
                    self._add(exposure, lasting=True)
            except ConfigurationError as error:
                troubles.append(f"{exposure.service} is not exposed: {error.detail}")
                self._log.error("{cause}", cause=troubles[-1])
        return troubles

    def add(self, exposure: Exposure) -> Exposed:
        """
        Expose this too, until it is removed.

        @raise ConfigurationError: if it cannot be.
        """
        return self._add(exposure, lasting=False)

    def find(self, service: str) -> Exposed:
        """@raise RequestRefused: C{no-such-service}, if it is not exposed."""
        exposed = self._exposed.get(service)
        if exposed is None:
            raise RequestRefused("no-such-service", f"{service[:64]!r} is not exposed here")
        return exposed

    def remove(self, exposed: Exposed) -> None:
        """Expose it no more; its streams stay. May be called twice."""
        if self._exposed.get(exposed.exposure.service) is exposed:
            self._remove(exposed)

    def rows(self) -> list[dict[str, Any]]:
        """What is exposed, by name."""
        return [self._exposed[service].row() for service in sorted(self._exposed)]

    def _add(self, exposure: Exposure, lasting: bool) -> Exposed:
        if exposure.to.path and self._is_own_path(exposure.to.path):
            raise ConfigurationError("bad-target", f"{exposure.to} is a door of this daemon")
        exposed = Exposed(exposure, lasting)
        exposed.listening = self._streams.listen(exposure.service, lambda offer: self._take(exposed, offer))
        self._exposed[exposure.service] = exposed
        self._log.info("exposing {target} as {service}", target=str(exposure.to), service=exposure.service)
        return exposed

    def _remove(self, exposed: Exposed) -> None:
        del self._exposed[exposed.exposure.service]
        exposed.listening.stopListening()
        exposed.removed.callback(None)
        self._log.info("no longer exposing {service}", service=exposed.exposure.service)

    def _take(self, exposed: Exposed, offer: IStreamOffer) -> None:
        opening = Deferred.fromCoroutine(self._open(exposed, offer))
        offer.gone.addCallback(lambda _: opening.cancel())

    async def _open(self, exposed: Exposed, offer: IStreamOffer) -> None:
        exposure = exposed.exposure
        join = TransportJoin(self._reactor, lambda: exposed.joins.discard(join), f"exposure of {exposure.to}")
        try:
            if exposure.to.path and self._is_own_path(exposure.to.path):
                raise ConfigurationError("bad-target", "it is a door of this daemon")
            endpoint = target_endpoint(self._reactor, exposure.to, exposure.connect_timeout)
            await connect_once(endpoint, join.far)
            if is_own(join.far.transport, self._own()):
                join.abort()
                raise ConfigurationError("bad-target", "it is a door of this daemon")
        except (CancelledError, ConnectingCancelledError):
            return  # whoever dialled has gone
        except Exception as error:
            offer.refuse(self._dead(exposure, error), f"the service {exposure.service} does not answer")
            return
        if self._exposed.get(exposure.service) is not exposed:  # since this began
            join.abort()
            offer.refuse(*no_such_service(exposure.service))
            return
        exposed.joins.add(join)
        if exposure.proxy_protocol:
            join.far.transport.write(proxy_header(self._network_id, offer.peer, self._own_id))
        if not offer.accept(join.near):
            join.abort()

    def _dead(self, exposure: Exposure, error: Exception) -> str:
        """Say in the log why a target takes no connection. @return: the slug for who dialled."""
        cause = error.detail if isinstance(error, ConfigurationError) else str(error)
        if exposure.to.path.startswith(_HIDDEN):
            cause += " (the unit of the daemon may hide it: ProtectHome, PrivateTmp)"
        self._lines.write(
            self._log.warn,
            self._reactor.seconds(),
            "target",
            exposure.service,
            "{service} is exposed, but {target} takes no connection: {cause}",
            service=exposure.service,
            target=str(exposure.to),
            cause=cause,
        )
        refused = exposure.to.path or isinstance(error, ConnectionRefusedError | ConfigurationError)
        return (StreamCode.REFUSED if refused else StreamCode.UNREACHABLE).slug

    def _is_own_path(self, path: str) -> bool:
        for address in self._own():
            if isinstance(address, UNIXAddress) and address.name is not None and _same(path, address.name):
                return True
        return False


def target_endpoint(reactor: Any, target: Target, timeout: float) -> IStreamClientEndpoint:
    """
    How to connect to a target.

    @param timeout: seconds that it has to take the connection.
    """
    if target.path:
        path: IStreamClientEndpoint = UNIXClientEndpoint(reactor, target.path, timeout=timeout)
        return path
    if "%" in target.host:  # which a resolver would drop, and with it the interface
        zoned: IStreamClientEndpoint = TCP6ClientEndpoint(reactor, target.host, target.port, timeout=timeout)
        return zoned
    host: IStreamClientEndpoint = HostnameEndpoint(reactor, target.host, target.port, timeout=timeout)
    return host


def is_own(transport: Any, own: Iterable[IAddress]) -> bool:
    """Whether this connection of ours leads to a TCP port of ours, whatever its host was called."""
    there, here = transport.getPeer(), transport.getHost()
    if not isinstance(there, IPv4Address | IPv6Address):
        return False
    # The kernel connects to an address of this host from the same, or from another of loopback.
    local = there.host == here.host or ip_address(there.host.partition("%")[0]).is_loopback
    ports = {address.port for address in own if isinstance(address, IPv4Address | IPv6Address)}
    return local and there.port in ports


def _same(path: str, name: bytes) -> bool:
    try:
        return os.path.samefile(path, name)
    except OSError:
        return os.path.realpath(path) == os.path.realpath(os.fsdecode(name))
