# SPDX-License-Identifier: MIT
"""
Which anchors to dial first, and which when those are too few: what a command named, and the genesis.

Tests: C{tests/node/test_hostile_addresses.py}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gmesh.trust.documents import Anchor, Genesis

__all__ = ["anchors_first"]


def anchors_first(kept: Mapping[str, Any], genesis: Genesis) -> tuple[tuple[Anchor, ...], tuple[Anchor, ...]]:
    """
    The anchors to dial, and those that stay behind them.

    Those that a command named come first while the genesis is the one that they were named under.

    @param kept: C{bootstrap} of C{state.json}.
    @raise msgspec.ValidationError: if it is damaged.
    """
    if kept.get("genesis") != genesis.version:
        return genesis.anchors, ()
    named = msgspec.convert(kept.get("anchors"), tuple[Anchor, ...], strict=True)
    return named, tuple(anchor for anchor in genesis.anchors if anchor not in named)
