# SPDX-License-Identifier: MIT
"""
How the daemon was started, apart from what shows it: that is loaded with the first question.

Tests: C{tests/node/api/test_openapi.py}, C{tests/node/test_tap.py}.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(slots=True)
class Settings:
    """
    As far as C{doctor} wants to know; a reload may change it.

    @ivar state: the state directory, absolute.
    @ivar listen: endpoint strings.
    """

    state: str
    listen: tuple[str, ...] = ()
