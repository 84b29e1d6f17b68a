# SPDX-License-Identifier: MIT
"""What stands in for a disk and listens in on sessions, for nodes in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from gmesh.errors import StoreError
from gmesh.node.node_state import NodeState
from gmesh.trust.documents import Document
from gmesh.trust.keys import NoiseKey
from gmesh.wire.noise import NoiseSession

__all__ = ["MemoryStore", "RecordingSession"]


class MemoryStore:
    """
    What a node keeps over a restart, without a disk.

    @ivar fault: raised instead of writing, as by a full disk.
    """

    def __init__(self) -> None:
        self.documents: dict[str, Document[Any]] = {}
        self.floors: dict[str, Any] = {}
        self.state = NodeState()
        self.noise_keys: tuple[NoiseKey, ...] = ()
        self.fault: StoreError | None = None

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault

    def save_document(self, document: Document[Any]) -> None:
        """Keep the newest of its type."""
        self._check()
        self.documents[document.type] = document

    def save_floors(self, floors: dict[str, Any]) -> None:
        """Keep the floors."""
        self._check()
        self.floors = copy.deepcopy(floors)

    def save_state(self, state: NodeState) -> None:
        """Keep the rising numbers."""
        self._check()
        self.state = copy.deepcopy(state)

    def save_noise_keys(self, keys: Sequence[NoiseKey]) -> None:
        """Keep the Noise keys."""
        self._check()
        self.noise_keys = tuple(keys)


class RecordingSession:
    """A hop session that tells of every record it opened: what this node could have read."""

    def __init__(self, inner: NoiseSession, opened: Callable[[bytes], object]) -> None:
        self._inner = inner
        self._opened = opened

    def open(self, ciphertext: bytes | memoryview) -> bytes:
        """Open and note."""
        record = self._inner.open(ciphertext)
        self._opened(record)
        return record

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
