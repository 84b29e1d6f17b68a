# SPDX-License-Identifier: MIT
"""
Long lists of rows of whole numbers, perhaps behind an identifier, as CRLs have them: canonical JSON has
one spelling for those.

Walking a hundred thousand entries in Python costs ten times what all the cryptography does, so
code that walks a value leaves its tables to C.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gmesh.trust.limits import MAX_INTEGER
from gmesh.trust.names import Identifier

__all__ = ["collector_paused", "plain_table", "read_table"]

MIN_ROWS = 64
_Whole = Annotated[int, Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]
_NUMBERS: Any = list[tuple[_Whole, ...]]
_KEYS: Any = list[tuple[Identifier, _Whole]]
_NODES: Any = list[tuple[Identifier, _Whole, _Whole, _Whole]]


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """
    No garbage collection meanwhile.

    With a hundred thousand young rows each one holds every thread for a tenth of a second.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def plain_table(value: Any) -> list[list[Any]] | None:
    """A table as readers of JSON have it, a list of lists. @return: None for anything else."""
    rows = read_table(value)
    return None if rows is None else [list(row) for row in rows]


def read_table(value: Any) -> list[tuple[Any, ...]] | None:
    """
    C{value}, if it is a long list of rows of integers up to 2^53-1, or of an identifier and one or three.
    """
    if type(value) not in (list, tuple) or len(value) < MIN_ROWS:
        return None
    for rows in (_NUMBERS, _NODES, _KEYS):
        try:
            found: list[tuple[Any, ...]] = msgspec.convert(value, rows, strict=True)
            return found
        except msgspec.ValidationError:
            continue
    return None
