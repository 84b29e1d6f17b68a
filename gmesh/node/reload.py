# SPDX-License-Identifier: MIT
"""
What a reload of the node does: SIGHUP, C{systemctl reload} and the command of that name.

Tests: C{tests/node/test_tap.py}, C{tests/node/test_reload.py}, C{tests/live/test_node_daemon.py}.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields, replace

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from gmesh.daemon.listen import ListenService
from gmesh.errors import ConfigurationError, DocumentRefused, GmeshError
from gmesh.node.api.access import AccessControl
from gmesh.node.configuration import Configuration
from gmesh.node.heartbeat import Heartbeat
from gmesh.node.identity_store import IdentityStore
from gmesh.node.runtime import NodeRuntime

__all__ = ["Follow", "Reload", "regroup"]


Follow = Callable[[Configuration], Awaitable[object] | object]


class Reload:
    """
    Believes what an operator put into the state directory, follows the configuration file, asks for news.

    Links stay as they are, except that peers no longer named are not dialled again.

    @param reread: the configuration as it is now.
    @param follow: for each setting, or several that belong together, what puts a new value into force; it
        raises L{ConfigurationError} and leaves the old one in force where that cannot be done, or gives a
        list of lines about the parts that could not, which the next reload tries again.  Settings without
        stay as they were at the start.
    @param renew: has listeners read their certificate files again, and says what went wrong.
    """

    _log = Logger()

    def __init__(
        self,
        store: IdentityStore,
        runtime: NodeRuntime,
        heartbeat: Heartbeat,
        configuration: Configuration,
        reread: Callable[[], Configuration],
        follow: Mapping[tuple[str, ...], Follow],
        renew: Callable[[], list[str]] = list,
    ) -> None:
        self._store = store
        self._runtime = runtime
        self._heartbeat = heartbeat
        self._in_force = configuration
        self._reread = reread
        self._follow = follow
        self._renew = renew

    def __call__(self) -> Deferred[str]:
        """Take over what can be taken over; what is bad is logged and left. @return: that, in words."""
        return Deferred.fromCoroutine(self._reload())

    async def _reload(self) -> str:
        self._log.info("reload: reading {directory}", directory=str(self._store.directory))
        try:
            new = self._reread()
            identity = self._store.load()
        except ConfigurationError as error:
            self._log.error("reload: {cause}", cause=error.detail)
            return f"nothing reloaded: {error.detail}"
        troubles = await self._configure(new)
        for trouble in self._renew():
            self._log.error("reload: {cause}", cause=trouble)
            troubles.append(trouble)
        member = self._runtime.member
        member.own_urls = identity.own_urls
        trust = member.trust
        for document in (*identity.genesis_chain, *identity.documents):
            if document.type == "genesis" and document.body.version <= trust.genesis.body.version:
                continue
            try:
                trust.offer(document, member.wall())
            except DocumentRefused as error:
                self._log.error("reload: {kind} refused: {cause}", kind=document.type, cause=error.detail)
                troubles.append(f"{document.type} refused: {error.detail}")
        try:
            member.follow_certificate(identity.certificate)
        except GmeshError as error:
            self._log.error("reload: {cause}", cause=error.detail)
            troubles.append(error.detail)
        self._heartbeat.soon()
        return "; ".join(["reloaded", *troubles])

    async def _configure(self, new: Configuration) -> list[str]:
        troubles = []
        for names, follow in self._follow.items():
            values = {name: getattr(new, name) for name in names}
            if all(getattr(self._in_force, name) == value for name, value in values.items()):
                continue
            try:
                done = follow(new)
                if isinstance(done, Awaitable):
                    done = await done
            except ConfigurationError as error:
                text = " and ".join(names)
                self._log.error("reload: {name} stays what it was: {cause}", name=text, cause=error.detail)
                troubles.append(f"{text} stays what it was: {error.detail}")
                continue
            if isinstance(done, list) and done:
                troubles += map(str, done)
                continue
            self._in_force = replace(self._in_force, **values)
        following = {name for names in self._follow for name in names}
        for name in (field.name for field in fields(Configuration)):
            if name not in following and getattr(new, name) != getattr(self._in_force, name):
                self._log.warn(
                    "reload: {name} stays what it was at the start: restart the node to change it", name=name
                )
                troubles.append(f"{name} takes a restart")
        return troubles


def regroup(access: AccessControl, socket: ListenService, new: Configuration) -> None:
    """
    Give the local API to the groups of this configuration.

    @raise ConfigurationError: when its socket cannot be given to them; all stays as it was.
    """
    fresh = AccessControl(new.read_group, new.write_group)
    socket.give(fresh.group)
    access.become(fresh)
