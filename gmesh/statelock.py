# SPDX-License-Identifier: MIT
"""One process a state directory: two daemons, or a daemon and a restore, would give numbers out twice."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from gmesh.errors import ConfigurationError

__all__ = ["StateLock"]


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
