# SPDX-License-Identifier: MIT
"""Who may do what, as those meant it who decided: all that C{test_decisions_model.py} compares with."""

from __future__ import annotations

from dataclasses import dataclass, field

DAY = 86_400
RANKS = {"read": 1, "operate": 2, "administer": 3}


@dataclass
class Proposal:
    """What waits: proposed by whom, until when, about what; and who asked for it."""

    by: str
    until: int
    about: object
    voters: set[str] = field(default_factory=set)


@dataclass
class Truth:
    """
    Operators and votes.

    @ivar roles: of the operators, by key_id.
    @ivar former: keys that were operators' and may not come again.
    @ivar required: how many operators the operations in C{votable} take.
    @ivar proposals: by what is asked.
    """

    roles: dict[str, str]
    former: set[str] = field(default_factory=set)
    required: int = 1
    votable: tuple[str, ...] = ()
    proposals: dict[str, Proposal] = field(default_factory=dict)

    def voters(self, asked: str, least: str) -> set[str]:
        """Those of the voters who still are operators, in that role or above."""
        cast = self.proposals[asked].voters if asked in self.proposals else set()
        return {key for key in cast if RANKS.get(self.roles.get(key, ""), 0) >= RANKS[least]}

    def ask(
        self, key: str, operation: str, asked: str, least: str, possible: bool, about: object, now: int
    ) -> str:
        """
        What becomes of a request: C{done}, C{waits} or C{refused}.

        @param least: the role that it takes; empty where any operator may try.
        @param possible: whether it could be done, were votes enough.
        """
        held = {name: each for name, each in self.proposals.items() if each.until > now}
        self.proposals = held
        role = self.roles.get(key, "")
        if not role or RANKS[role] < RANKS[least or "read"] or not possible:
            return "refused"
        if operation not in self.votable:
            return "done"
        if asked in held and held[asked].about != about:
            del held[asked]
            return "refused"
        before = self.voters(asked, least or role)
        if len(before | {key}) >= self.required:
            held.pop(asked, None)
            return "done"
        full = asked not in held and sum(each.by == key for each in held.values()) >= 8
        if key in before or full:
            return "refused"
        held.setdefault(asked, Proposal(key, now + DAY, about)).voters.add(key)
        return "waits"

    def administrators(self) -> int:
        return list(self.roles.values()).count("administer")
