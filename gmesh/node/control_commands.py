# SPDX-License-Identifier: MIT
"""
What an operator may ask of a node: one function per command, registered by its decorator.

C{policy-update}, C{revoke-certificate} and C{revoke-node} carry a number and mean "hold at least
this now": the document itself comes as all documents come.
Tests: C{tests/node/test_control.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import LogLevel
from zope.interface import implementer

from gmesh.errors import GmeshError, RequestRefused
from gmesh.interfaces import IControlCommand
from gmesh.node.control_actions import CommandActions
from gmesh.node.limits import PING_REPORT_NODES
from gmesh.trust.documents import Anchor, Command
from gmesh.trust.limits import MAX_ANCHORS
from gmesh.trust.names import human_error
from gmesh.trust.transport_address import FORMS, read_address

__all__ = ["COMMANDS"]


Work = Callable[[dict[str, Any], CommandActions], Coroutine[Any, Any, str]]


@implementer(IControlCommand)
class _Command:
    def __init__(self, name: str, fields: dict[str, type], work: Work) -> None:
        self.name = name
        self._fields = fields
        self._work = work

    def run(self, request: Command, node: CommandActions) -> Deferred[str]:
        """@see: L{IControlCommand.run}"""
        for key, value in request.arguments.items():
            if key not in self._fields:
                raise RequestRefused("invalid-argument", f"{self.name} takes no argument {key}")
            if type(value) is not self._fields[key]:
                raise RequestRefused(
                    "invalid-argument", f"{key} of {self.name} must be {_NAMES[self._fields[key]]}"
                )
        return Deferred.fromCoroutine(self._work(request.arguments, node))


_NAMES = {int: "a number", str: "a text", list: "a list"}

COMMANDS: list[IControlCommand] = []
"""Every command this version knows."""


def _command(name: str, **fields: type) -> Callable[[Work], Work]:
    def register(work: Work) -> Work:
        COMMANDS.append(_Command(name, fields, work))
        return work

    return register


def _needed(arguments: dict[str, Any], name: str) -> Any:
    try:
        return arguments[name]
    except KeyError:
        raise RequestRefused("invalid-argument", f"the argument {name} is missing") from None


@_command("policy-update", version=int)
async def policy_update(arguments: dict[str, Any], node: CommandActions) -> str:
    """Hold at least this policy."""
    return f"policy {await node.held('policy', _needed(arguments, 'version'))}"


@_command("revoke-certificate", crl=int)
async def revoke_certificate(arguments: dict[str, Any], node: CommandActions) -> str:
    """Hold at least this CRL."""
    return f"crl {await node.held('crl', _needed(arguments, 'crl'))}"


@_command("revoke-node", crl=int)
async def revoke_node(arguments: dict[str, Any], node: CommandActions) -> str:
    """Hold at least this CRL."""
    return f"crl {await node.held('crl', _needed(arguments, 'crl'))}"


@_command("update-bootstrap", anchors=list)
async def update_bootstrap(arguments: dict[str, Any], node: CommandActions) -> str:
    """Dial these anchors, each {name, endpoint}, before those of the genesis until there is a newer one."""
    anchors = tuple(_anchor(item) for item in _needed(arguments, "anchors"))
    if not 0 < len(anchors) <= MAX_ANCHORS:
        raise RequestRefused("invalid-argument", f"there must be 1 to {MAX_ANCHORS} anchors")
    odd = sum(read_address(anchor.endpoint) is None for anchor in anchors)
    if odd == len(anchors):
        raise RequestRefused("not-dialable", f"none of the anchors is at an address that is dialled: {FORMS}")
    node.set_bootstrap(anchors)
    return f"{len(anchors)} anchors" + (f", {odd} of them at no address that is dialled" if odd else "")


@_command("shutdown")
async def shutdown(arguments: dict[str, Any], node: CommandActions) -> str:
    """End the daemon."""
    node.shutdown()
    return "stopping"


@_command("reload")
async def reload(arguments: dict[str, Any], node: CommandActions) -> str:
    """As on SIGHUP."""
    return await node.reload()


@_command("log-level", level=str)
async def log_level(arguments: dict[str, Any], node: CommandActions) -> str:
    """Log from this level on, until the next start."""
    name = _needed(arguments, "level")
    levels = {level.name: level for level in LogLevel.iterconstants()}
    if name not in levels:
        raise RequestRefused("invalid-argument", f"level must be one of {', '.join(levels)}")
    node.set_log_level(levels[name])
    return f"level {name}"


@_command("ping-report", nodes=list)
async def ping_report(arguments: dict[str, Any], node: CommandActions) -> str:
    """The round trips to these nodes, or to the direct neighbours."""
    names = arguments.get("nodes") or node.neighbours()
    if not all(isinstance(name, str) for name in names):
        raise RequestRefused("invalid-argument", "nodes must be names")
    names = names[:PING_REPORT_NODES]
    results = await DeferredList([node.ping(name) for name in names], consumeErrors=True)
    return ", ".join(
        f"{name} {_trip(good, value)}" for name, (good, value) in zip(names, results, strict=True)
    )


def _trip(good: bool, value: Any) -> str:
    if good:
        return f"{1000 * value:.1f} ms"
    return str(value.value.reason) if isinstance(value.value, GmeshError) else "failed"


def _anchor(item: Any) -> Anchor:
    try:
        return msgspec.convert(item, Anchor, strict=True)
    except msgspec.ValidationError as error:
        raise RequestRefused("invalid-argument", f"not an anchor: {human_error(error)}") from error
