# SPDX-License-Identifier: MIT
"""
One process per state directory: two authorities would give numbers out twice, two nodes of one identity
would fight over every link.

Tests: C{tests/daemon/test_lock.py}, C{tests/node/test_tap.py}.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from twisted.application.service import Service

from gmesh.errors import ConfigurationError
from gmesh.files import give_to_owner

__all__ = ["LockService", "StateLock"]


class StateLock:
    """
    Held from construction to L{release}, or the end of the process, however it ends.

    @param path: what is locked: a file, made if there is none, or a directory, for which no file is written.
    @param unit: what may be running there already, for the refusal.
    @raise ConfigurationError: C{in-use}; C{read-only}.
    """

    def __init__(self, path: Path, unit: str) -> None:
        directory = path.is_dir()
        flags = os.O_RDONLY | os.O_DIRECTORY if directory else os.O_RDWR | os.O_CREAT
        try:
            self._descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
            if not directory:
                give_to_owner(path)
        except OSError as error:
            raise ConfigurationError("read-only", f"cannot write {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if directory and not isinstance(error, BlockingIOError):
                return  # a file system without locks of directories, as NFS: nothing keeps a second one out
            self.release()
            where = path if directory else path.parent
            raise ConfigurationError(
                "in-use", f"another daemon works on {where}: stop it first (systemctl stop {unit})"
            ) from None

    def release(self) -> None:
        """Let others in."""
        os.close(self._descriptor)


class LockService(Service):
    """
    Holds a L{StateLock} from before privileges are dropped until the daemon stops.

    @param path: @see: L{StateLock}
    @param unit: the daemon, also for the line it ends with.
    """

    def __init__(self, path: Path, unit: str) -> None:
        self._path = path
        self._unit = unit
        self._lock: StateLock | None = None

    def privilegedStartService(self) -> None:
        """@raise SystemExit: with one line, when another daemon works there."""
        try:
            self._lock = StateLock(self._path, self._unit)
        except ConfigurationError as error:
            raise SystemExit(f"{self._unit}: {error.detail}") from error

    def startService(self) -> None:
        """Take the lock now, if no privileged start came before."""
        super().startService()
        if self._lock is None:
            self.privilegedStartService()

    def stopService(self) -> None:
        """Let others in."""
        super().stopService()
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()
