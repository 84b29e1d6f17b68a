# SPDX-License-Identifier: MIT
"""
What a check found: how bad it is, in one sentence, and what to do about it.

Tests: C{tests/cli/test_doctor.py}, C{tests/cli/test_doctor_reach.py}.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

__all__ = ["Finding", "Level", "fail", "ok", "softened", "unless_all", "warn"]


class Level(IntEnum):
    """How bad."""

    OK = 0
    WARN = 1
    FAIL = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One line of C{gmesh doctor}.

    @ivar check: what was looked at, a word.
    @ivar advice: what to do; empty where all is well.
    """

    check: str
    level: Level
    detail: str
    advice: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {"level": self.level.name}


def ok(check: str, detail: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, detail)


def warn(check: str, detail: str, advice: str) -> Finding:
    """It works now, but not for long."""
    return Finding(check, Level.WARN, detail, advice)


def fail(check: str, detail: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(check, Level.FAIL, detail, advice)


def softened(findings: Iterable[Finding]) -> list[Finding]:
    """These fail at nothing that matters: failures become warnings."""
    return [Finding(each.check, min(each.level, Level.WARN), each.detail, each.advice) for each in findings]


def unless_all(findings: Iterable[Finding]) -> list[Finding]:
    """Of several that stand for each other one may fail: that is a warning while another is well."""
    found = list(findings)
    return found if all(finding.level is Level.FAIL for finding in found) else softened(found)
