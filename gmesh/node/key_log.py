# SPDX-License-Identifier: MIT
"""
The log of message keys, a file of the state directory that only grows until it is written anew.

It is there once a message with a key was handed over here.
Tests: C{tests/node/test_key_log.py}.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from twisted.logger import Logger

from gmesh.endtoend.message_keys import RECORD_SIZE
from gmesh.errors import ConfigurationError, StoreError
from gmesh.files import KEY_MODE, read_capped, write_atomic
from gmesh.node.limits import KEY_LOG_LIMIT

__all__ = ["FileKeyLog"]

MESSAGE_KEYS: Final = "message-keys.log"


class FileKeyLog:
    """@see: L{KeyLog<gmesh.endtoend.message_keys.KeyLog>}"""

    _log = Logger()

    def __init__(self, directory: Path) -> None:
        self._path = directory / MESSAGE_KEYS
        self._listed = False

    def read(self) -> bytes:
        """All of it; a file that cannot be used is named in the log, and reads as nothing."""
        if not self._path.exists():
            return b""
        try:
            return read_capped(self._path, KEY_LOG_LIMIT)
        except ConfigurationError as error:
            self._log.warn(
                "{path} cannot be used, keys start empty: {cause}", path=str(self._path), cause=error.detail
            )
            return b""

    def append(self, data: bytes) -> None:
        """Write at its end; what a power cut tore before is written over."""
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, KEY_MODE)
            try:
                size = os.fstat(file).st_size
                whole = size - size % RECORD_SIZE
                if os.pwrite(file, data, whole) != len(data):
                    os.ftruncate(file, whole)
                    raise StoreError("disk-full", f"{self._path}: no room for a message key")
            finally:
                os.close(file)
        except OSError as error:
            raise StoreError("unwritable", f"{self._path}: {error.strerror}") from error

    def sync(self) -> None:
        """Wait for the disk; the first time also for the directory, which may not list the file yet."""
        self._wait_for(self._path)
        if not self._listed:
            self._wait_for(self._path.parent)
            self._listed = True

    def replace(self, data: bytes) -> None:
        """Write it anew."""
        write_atomic(self._path, data, KEY_MODE)

    def _wait_for(self, path: Path) -> None:
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise StoreError("unwritable", f"{path}: {error.strerror}") from error
