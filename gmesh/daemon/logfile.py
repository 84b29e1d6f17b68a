# SPDX-License-Identifier: MIT
"""
A log file that others may rotate: moved away, copied and cut to nothing, or turned over by SIGUSR1 alone.

Tests: C{tests/daemon/test_logfile.py}, C{tests/live/test_log_rotation.py}.
"""

from __future__ import annotations

import os
from typing import Any, BinaryIO

from twisted.python.logfile import LogFile

__all__ = ["MAX_OLD_FILES", "RotatedFile"]

MAX_OLD_FILES = 100
"""Files of a megabyte kept beside the one that is written: a hundred days of what one member can cause."""


class RotatedFile(LogFile):
    """
    Twisted's log file, which turns over by itself each megabyte, and works beside logrotate(8) too.

    It is open for appending, so that what is written after logrotate's C{copytruncate} begins at the start
    of the file and not where the last line ended.
    """

    _file: BinaryIO
    path: str

    def __init__(
        self,
        name: str,
        directory: str,
        rotateLength: int = 1_000_000,
        defaultMode: int | None = None,
        maxRotatedFiles: int = MAX_OLD_FILES,
    ) -> None:
        super().__init__(name, directory, rotateLength, defaultMode, maxRotatedFiles)

    def listLogs(self) -> list[int]:
        """The numbers of the old files; those beyond the most that are kept are not of this."""
        return [number for number in super().listLogs() if number <= self.maxRotatedFiles]

    def _openFile(self) -> None:
        self._file = self._opened()
        self.size = self._length()

    def shouldRotate(self) -> Any:
        """By the size that the file has now, whoever cut it."""
        self.size = self._length()
        return super().shouldRotate()

    def turn_over(self) -> None:
        """
        What SIGUSR1 asks for: go on in the file of this name if somebody moved the open one away, else move
        it away as C{NAME.1}.

        @raise OSError: if there is no writing in the directory; the open file is kept then.
        """
        if self._is_moved():
            fresh, old = self._opened(), self._file
            self._file = fresh
            old.close()
            self.size = self._length()
        else:
            self.rotate()

    def _opened(self) -> BinaryIO:
        stream = open(self.path, "ab", 0)  # noqa: SIM115  # it stays open
        if self.defaultMode is not None:
            os.fchmod(stream.fileno(), self.defaultMode)
        return stream

    def _length(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def _is_moved(self) -> bool:
        try:
            named = os.stat(self.path)
        except FileNotFoundError:
            return True
        return not os.path.samestat(named, os.fstat(self._file.fileno()))
