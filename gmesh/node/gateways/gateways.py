# SPDX-License-Identifier: MIT
"""
All gateways of a node, composed: what programs serve and use that know nothing of the mesh.

Tests: C{tests/node/gateways/test_gateways.py}, C{tests/live/test_streams_by_programs.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress

from gmesh.daemon.listen import Listeners
from gmesh.interfaces import IStreams
from gmesh.node.api.access import AccessControl, Permission, peer_credentials
from gmesh.node.configuration import Configuration

if TYPE_CHECKING:
    from gmesh.node.gateways.exposures import Exposures
    from gmesh.node.gateways.forwards import Forwards
    from gmesh.node.gateways.proxy import ProxyFactory
    from gmesh.streams.join import TransportJoin

__all__ = ["Gateways"]


class Gateways(MultiService):
    """
    Exposures, forwards and the proxy, as the configuration says.

    Those that nobody asks for are not made: a node without can spare the memory.

    @param unit: the daemon, for the log.
    @param ids: of the network and of this node, hex.
    @param access: who may dial through a unix socket of the proxy.
    @param doors: where the local API listens, which is never the target of an exposure.
    @param count: counts a cause.
    """

    def __init__(
        self,
        reactor: Any,
        streams: IStreams,
        unit: str,
        ids: tuple[str, str],
        configuration: Configuration,
        access: AccessControl,
        doors: Callable[[], Iterable[IAddress]] = tuple,
        count: Callable[[str], object] = lambda cause: None,
    ) -> None:
        super().__init__()
        self._access = access
        self._anyone = configuration.proxy.anyone
        proxied: set[TransportJoin] = set()

        def proxy() -> ProxyFactory:
            from gmesh.node.gateways.proxy import ProxyFactory

            return ProxyFactory(reactor, streams, self._admit, lambda: self._anyone, proxied, count)

        listen = configuration.proxy.listen
        self.proxy = Listeners(reactor, proxy, "proxy", unit, listen, group=access.group)
        self.proxy.setServiceParent(self)
        self._reactor, self._streams, self._unit, self._ids = reactor, streams, unit, ids
        self._doors, self._count = doors, count
        self._first = configuration
        if configuration.forward:
            _ = self.forwards
        if configuration.expose:
            _ = self.exposures

    @cached_property
    def forwards(self) -> Forwards:
        """Made with the first that is asked for."""
        from gmesh.node.gateways.forwards import Forwards

        made = Forwards(self._reactor, self._streams, self._unit, self._first.forward, self._count)
        made.setServiceParent(self)
        return made

    @cached_property
    def exposures(self) -> Exposures:
        """Made with the first that is asked for."""
        from gmesh.node.gateways.exposures import Exposures

        made = Exposures(self._reactor, self._streams, *self._ids, self._own, self._first.expose)
        made.setServiceParent(self)
        return made

    def _own(self) -> list[IAddress]:
        return [*self._doors(), *self.proxy.addresses()]

    def follows(self) -> Mapping[tuple[str, ...], Callable[[Configuration], Any]]:
        """What a reload of each setting does: see L{gmesh.node.reload.Reload}."""
        return {
            ("expose",): lambda new: self.exposures.follow(new.expose),
            ("forward",): lambda new: self.forwards.follow(new.forward),
            ("proxy",): self._follow_proxy,
        }

    async def _follow_proxy(self, new: Configuration) -> None:
        await self.proxy.follow(new.proxy.listen)
        self._anyone = new.proxy.anyone

    def _admit(self, transport: Any) -> None:
        """@raise RequestRefused: if whoever is at the other end of a unix socket may not dial."""
        if isinstance(transport.getHost(), UNIXAddress):
            self._access.admit(peer_credentials(transport), Permission.WRITE)
