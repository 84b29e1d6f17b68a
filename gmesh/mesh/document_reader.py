# SPDX-License-Identifier: MIT
"""
Reading documents that neighbours send: large ones beside the reactor, each at the cost of its neighbour.

What is found is handed back in the reactor's thread, where it is judged.
Tests: C{tests/mesh/test_document_reader.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from gmesh.errors import DocumentRefused
from gmesh.mesh.control_budget import ControlBudgets
from gmesh.mesh.limits import DOCUMENT_ASIDE
from gmesh.trust.documents import Document, parse_document

__all__ = ["Aside", "DocumentReader", "Read", "at_once"]

Aside: TypeAlias = Callable[[Callable[[], Any]], "Deferred[Any]"]
"""C{twisted.internet.threads.deferToThread}, or what stands for it."""
Read: TypeAlias = "Document[Any] | DocumentRefused"
"""A well-formed document, or why it is none."""


def at_once(work: Callable[[], Any]) -> Deferred[Any]:
    """Run C{work} now, in this thread."""
    return maybeDeferred(work)


class DocumentReader:
    """
    Reads documents.

    @param budgets: what is read beside the reactor is charged to these; the rest is measured with its frame.
    @param aside: runs what takes long.
    """

    def __init__(self, budgets: ControlBudgets, aside: Aside = at_once) -> None:
        self._budgets = budgets
        self._aside = aside

    def read(
        self,
        source: bytes,
        struct: Any,
        data: bytes,
        judge: Callable[[Read], object],
        failed: Callable[[], object],
    ) -> None:
        """
        Read C{data}, and call C{judge} with what it is.

        @param source: the handle of the neighbour that sent it.
        @param failed: called instead, before the error goes on, if it cannot be read, which nobody expects.
        """
        if len(data) <= DOCUMENT_ASIDE:
            try:
                found = _read(data, struct)
            except BaseException:
                failed()
                raise
            judge(found)
            return
        budgets = self._budgets

        def work() -> tuple[Read, float]:
            began = budgets.cpu()
            found = _read(data, struct)
            if isinstance(found, Document):
                found.digest  # noqa: B018  # found here, and kept, so that judging it does not
            return found, budgets.since(began)

        def done(result: tuple[Read, float]) -> None:
            budgets.of(source).spend(result[1])
            judge(result[0])

        def broke(failure: Failure) -> Failure:
            failed()
            return failure

        self._aside(work).addCallbacks(done, broke)


def _read(data: bytes, struct: Any) -> Read:
    try:
        return parse_document(data, struct)
    except DocumentRefused as error:
        return error
