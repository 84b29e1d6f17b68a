# SPDX-License-Identifier: MIT
"""
What a node keeps over a restart, in memory: L{gmesh.node.identity_store} without a disk.

Tests: C{tests/node/test_memory_mesh_faults.py}.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from gmesh.endtoend.message_keys import KeyLog
from gmesh.errors import StoreError
from gmesh.node.node_state import NodeState
from gmesh.trust.documents import Document
from gmesh.trust.keys import NoiseKey

__all__ = ["MemoryKeyLog", "MemoryStore"]


class MemoryKeyLog:
    """
    L{FileKeyLog<gmesh.node.key_log.FileKeyLog>} without a disk.

    @ivar data: what was appended.
    @ivar synced: how many bytes of it would outlive a power cut.
    @ivar fault: raised instead of writing, as by a full disk.
    """

    def __init__(self) -> None:
        self.data = b""
        self.synced = 0
        self.fault: StoreError | None = None

    def read(self) -> bytes:
        """All of it."""
        return self.data

    def append(self, data: bytes) -> None:
        """Keep it until the power is cut."""
        self._check()
        self.data += data

    def sync(self) -> None:
        """Keep it for good."""
        self._check()
        self.synced = len(self.data)

    def replace(self, data: bytes) -> None:
        """Keep this instead."""
        self._check()
        self.data = data
        self.synced = len(data)

    def cut_power(self) -> None:
        """Lose what no L{sync} waited for."""
        self.data = self.data[: self.synced]

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault


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
        self.message_keys: KeyLog = MemoryKeyLog()
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
