# SPDX-License-Identifier: MIT
"""
The node as Twisted services: its start and clean stop, and what a reload does.

Tests: C{tests/node/test_tap.py}, C{tests/live/test_node_daemon.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from gmesh.errors import ConfigurationError, DocumentRefused
from gmesh.node.configuration import Configuration
from gmesh.node.heartbeat import Heartbeat
from gmesh.node.identity_store import IdentityStore
from gmesh.node.log_level import LogLevelService, parse_level
from gmesh.node.runtime import NodeRuntime
from gmesh.statelock import StateLock

__all__ = ["LockService", "NodeService", "Reload"]

AT_START = ("state", "listen", "control", "log_format", "read_group", "write_group", "metrics", "stub")
"""Settings that a reload leaves as they are."""


class LockService(Service):
    """One daemon a state directory: two with one identity would fight over every link."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock: StateLock | None = None

    def privilegedStartService(self) -> None:
        """@raise SystemExit: with one line, when another daemon works there."""
        try:
            self._lock = StateLock(self._directory, "gmesh-node")
        except ConfigurationError as error:
            raise SystemExit(f"gmesh-node: {error.detail}") from error

    def startService(self) -> None:
        """Take the lock now, if no privileged start came before."""
        super().startService()
        if self._lock is None:
            self.privilegedStartService()

    def stopService(self) -> None:
        """Let others in."""
        super().stopService()
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()


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
    """
    Believes what an operator put into the state directory, follows the configuration file, asks for news.

    Links stay as they are, except that peers no longer named are not dialled again.

    @param reread: the configuration as it is now.
    """

    _log = Logger()

    def __init__(
        self,
        store: IdentityStore,
        runtime: NodeRuntime,
        heartbeat: Heartbeat,
        levels: LogLevelService,
        configuration: Configuration,
        reread: Callable[[], Configuration],
    ) -> None:
        self._store = store
        self._runtime = runtime
        self._heartbeat = heartbeat
        self._levels = levels
        self._configuration = self._started_with = configuration
        self._reread = reread

    def __call__(self) -> None:
        """Take over what can be taken over; what is bad is told and left."""
        self._log.info("reload: reading {directory}", directory=str(self._store.directory))
        try:
            self._configure(self._reread())
            identity = self._store.load()
        except ConfigurationError as error:
            self._log.error("reload: {cause}", cause=error.detail)
            return
        trust = self._runtime.member.trust
        for document in (*identity.genesis_chain, *identity.documents):
            if document.type == "genesis" and document.body.version <= trust.genesis.body.version:
                continue
            try:
                trust.offer(document, self._runtime.member.wall())
            except DocumentRefused as error:
                self._log.error("reload: {kind} refused: {cause}", kind=document.type, cause=error.detail)
        self._heartbeat.soon()

    def _configure(self, new: Configuration) -> None:
        old, self._configuration = self._configuration, new
        if new.peer != old.peer:
            self._runtime.set_peers(new.peer)
        if new.advertise != old.advertise:
            self._runtime.set_advertised(new.advertise)
        if new.log_level != old.log_level:
            self._levels.set(parse_level(new.log_level or "debug"))
        for name in AT_START:
            if getattr(new, name) != getattr(self._started_with, name):
                self._log.warn(
                    "reload: {name} stays what it was at the start: restart the node to change it", name=name
                )
