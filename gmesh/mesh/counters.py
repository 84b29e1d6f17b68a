# SPDX-License-Identifier: MIT
"""
What was refused or dropped, counted by cause, and logged at a bounded rate.

A stranger decides how often a refusal happens, so the counter is exact and the log is not.
Tests: C{tests/mesh/test_noise.py}, C{tests/mesh/test_link.py}, C{tests/node/test_metrics.py}.
"""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from gmesh.mesh.spaced_log import SpacedLog

__all__ = ["Counters", "Refusals"]


class Counters(dict[str, int]):
    """
    Numbers by cause: one object for a whole node, shared by everything that drops or refuses.

    Causes are literals of the code, never text of a peer, so there are few of them.
    """

    def count(self, cause: str, amount: int = 1) -> None:
        """Add to one cause."""
        self[cause] = self.get(cause, 0) + amount

    def __missing__(self, cause: str) -> int:
        return 0


class Refusals:
    """
    Counts refused peers by reason and logs a bounded number of them, each naming the reason.

    @param clock: spaces the log lines of one reason.
    @ivar refused: how often each reason was given, apart from what else is counted.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, counters: Counters | None = None) -> None:
        self._clock = clock
        self._counters = Counters() if counters is None else counters
        self.refused = Counters()
        self._lines = SpacedLog()

    @property
    def counters(self) -> Mapping[str, int]:
        """How often each reason was given."""
        return self._counters

    def quiet(self, reason: str) -> None:
        """Count what is not worth a line: port scanners, browsers, floods."""
        self._counters.count(reason)
        self.refused.count(reason)

    def refuse(self, reason: str, detail: str, address: str, dialled: bool) -> None:
        """Count one refusal and log it, unless many of this reason were logged just now."""
        self.quiet(reason)
        self._lines.write(
            self.log.warn,
            self._clock.seconds(),
            reason,
            None,
            "Refused peer {direction} {address}: {reason}: {detail}",
            direction="dialled at" if dialled else "from",
            address=address,
            reason=reason,
            detail=detail,
        )
