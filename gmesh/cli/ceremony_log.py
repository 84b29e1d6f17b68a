# SPDX-License-Identifier: MIT
"""
What a ceremony did, one JSON object per line, for those who were not in the room.

It holds digests and names of keys; never a key, a pass phrase or a signature.
Tests: C{tests/cli/test_genesis.py}.
"""

from __future__ import annotations

import json
import os
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from gmesh import __version__
from gmesh.errors import StoreError

__all__ = ["TRANSCRIPT", "CeremonyLog"]

TRANSCRIPT = "genesis-transcript.jsonl"


class CeremonyLog:
    """
    Appends one line for one command, when it has succeeded.

    @param path: the file.
    @param command: C{create}, C{sign}...
    """

    def __init__(self, path: Path, command: str) -> None:
        self._path = path
        self._entry: dict[str, Any] = {"at": int(time.time()), "gmesh": __version__, "command": command}

    def read(self, path: Path, data: bytes) -> None:
        """Note a file that was read, by its digest."""
        self._entry.setdefault("read", {})[str(path)] = sha256(data).hexdigest()

    def wrote(self, path: Path, data: bytes) -> None:
        """Note a file that was written, by its digest."""
        self._entry.setdefault("wrote", {})[str(path)] = sha256(data).hexdigest()

    def note(self, **facts: Any) -> None:
        """Note anything else."""
        self._entry.update(facts)

    def close(self) -> None:
        """Write the line, durably. @raise StoreError: if it cannot be written."""
        line = json.dumps(self._entry, ensure_ascii=False).encode() + b"\n"
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(line)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise StoreError("unwritable", f"cannot write {self._path}: {error.strerror}") from error
