# SPDX-License-Identifier: MIT
"""
What another program does to the database by having it open: to read keeps the log from being taken up, so
that it grows; to write keeps us from writing.

Seen when it lasts, told once, and bounded: past a size of the log nothing is decided any more.
Tests: C{tests/authority/test_other_programs.py}.
"""

from __future__ import annotations

from pathlib import Path

from twisted.logger import Logger

from gmesh.authority import limits
from gmesh.errors import StoreError

__all__ = ["OtherPrograms"]

MEGABYTE = 1 << 20


class OtherPrograms:
    """
    What is known of them.

    @param path: the database.
    @ivar trouble: what one does to us now, and what to do about it; None is well.
    @ivar full: whether the log has grown as far as it may.
    """

    log = Logger()

    def __init__(self, path: Path) -> None:
        self._path = path
        self._locked = False
        self.trouble: StoreError | None = None
        self.full = False

    def locked(self) -> StoreError:
        """A group of decisions waited as long as it may for the lock. @return: what to answer."""
        self._locked = True
        return self._tell(f"another program keeps {self._path} locked, and nothing can be written")

    def written(self) -> None:
        """A group of decisions had the lock."""
        if self._locked:
            self._locked = False
            self._well()

    def log_held(self, size: int) -> None:
        """So many bytes of the log cannot be taken up, because somebody reads what was before them."""
        self.full = size >= limits.LOG_BYTES_MAX
        if size >= limits.LOG_BYTES_TOLD:
            self._tell(
                f"another program reads {self._path} and does not end, so that its log grows:"
                f" {size // MEGABYTE} MB, and at {limits.LOG_BYTES_MAX // MEGABYTE} MB nothing is written"
            )
        elif not self._locked:
            self._well()

    def _tell(self, what: str) -> StoreError:
        if self.trouble is None:
            self.log.error("{what}: fuser {path} names it", what=what, path=self._path)
        self.trouble = StoreError("unavailable", f"{what}: end it (fuser {self._path} names it)")
        return self.trouble

    def _well(self) -> None:
        if self.trouble is not None:
            self.log.info("no other program keeps the database any more")
        self.trouble = None
