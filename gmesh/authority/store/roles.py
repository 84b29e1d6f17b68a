# SPDX-License-Identifier: MIT
"""Roles in a column: a JSON list. A fleet has few combinations, so each is read and spelled once."""

from __future__ import annotations

import json
from functools import lru_cache

__all__ = ["read_roles", "roles_text"]

COMBINATIONS_REMEMBERED = 1024


@lru_cache(maxsize=COMBINATIONS_REMEMBERED)
def read_roles(text: str) -> tuple[str, ...]:
    """The roles that L{roles_text} spelled."""
    return tuple(json.loads(text))


@lru_cache(maxsize=COMBINATIONS_REMEMBERED)
def roles_text(roles: tuple[str, ...]) -> str:
    """What stands in the column."""
    return json.dumps(roles)
