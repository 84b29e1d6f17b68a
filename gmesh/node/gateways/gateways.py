# SPDX-License-Identifier: MIT
"""
All gateways of a node, composed: what programs serve and use that know nothing of the mesh.

Tests: C{tests/node/gateways/test_gateways.py}, C{tests/live/test_streams_by_programs.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress

from gmesh.daemon.listen import Listeners
from gmesh.interfaces import IStreams
from gmesh.node.api.access import AccessControl, Permission, peer_credentials
from gmesh.node.configuration import Configuration
from gmesh.node.gateways.exposures import Exposures
from gmesh.node.gateways.forwards import Forwards

if TYPE_CHECKING:
    from gmesh.node.gateways.proxy import ProxyFactory
    from gmesh.streams.join import TransportJoin

__all__ = ["Gateways"]


class Gateways(MultiService):
    """
    Exposures, forwards and the proxy, as the configuration says.

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
            from gmesh.node.gateways.proxy import ProxyFactory  # whose memory a node without can spare

            return ProxyFactory(reactor, streams, self._admit, lambda: self._anyone, proxied, count)

        listen = configuration.proxy.listen
        self.proxy = Listeners(reactor, proxy, "proxy", unit, listen, group=access.group)
        self.forwards = Forwards(reactor, streams, unit, configuration.forward, count)
        self.exposures = Exposures(
            reactor, streams, *ids, lambda: [*doors(), *self.proxy.addresses()], configuration.expose
        )
        for service in (self.proxy, self.forwards, self.exposures):
            service.setServiceParent(self)

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
