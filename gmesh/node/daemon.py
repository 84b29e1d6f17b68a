# SPDX-License-Identifier: MIT
"""
The node as Twisted services: its start and clean stop, and what a reload does.

Tests: C{tests/node/test_tap.py}, C{tests/live/test_node_daemon.py}.
"""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from gmesh.errors import ConfigurationError, DocumentRefused
from gmesh.node.heartbeat import Heartbeat
from gmesh.node.identity_store import IdentityStore
from gmesh.node.membership import Membership
from gmesh.node.runtime import NodeRuntime

__all__ = ["NodeService", "Reload"]


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


class Reload:
    """Believes what an operator put into the state directory, and asks the authority for news now."""

    _log = Logger()

    def __init__(self, store: IdentityStore, member: Membership, heartbeat: Heartbeat) -> None:
        self._store = store
        self._member = member
        self._heartbeat = heartbeat

    def __call__(self) -> None:
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
