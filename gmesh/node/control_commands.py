# SPDX-License-Identifier: MIT
"""
What an operator may ask of a node: one function per command, registered by its decorator.

C{policy-update}, C{revoke-certificate} and C{revoke-node} carry a number and mean "hold at least
this now": the document itself comes as all documents come.
Tests: C{tests/node/test_control.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Coroutine, Sequence
from difflib import get_close_matches
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

__all__ = ["COMMANDS", "check_arguments"]


Work = Callable[[dict[str, Any], CommandActions], Coroutine[Any, Any, str]]
Check = Callable[[dict[str, Any]], object]


@implementer(IControlCommand)
class _Command:
    def __init__(
        self, name: str, fields: dict[str, type], optional: Container[str], check: Check, work: Work
    ) -> None:
        self.name = name
        self._fields = fields
        self._optional = optional
        self._check = check
        self._work = work

    def check(self, arguments: dict[str, Any]) -> None:
        """@raise RequestRefused: for arguments that no node of this version obeys."""
        for key, value in arguments.items():
            if key not in self._fields:
                raise RequestRefused("invalid-argument", f"{self.name} takes no argument {key}")
            if type(value) is not self._fields[key]:
                raise RequestRefused(
                    "invalid-argument", f"{key} of {self.name} must be {_NAMES[self._fields[key]]}"
                )
        for key in self._fields:
            if key not in arguments and key not in self._optional:
                raise RequestRefused("invalid-argument", f"the argument {key} is missing")
        self._check(arguments)

    def run(self, request: Command, node: CommandActions) -> Deferred[str]:
        """@see: L{IControlCommand.run}"""
        self.check(request.arguments)
        return Deferred.fromCoroutine(self._work(request.arguments, node))


_NAMES = {int: "a number", str: "a text", list: "a list"}

_OWN: list[_Command] = []


def check_arguments(name: str, arguments: dict[str, Any]) -> str | None:
    """
    Judge a command before it is signed, as the nodes will.

    @return: None; of a command that is not one of these, and may be an application's, the nearest of
        these, or the empty string if none resembles it.
    @raise RequestRefused: for arguments that no node of this version obeys.
    """
    known = {command.name: command for command in _OWN}
    if name in known:
        known[name].check(arguments)
        return None
    return next(iter(get_close_matches(name, known)), "")


def _nothing(arguments: dict[str, Any]) -> None:
    """The types say all."""


def _command(
    name: str, check: Check = _nothing, optional: Container[str] = (), **fields: type
) -> Callable[[Work], Work]:
    def register(work: Work) -> Work:
        _OWN.append(_Command(name, fields, optional, check, work))
        return work

    return register


@_command("policy-update", version=int)
async def policy_update(arguments: dict[str, Any], node: CommandActions) -> str:
    """Hold at least this policy."""
    return f"policy {await node.held('policy', arguments['version'])}"


@_command("revoke-certificate", crl=int)
async def revoke_certificate(arguments: dict[str, Any], node: CommandActions) -> str:
    """Hold at least this CRL."""
    return f"crl {await node.held('crl', arguments['crl'])}"


@_command("revoke-node", crl=int)
async def revoke_node(arguments: dict[str, Any], node: CommandActions) -> str:
    """Hold at least this CRL."""
    return f"crl {await node.held('crl', arguments['crl'])}"


def _anchors(arguments: dict[str, Any]) -> tuple[tuple[Anchor, ...], int]:
    """These, and how many of them are at no address that is dialled."""
    anchors = tuple(_anchor(item) for item in arguments["anchors"])
    if not 0 < len(anchors) <= MAX_ANCHORS:
        raise RequestRefused("invalid-argument", f"there must be 1 to {MAX_ANCHORS} anchors")
    odd = sum(read_address(anchor.endpoint) is None for anchor in anchors)
    if odd == len(anchors):
        raise RequestRefused("not-dialable", f"none of the anchors is at an address that is dialled: {FORMS}")
    return anchors, odd


@_command("update-bootstrap", _anchors, anchors=list)
async def update_bootstrap(arguments: dict[str, Any], node: CommandActions) -> str:
    """Dial these anchors, each {name, endpoint}, before those of the genesis until there is a newer one."""
    anchors, odd = _anchors(arguments)
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


def _level(arguments: dict[str, Any]) -> Any:
    levels = {level.name: level for level in LogLevel.iterconstants()}
    if arguments["level"] not in levels:
        raise RequestRefused("invalid-argument", f"level must be one of {', '.join(levels)}")
    return levels[arguments["level"]]


@_command("log-level", _level, level=str)
async def log_level(arguments: dict[str, Any], node: CommandActions) -> str:
    """Log from this level on, until the next start."""
    level = _level(arguments)
    node.set_log_level(level)
    return f"level {level.name}"


def _names(arguments: dict[str, Any]) -> None:
    if not all(isinstance(name, str) for name in arguments.get("nodes") or ()):
        raise RequestRefused("invalid-argument", "nodes must be names")


@_command("ping-report", _names, optional=("nodes",), nodes=list)
async def ping_report(arguments: dict[str, Any], node: CommandActions) -> str:
    """The round trips to these nodes, or to the direct neighbours."""
    names = arguments.get("nodes") or node.neighbours()
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
    if not isinstance(item, dict):
        raise RequestRefused(
            "invalid-argument", 'not an anchor: each is written {"name": "NAME", "endpoint": "HOST:PORT"}'
        )
    try:
        return msgspec.convert(item, Anchor, strict=True)
    except msgspec.ValidationError as error:
        raise RequestRefused("invalid-argument", f"not an anchor: {human_error(error)}") from error


COMMANDS: Sequence[IControlCommand] = tuple(_OWN)
"""Every command this version knows."""
