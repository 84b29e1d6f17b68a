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
    Held from construction to L{release}, or the end of the process.

    @raise ConfigurationError: C{in-use}.
    """

    def __init__(self, state: Path) -> None:
        path = state / "authority.lock"
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError("read-only", f"cannot write {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise ConfigurationError(
                "in-use", f"another process works on {state}: stop it first (systemctl stop gmesh-authority)"
            ) from None

    def release(self) -> None:
        """Let others in."""
        os.close(self._descriptor)
