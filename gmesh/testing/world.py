# SPDX-License-Identifier: MIT
"""
What every simulated world has: one clock, one seeded generator, one wall, a trace that repeats.

A run is its seed and what is done to it; two runs of the same have the same L{World.trace}.
Tests: C{tests/testing/test_clock.py}, C{tests/node/test_memory_mesh.py}.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from gmesh.testing.clock import EventClock
from gmesh.testing.issuer import Issuer

__all__ = ["START", "World"]

T = TypeVar("T")

START = 1_800_000_000.0
"""Unix seconds at which every world begins."""


class World:
    """
    Time, chance and an authority.

    @param seed: decides everything that is not done to it.
    @ivar events: how many have been traced.
    @ivar began: Unix seconds when it did.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.began = START
        self.clock = EventClock()
        self.random = Random(seed)
        self.issuer = Issuer(self.wall, self.random)
        self.events = 0
        self._trace = hashlib.sha256(b"%d" % seed)

    def wall(self) -> float:
        """Unix seconds."""
        return self.began + self.clock.seconds()

    def now(self) -> float:
        """Seconds since the world began."""
        return self.clock.seconds()

    @property
    def trace(self) -> str:
        """SHA-256 over everything that has happened: when, where, what; hex."""
        return self._trace.hexdigest()

    def note(self, where: str, what: bytes) -> None:
        """Something happened now."""
        self.events += 1
        self._trace.update(b"%.6f %s %d " % (self.clock.seconds(), where.encode(), len(what)))
        self._trace.update(what)

    def run(self, seconds: float) -> None:
        """Let time pass, each thing at its own instant."""
        self.clock.advance(seconds)

    def run_until(self, condition: Callable[[], object], within: float = 60.0) -> float:
        """
        Let time pass until C{condition} holds; it is asked after every event.

        @return: the seconds it took.
        @raise AssertionError: if it does not come true.
        """
        start = self.clock.seconds()
        while not condition():
            if not self.clock.step(start + within):
                raise AssertionError(f"not within {within} s")
        return self.clock.seconds() - start

    def result(self, awaited: Deferred[T] | Coroutine[Deferred[Any], Any, T], within: float = 60.0) -> T:
        """Let time pass until a Deferred fires, or a coroutine ends; its result, or its failure raised."""
        deferred = awaited if isinstance(awaited, Deferred) else Deferred.fromCoroutine(awaited)
        fired: list[T] = []
        failed: list[BaseException] = []
        deferred.addCallbacks(fired.append, lambda failure: failed.append(failure.value))
        self.run_until(lambda: fired or failed, within)
        if failed:
            raise failed[0]
        return fired[0]
