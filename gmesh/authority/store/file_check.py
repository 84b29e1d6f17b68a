# SPDX-License-Identifier: MIT
"""
Reads a database through beside the work, where the start did not wait for that.

Tests: C{tests/authority/test_disk.py}.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from gmesh.errors import StoreError

__all__ = ["FileCheck"]


class FileCheck:
    """
    Whether the whole file is good, as far as is known.

    @param store: L{gmesh.authority.store.writer.Store}, which decides nothing more once damage is found.
    @ivar good: all of it was read and found good.
    """

    log = Logger()

    def __init__(self, store: Any, good: bool) -> None:
        self._store = store
        self.good = good

    def begin(self) -> None:
        """A clean stop left this file whole; whether the disk kept it so is checked in a thread."""
        if not self.good:
            store = self._store
            done = store.in_thread(lambda: store.engine.check(given_up=lambda: store.stopping))
            done.addCallbacks(self._found_good, self._found_damaged)

    def _found_good(self, result: None) -> None:
        self.good = True

    def _found_damaged(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, StoreError) and error.reason == "corrupt":
            self._store.damage = error
        if not self._store.stopping:
            self.log.error("the database was read through: {error}", error=failure.getErrorMessage())
