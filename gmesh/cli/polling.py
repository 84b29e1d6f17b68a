# SPDX-License-Identifier: MIT
"""Asking again until it is so: the authority pushes nothing to a command."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["PAUSE", "poll"]

PAUSE = 1.0
MAX_PAUSE = 5.0

Answer = TypeVar("Answer")


def poll(
    ask: Callable[[], Answer],
    done: Callable[[Answer], bool],
    timeout: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Answer:
    """
    Ask until the answer will do, or the time is up; pauses grow from one second to five.

    @return: the last answer, whether it will do or not.
    """
    until, pause = clock() + timeout, PAUSE
    answer = ask()
    while not done(answer) and (left := until - clock()) > 0:
        sleep(min(pause, left))
        pause = min(pause * 1.5, MAX_PAUSE)
        answer = ask()
    return answer
