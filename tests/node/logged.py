# SPDX-License-Identifier: MIT
"""The log of all nodes of a mesh in memory, as a file would have it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

from twisted.logger import LogEvent, LogLevel, eventAsText, globalLogPublisher

__all__ = ["measured"]


@contextmanager
def measured() -> Iterator[io.StringIO]:
    """The log as a file would have it, without debugging."""
    text = io.StringIO()

    def write(event: LogEvent) -> None:
        if event["log_level"] > LogLevel.debug and str(event.get("log_namespace")).startswith("gmesh"):
            text.write(f"{eventAsText(event)}\n")

    globalLogPublisher.addObserver(write)
    try:
        yield text
    finally:
        globalLogPublisher.removeObserver(write)
