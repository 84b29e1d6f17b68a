# SPDX-License-Identifier: MIT
"""
From a request to its handler: Klein's resource, with a direct dispatch for paths without arguments.

Klein asks its router, adapts the request and wraps each answer in half a dozen Deferreds, which costs as
much as verifying a signature; a path without arguments is found by looking it up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET

from gmesh.errors import StoreError

__all__ = ["AuthorityResource", "Deadline"]


class AuthorityResource(KleinResource):
    """
    Serves a Klein application whose endpoints give a Deferred of bytes, and never fail.

    @param direct: endpoints by method and path; all others are found by Klein.
    @param spelling: of the paths there are: each has one.
    @param admit: asked before anything else; what it returns is the answer.
    @param nowhere: answers for all other paths.
    """

    def __init__(
        self,
        app: Klein,
        direct: Mapping[tuple[bytes, bytes], str],
        spelling: re.Pattern[bytes],
        admit: Callable[[Any], bytes | None],
        nowhere: Callable[[Any], bytes],
    ) -> None:
        super().__init__(app)
        self._direct = direct
        self._spelling = spelling
        self._admit = admit
        self._nowhere = nowhere

    def render(self, request: Any) -> Any:
        """Begin to answer."""
        refused = self._admit(request)
        if refused is not None:
            return refused
        endpoint = self._direct.get((request.method, request.path))
        if endpoint is None:
            if self._spelling.fullmatch(request.path) is None:
                return self._nowhere(request)
            return super().render(request)
        answering: Any = self._app.execute_endpoint(endpoint, request)
        gone: list[Failure] = []
        if not answering.called:

            def lost(failure: Failure) -> None:
                gone.append(failure)
                answering.cancel()

            request.notifyFinish().addErrback(lost)

        def write(body: bytes) -> None:
            if not gone:
                request.write(body)
                request.finish()

        def broken(failure: Failure) -> Failure | None:
            if gone:
                return failure
            request.processingFailed(failure)
            return None

        answering.addCallback(write)
        answering.addErrback(broken)
        return NOT_DONE_YET


class Deadline:
    """
    How long anything may take.  All have as long, so they end in the order they began, by one timer.

    @param seconds: of it.
    """

    def __init__(self, clock: IReactorTime, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._open: dict[Deferred[Any], float] = {}
        self._timer: IDelayedCall | None = None

    def watch(self, working: Deferred[Any]) -> None:
        """Cancel C{working} when its time has ended; it fails with C{unavailable} then."""
        self._open[working] = self._clock.seconds() + self._seconds
        if self._timer is None:
            self._timer = self._clock.callLater(self._seconds, self._look)
        working.addBoth(self._over, working)

    def _over(self, result: Any, working: Deferred[Any]) -> Any:
        in_time = self._open.pop(working, None) is not None
        if not self._open and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not in_time and isinstance(result, Failure) and result.check(CancelledError):
            raise StoreError("unavailable", "the answer took too long; what was decided stands: ask again")
        return result

    def _look(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        late = []
        for working, due in self._open.items():
            if due > now:
                self._timer = self._clock.callLater(due - now, self._look)
                break
            late.append(working)
        for working in late:
            if self._open.pop(working, None) is not None:
                working.cancel()
