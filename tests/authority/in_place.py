# SPDX-License-Identifier: MIT
"""The daemon's own database pools, called in the caller's thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure


class InPlaceReactor:
    """What adbapi asks of a reactor, done at once."""

    def callFromThread(self, function: Callable[..., Any], *arguments: Any) -> None:
        function(*arguments)

    def callWhenRunning(self, function: Callable[..., Any]) -> None:
        return None


class InPlaceThreads:
    """A thread pool that runs its work in the caller's thread."""

    def callInThreadWithCallback(
        self, done: Callable[[bool, Any], None], function: Any, *arguments: Any
    ) -> None:
        try:
            result = function(*arguments)
        except BaseException:
            done(False, Failure())
        else:
            done(True, result)

    def stop(self) -> None:
        pass


class HeldThreads(InPlaceThreads):
    """A thread pool whose work waits until it is let go."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Any, ...]] = []

    def callInThreadWithCallback(self, *work: Any) -> None:
        self._waiting.append(work)

    def go(self) -> None:
        while self._waiting:
            super().callInThreadWithCallback(*self._waiting.pop(0))


def in_place_pools(engine: Any) -> tuple[Any, Any]:
    """The daemon's own pools, called in place."""
    pools = engine.writer_pool(InPlaceReactor()), engine.reader_pool(InPlaceReactor())
    for pool in pools:
        pool.threadpool = InPlaceThreads()
    return pools
