# SPDX-License-Identifier: MIT
"""
The ports of one purpose, which may be others after a reload; connections that were taken stay.

Tests: C{tests/node/test_reload.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import Logger

from gmesh.errors import ConfigurationError
from gmesh.node.listen import ListenService

__all__ = ["Listeners"]


class Listeners(MultiService):
    """
    One L{ListenService} for each endpoint string.

    @param factory: makes what serves a port.
    @param purpose: what the log calls it.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, factory: Callable[[], IProtocolFactory], purpose: str, endpoints: Iterable[str]
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._factory = factory
        self._purpose = purpose
        self._lock = DeferredLock()
        self._ports: dict[str, ListenService] = {}
        for text in dict.fromkeys(endpoints):
            self._keep(text, self._made(text))

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
        return ListenService(self._reactor, text, self._factory(), self._purpose)

    def _keep(self, text: str, service: ListenService) -> None:
        service.setServiceParent(self)
        self._ports[text] = service
