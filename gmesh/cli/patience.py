# SPDX-License-Identifier: MIT
"""
How long a command waits where the authority, or another command, tells it to come back later.

Tests: C{tests/cli/test_join.py}.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

import click

from gmesh.cli.http import HttpRefused
from gmesh.cli.limits import JITTER
from gmesh.cli.output import printable

__all__ = ["UNAVAILABLE", "Patience"]

TOO_MANY, UNAVAILABLE = 429, 503
Result = TypeVar("Result")


def _say(line: str) -> None:
    click.echo(f"gmesh: {printable(line)}", err=True)


class Patience:
    """
    The time that one command may spend waiting.

    @param timeout: seconds from now on; 0 waits for nothing.
    @param clock: seconds that only rise.
    @param uniform: a random number below 1.
    @param say: tells people what is waited for.
    """

    def __init__(
        self,
        timeout: float,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[], float] = random.random,
        say: Callable[[str], None] = _say,
    ) -> None:
        self._until = clock() + timeout
        self._sleep = sleep
        self._clock = clock
        self._uniform = uniform
        self._say = say

    def pause(self, seconds: float, why: str) -> bool:
        """
        Wait this long, and up to half as long again, so that hosts that were refused together come apart.

        @return: False, without waiting, if that is longer than the time that is left.
        """
        left = self._until - self._clock()
        if seconds > left:
            return False
        length = min(seconds * (1 + JITTER * self._uniform()), left)
        self._say(f"{why}: again in {length:.0f} s, for {left:.0f} s at most")
        self._sleep(length)
        return True

    def call(self, ask: Callable[[], Result], repeatable: bool = True) -> Result:
        """
        Ask, and again whenever the answer is 429 or 503 and says when.

        @param repeatable: asking twice does no harm; otherwise 503 is final, for the thing may be done.
        @raise HttpRefused: any other refusal, and the last one when the time is up.
        """
        while True:
            try:
                return ask()
            except HttpRefused as error:
                worth = error.status == TOO_MANY or (repeatable and error.status == UNAVAILABLE)
                if not worth or error.retry_after is None or not self.pause(error.retry_after, error.detail):
                    raise
