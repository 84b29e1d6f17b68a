# SPDX-License-Identifier: MIT
"""
What operators ask of nodes, and what nodes answer.

Tests: C{tests/trust/test_documents.py}.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from gmesh.trust.body import Body, Part, check_ordered, invalid_field
from gmesh.trust.limits import MAX_NUMBER
from gmesh.trust.names import Identifier, Name, Number, Role, Slug, Text, Time

__all__ = ["Command", "CommandTarget", "CommandReceipt"]


class CommandTarget(Part, frozen=True):
    """Exactly one of: every node, the nodes of a role, one node."""

    all: bool | None = None
    role: Role | None = None
    node: Name | None = None


class Command(Body, frozen=True, kw_only=True):
    """
    An operator asks nodes to do something, once, before it expires.

    @ivar operator: the key_id of who gives it, without whose signature it is nothing then.
    """

    TYPE: ClassVar[str] = "command"
    type: Literal["command"] = "command"
    network_id: Identifier
    id: Identifier
    number: Number
    command: Slug
    target: CommandTarget
    arguments: dict[str, Any]
    issued_at: Time
    expires_at: Time
    operator: Identifier | None = None

    def check(self) -> None:
        """@see: L{Body.check}"""
        check_ordered(self.issued_at, self.expires_at, "issued_at", "expires_at")
        if any(type(value) is int and abs(value) > MAX_NUMBER for value in self.arguments.values()):
            raise invalid_field(f"a number among the arguments is at most {MAX_NUMBER}")
        if self.target.all is False or [self.target.all, self.target.role, self.target.node].count(None) != 2:
            raise invalid_field("a target is exactly one of all, role and node")

    def concerns(self, name: str, roles: Iterable[str]) -> bool:
        """True if a node of this name and these roles is a target."""
        target = self.target
        return target.all is True or target.node == name or (target.role is not None and target.role in roles)


class CommandReceipt(Body, frozen=True, kw_only=True):
    """A node says what became of a command."""

    TYPE: ClassVar[str] = "receipt"
    type: Literal["receipt"] = "receipt"
    network_id: Identifier
    command: Identifier
    outcome: Literal["done", "refused", "failed"]
    detail: Text
    at: Time
