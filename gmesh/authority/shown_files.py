# SPDX-License-Identifier: MIT
"""
The newest documents that a daemon on a shared database showed, kept in its state directory as by a node.

What is shown was acknowledged.  If the database loses it, these files say what it was: nothing reads them but
L{gmesh.authority.adopt}.
Tests: C{tests/authority/test_adopt.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gmesh.authority.published import Published
from gmesh.files import write_atomic

__all__ = ["HeldFiles", "ShownFiles", "shown_files"]

DIRECTORY = "shown"
_NAMES = ("crl", "policy", "status")


@dataclass(frozen=True, slots=True)
class HeldFiles:
    """Those that there are."""

    crls: Sequence[Path]
    policies: Sequence[Path]
    statuses: Sequence[Path]


def shown_files(state: Path) -> HeldFiles:
    """What a daemon left in its state directory."""
    paths = [state / DIRECTORY / f"{name}.json" for name in _NAMES]
    return HeldFiles(*([path] if path.exists() else [] for path in paths))


class ShownFiles:
    """
    Writes them.

    @param state: the state directory.
    @param shown: what is shown now: CRL, policy, status.
    """

    def __init__(self, state: Path, shown: Callable[[], Sequence[Published]]) -> None:
        self._directory = state / DIRECTORY
        self._shown = shown
        self._written: dict[str, str] = {}

    def news(self) -> list[tuple[str, Published]]:
        """Those that changed since they were last written."""
        return [
            (name, document)
            for name, document in zip(_NAMES, self._shown(), strict=True)
            if self._written.get(name) != document.digest
        ]

    def write(self, news: Sequence[tuple[str, Published]]) -> None:
        """Write these, in the order of their weight; blocks."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        for name, document in news:
            write_atomic(self._directory / f"{name}.json", document.body, 0o600)
            self._written[name] = document.digest
