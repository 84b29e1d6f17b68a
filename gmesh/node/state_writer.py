# SPDX-License-Identifier: MIT
"""
Puts on disk what a node knows: rising numbers some seconds late, documents at once; a full disk again.

Tests: C{tests/node/test_state_files.py}.
"""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from gmesh.errors import StoreError
from gmesh.node.identity_store import NodeStore
from gmesh.node.limits import STATE_WRITE_AGAIN, STATE_WRITE_BEHIND
from gmesh.node.node_state import NodeState
from gmesh.trust.state import TrustState

__all__ = ["StateWriter"]


class StateWriter:
    """
    Writes C{state.json}, the floors and the documents in force.

    A failure never undoes what is in force: it is a line of the log, and another attempt after
    L{STATE_WRITE_AGAIN} seconds.
    """

    _log = Logger()

    def __init__(self, store: NodeStore, clock: IReactorTime, state: NodeState) -> None:
        self._store = store
        self._clock = clock
        self._state = state
        self._timer: IDelayedCall | None = None
        self._unwritten: dict[str, TrustState] = {}

    def soon(self) -> None:
        """Write C{state.json} within some seconds."""
        if self._timer is None:
            self._timer = self._clock.callLater(STATE_WRITE_BEHIND, self._due)

    def now(self) -> None:
        """Write C{state.json}. @raise StoreError: if that fails."""
        self._cancel()
        self._store.save_state(self._state)

    def document(self, kind: str, trust: TrustState) -> None:
        """Write the document of this kind that is now in force in C{trust}."""
        self._unwritten[kind] = trust
        if not self._write_documents():
            self.soon()

    def stop(self) -> None:
        """Write what is not on disk yet, as far as that is possible."""
        if self._timer is not None:
            self._cancel()
            self._write()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        if not self._write():
            self._timer = self._clock.callLater(STATE_WRITE_AGAIN, self._due)

    def _write(self) -> bool:
        """Whether all that must be on disk is."""
        try:
            self._store.save_state(self._state)
        except StoreError as error:
            self._log.error("state.json is not on disk: {cause}", cause=error.detail)
            return False
        return self._write_documents()

    def _write_documents(self) -> bool:
        for kind, trust in tuple(self._unwritten.items()):
            document = getattr(trust, kind)
            try:
                self._store.save_floors(trust.to_floors())
                if document is not None:
                    self._store.save_document(document)
            except StoreError as error:
                self._log.error("{kind} is in force but not on disk: {cause}", kind=kind, cause=error.detail)
                return False
            del self._unwritten[kind]
        return True
