# SPDX-License-Identifier: MIT
"""The least level that is logged, changed while the daemon runs."""

from __future__ import annotations

import pytest
from twisted.logger import LogEvent, Logger, LogLevel, LogPublisher

from gmesh.errors import ConfigurationError
from gmesh.node.log_level import LogLevelService, parse_level


def test_a_level_holds_until_it_is_changed_or_the_daemon_stops() -> None:
    """Below it nothing reaches any observer; after the stop they are as they were."""
    seen: list[str] = []

    def observe(event: LogEvent) -> None:
        seen.append(event["log_format"])

    publisher = LogPublisher(observe)
    log = Logger(observer=publisher)
    service = LogLevelService(LogLevel.warn, publisher)
    service.startService()
    log.info("one")
    log.warn("two")
    service.set(LogLevel.debug)
    log.debug("three")
    service.set(LogLevel.error)
    log.warn("four")
    service.stopService()
    log.debug("five")
    assert seen == ["two", "three", "five"]


def test_a_level_that_there_is_not() -> None:
    """The error names those there are."""
    with pytest.raises(ConfigurationError, match="there are debug, info, warn, error, critical"):
        parse_level("loud")
