# SPDX-License-Identifier: MIT
"""
From which level on the daemon logs, changed while it runs.

Twisted decides that when a log observer is made, and twistd makes them; so the filter goes in front
of whatever observers there are, and away again at the end.  Tests: C{tests/node/test_log_level.py}.
"""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    LogPublisher,
    globalLogPublisher,
)

from gmesh.errors import ConfigurationError

__all__ = ["LogLevelService", "parse_level"]


def parse_level(name: str) -> Any:
    """
    The level of this name.

    @raise ConfigurationError: naming those there are.
    """
    levels = {level.name: level for level in LogLevel.iterconstants()}
    if name not in levels:
        raise ConfigurationError("bad-level", f"{name!r} is no log level: there are {', '.join(levels)}")
    return levels[name]


class LogLevelService(Service):
    """
    Keeps events below a level from every observer that is there when the level is set.

    @param level: from the start on, or None to leave everything as it is.
    """

    def __init__(self, level: Any = None, publisher: LogPublisher = globalLogPublisher) -> None:
        self._level = level
        self._publisher = publisher
        self._wrapped: dict[ILogObserver, ILogObserver] = {}

    def startService(self) -> None:
        """Apply the level of the configuration."""
        super().startService()
        if self._level is not None:
            self.set(self._level)

    def stopService(self) -> None:
        """Leave the observers as they were."""
        super().stopService()
        self._unwrap()

    def set(self, level: Any) -> None:
        """Log from C{level} on."""
        self._unwrap()
        predicate = LogLevelFilterPredicate(defaultLogLevel=level)
        # LogPublisher has no public way to list its observers.
        for observer in list(self._publisher._observers):
            wrapped = FilteringLogObserver(observer, [predicate])
            self._publisher.removeObserver(observer)
            self._publisher.addObserver(wrapped)
            self._wrapped[wrapped] = observer

    def _unwrap(self) -> None:
        for wrapped, observer in self._wrapped.items():
            self._publisher.removeObserver(wrapped)
            self._publisher.addObserver(observer)
        self._wrapped = {}
