# SPDX-License-Identifier: MIT
"""
Lines of the log that others can cause: the first few of a kind about a node, then ever fewer, and counted.

Whoever causes them decides how often they happen, so what is exact stands in the counters, not in the log.
Tests: C{tests/mesh/test_spaced_log.py}, C{tests/node/test_floods_of_log.py}.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["SpacedLog"]

BURST = 5
SPACING = 10.0
SPACING_MOST = 3600.0
"""Seconds between lines that go on: twice as long each time, up to this; anew after as long a rest."""
SUBJECTS = 4096
MOST_CHARACTERS = 200
"""Of one value: as C{MAX_TEXT} of the documents."""


class _Spacing:
    __slots__ = ("interval", "last", "lines", "next", "suppressed")

    def __init__(self) -> None:
        self.lines = self.suppressed = 0
        self.interval = SPACING
        self.next = self.last = float("-inf")


class SpacedLog:
    """
    Spaces lines by their cause, a literal of the code, and by the node or address they are about.

    @param subjects: so many are told apart; all others share one spacing for each cause.
    """

    def __init__(self, subjects: int = SUBJECTS) -> None:
        self._most = subjects
        self._spacings: dict[tuple[str, object], _Spacing] = {}

    def write(
        self,
        emit: Callable[..., object],
        now: float,
        cause: str,
        subject: object,
        text: str,
        /,
        **values: object,
    ) -> bool:
        """
        Write the line, unless many like it were written lately.

        @param emit: C{info}, C{warn} or C{error} of a logger.
        @param now: on a clock that the caller reads.
        @param values: long ones are cut.
        @return: whether it was written.
        """
        spacing = self._of(cause, subject, now)
        if now - spacing.last >= SPACING_MOST:
            spacing.lines, spacing.interval = 0, SPACING
        spacing.last = now
        if spacing.lines >= BURST:
            if now < spacing.next:
                spacing.suppressed += 1
                return False
            spacing.interval = min(2 * spacing.interval, SPACING_MOST)
        spacing.lines += 1
        spacing.next = now + spacing.interval
        if spacing.suppressed:
            text += " ({suppressed} more since the last line)"
            values["suppressed"], spacing.suppressed = spacing.suppressed, 0
        emit(text, **{name: _cut(value) for name, value in values.items()})
        return True

    def _of(self, cause: str, subject: object, now: float) -> _Spacing:
        found = self._spacings.get((cause, subject))
        if found is None:
            if len(self._spacings) >= self._most:
                self._spacings = {
                    key: each for key, each in self._spacings.items() if now - each.last < SPACING_MOST
                }
            if len(self._spacings) >= self._most:
                subject = None
            found = self._spacings.setdefault((cause, subject), _Spacing())
        return found


def _cut(value: object) -> object:
    if isinstance(value, str) and len(value) > MOST_CHARACTERS:
        return value[:MOST_CHARACTERS] + "..."
    return value
