# SPDX-License-Identifier: MIT
"""
May this node reach that service of that one?  Any matching deny wins; no match is a deny.

A rule is compiled to sets once per policy, so a decision costs a few set look-ups a rule, and
decisions are remembered, for a node asks about the same few pairs again and again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from gmesh.trust.documents import Policy, Rule
from gmesh.trust.names import ALL

__all__ = ["Decision", "PolicyRules", "Subject"]

MAX_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class Subject:
    """A node as rules see it."""

    name: str
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class Decision:
    """@ivar rule: index of the rule that decided, None when none matched."""

    allowed: bool
    rule: int | None


class PolicyRules:
    """The rules of one policy, ready to decide."""

    def __init__(self, policy: Policy | None) -> None:
        rules = policy.rules if policy is not None else ()
        indexed = [(index, _Compiled(rule)) for index, rule in enumerate(rules)]
        self._rules = sorted(indexed, key=lambda entry: entry[1].effect != "deny")
        self._remembered: dict[tuple[Subject, Subject, str], Decision] = {}

    def decide(self, source: Subject, target: Subject, service: str) -> Decision:
        """May C{source} reach C{service} of C{target}?"""
        question = (source, target, service)
        decision = self._remembered.get(question)
        if decision is None:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            decision = self._remembered[question] = self._decide(source, target, service)
        return decision

    def _decide(self, source: Subject, target: Subject, service: str) -> Decision:
        for index, rule in self._rules:
            if rule.matches(source, target, service):
                return Decision(rule.effect == "allow", index)
        return Decision(False, None)


class _Selectors:
    __slots__ = ("_all", "_names", "_roles")

    def __init__(self, selectors: tuple[str, ...]) -> None:
        self._all = ALL in selectors
        self._names = frozenset(text[5:] for text in selectors if text.startswith("node:"))
        self._roles = frozenset(text[5:] for text in selectors if text.startswith("role:"))

    def match(self, subject: Subject) -> bool:
        return self._all or subject.name in self._names or not self._roles.isdisjoint(subject.roles)


class _Compiled:
    __slots__ = ("_services", "_source", "_target", "effect")

    def __init__(self, rule: Rule) -> None:
        self.effect: Literal["allow", "deny"] = rule.effect
        self._source = _Selectors(rule.sources)
        self._target = _Selectors(rule.to)
        self._services = frozenset(rule.services)

    def matches(self, source: Subject, target: Subject, service: str) -> bool:
        return (
            (ALL in self._services or service in self._services)
            and self._source.match(source)
            and self._target.match(target)
        )
