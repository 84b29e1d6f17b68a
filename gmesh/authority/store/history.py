# SPDX-License-Identifier: MIT
"""
Which database this is, and whether it was found to be one of two with the same key.

Both are marks of the database, so that everybody who serves from it agrees: a copy of a running
authority has the instance of the original, a restored one an instance of its own.
Tests: C{tests/authority/test_history.py}.
"""

from __future__ import annotations

import secrets

from gmesh.authority.store.identity import OLDER_MARK
from gmesh.authority.store.transaction import Reader, Transaction
from gmesh.errors import StoreError

__all__ = ["another_history", "begin_instance", "check_history", "instance", "note_another"]

INSTANCE_BITS = 52
"""As many as make no number above L{gmesh.trust.limits.MAX_NUMBER}, the highest that documents hold."""
_INSTANCE = "instance"
_NOTED_AT = "another_history_at"


def begin_instance(tx: Transaction) -> None:
    """From now on this is a database of its own, with one history."""
    tx.set_mark(_INSTANCE, secrets.randbits(INSTANCE_BITS))
    for name in (_NOTED_AT, OLDER_MARK):
        tx.set_mark(name, 0)


def instance(reader: Reader) -> int | None:
    """The number of this database; None before the first start."""
    return reader.mark(_INSTANCE)


def note_another(tx: Transaction) -> None:
    """This authority's key signed what this database never published."""
    tx.set_mark(_NOTED_AT, tx.now)


def check_history(reader: Reader) -> None:
    """@raise StoreError: C{another-history}, once L{note_another} was called, until a restore."""
    if reader.mark(_NOTED_AT):
        raise another_history("what nodes hold")


def another_history(what: str) -> StoreError:
    """
    The refusal of everything until somebody decides.

    @param what: was signed, and is unknown here.
    """
    return StoreError(
        "another-history",
        f"this authority's key signed {what}, and this database never published it: an older copy of the"
        " state was put back, or two authorities run with one key. Nothing is issued. Stop all but one,"
        " then restore, so that the epoch rises: gmesh restore",
    )
