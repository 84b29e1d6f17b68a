# SPDX-License-Identifier: MIT
"""Handshake numbers: they rise over restarts, whatever the clock does."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["HandshakeNumbers"]


class HandshakeNumbers:
    """
    Gives out numbers, each above all before.

    A number, not a time: a clock that steps back locks nobody out, and after a loss of state the
    clock alone keeps the numbers rising.

    @param persisted: the last number that C{save} was given before this start.
    @param wall: Unix seconds.
    @param save: store the number, soon.
    """

    def __init__(self, persisted: int, wall: Callable[[], float], save: Callable[[int], None]) -> None:
        self._last = persisted
        self._wall = wall
        self._save = save

    def __call__(self) -> int:
        """The next number."""
        self._last = max(self._last + 1, int(self._wall()) << 20)
        self._save(self._last)
        return self._last
