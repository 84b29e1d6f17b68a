# SPDX-License-Identifier: MIT
"""
The node as Twisted services: its start and clean stop, and SIGHUP.

Tests: C{tests/node/test_daemon.py}.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from gmesh.errors import ConfigurationError, DocumentRefused
from gmesh.node.heartbeat import Heartbeat
from gmesh.node.identity_store import IdentityStore
from gmesh.node.membership import Membership
from gmesh.node.runtime import NodeRuntime

__all__ = ["NodeService", "ReloadService"]


class NodeService(Service):
    """Starts and stops a L{NodeRuntime} with the daemon."""

    def __init__(self, runtime: NodeRuntime) -> None:
        self._runtime = runtime

    def startService(self) -> None:
        """Begin to dial and to route."""
        super().startService()
        self._runtime.start()

    def stopService(self) -> Deferred[None]:
        """Tell the neighbours, drain, close."""
        super().stopService()
        return self._runtime.stop()


class ReloadService(Service):
    """
    SIGHUP: believe what an operator put into the state directory, and ask the authority for news now.

    The handler only wakes the reactor; the work is done in a turn of its own.
    """

    _log = Logger()

    def __init__(self, reactor: Any, store: IdentityStore, member: Membership, heartbeat: Heartbeat) -> None:
        self._reactor = reactor
        self._store = store
        self._member = member
        self._heartbeat = heartbeat
        self._before: Any = None

    def startService(self) -> None:
        """Take the signal over."""
        super().startService()
        self._before = signal.signal(signal.SIGHUP, self._signalled)

    def stopService(self) -> None:
        """Give it back."""
        super().stopService()
        signal.signal(signal.SIGHUP, self._before)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self.reload)

    def reload(self) -> None:
        """Offer the documents of the directory to the trust layer; a bad one is told and left."""
        self._log.info("reload: reading {directory}", directory=str(self._store.directory))
        try:
            identity = self._store.load()
        except ConfigurationError as error:
            self._log.error("reload: {cause}", cause=error.detail)
            return
        trust = self._member.trust
        for document in (*identity.genesis_chain, *identity.documents):
            if document.type == "genesis" and document.body.version <= trust.genesis.body.version:
                continue
            try:
                trust.offer(document, self._member.wall())
            except DocumentRefused as error:
                self._log.error("reload: {kind} refused: {cause}", kind=document.type, cause=error.detail)
        self._heartbeat.soon()
