# SPDX-License-Identifier: MIT
"""
What every test obeys: nothing logged as a failure, nothing left in the reactor, no Deferred lost, no
secret in the log.

pytest-twisted lets all of them pass (pytest-dev/pytest-twisted#43); the fixture here does not.
C{tests/test_conftest.py} shows that it fails on each.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from twisted.internet import reactor
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from twisted.python.failure import Failure

from gmesh.testing.secrecy import SecretWatch

SUITE = "not soak"
"""The marks that C{make test} runs."""
CORE_SECONDS = 1_800
"""What one core needs for it, at 2.5 GHz."""
MOST_WORKERS = 3
"""As in the Makefile."""
for _name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):  # of the host: a package build has some
    os.environ.pop(_name, None)
    os.environ.pop(_name.upper(), None)
LAST = "gmesh/suite_seconds"
STARTED = time.monotonic()
#: Knows every key, invite, pass phrase and payload of the session, and reads all that is logged in it.
SECRETS = SecretWatch()

# The suite tries the same examples each time; "make soak" runs it with new ones.
settings.register_profile(
    "gmesh", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("fresh", settings.get_profile("gmesh"), derandomize=False)
settings.load_profile("gmesh")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which database the tests of the authority run on."""
    parser.addoption("--engine", choices=["sqlite", "postgres"], default="sqlite")


class FailureCollector:
    """A log observer that keeps every logged failure and every critical event."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_failure") is not None or event.get("log_level") is LogLevel.critical:
            self.events.append(event)

    def flush(self, *types: type[BaseException]) -> list[Failure]:
        """Take out the failures of these types (all, when none is named)."""
        gc.collect()
        taken: list[Failure] = []
        kept: list[LogEvent] = []
        for event in self.events:
            failure = event.get("log_failure")
            if failure is not None and (not types or failure.check(*types)):
                taken.append(failure)
            else:
                kept.append(event)
        self.events = kept
        return taken


def _left_in_reactor() -> dict[object, str]:
    left: dict[object, str] = {
        call: f"delayed call {call}" for call in reactor.getDelayedCalls() if call.active()
    }
    internal = getattr(reactor, "_internalReaders", set())
    left |= {reader: f"reader {reader}" for reader in reactor.getReaders() if reader not in internal}
    left |= {writer: f"writer {writer}" for writer in reactor.getWriters()}
    return left


def pytest_configure() -> None:
    """From before the first import of a test to the end of the session."""
    SECRETS.start()
    globalLogPublisher.addObserver(SECRETS)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Whoever runs all of it hears first how long that takes."""
    if not _is_whole(config) or config.cache is None:
        return None
    last = config.cache.get(LAST, None)
    seconds = CORE_SECONDS / min(MOST_WORKERS, os.cpu_count() or 1) if last is None else last
    source = "on other machines with as many cores" if last is None else "as the last time"
    return f"this takes about {max(1, round(seconds / 60))} min, {source}; the percentages move as it does"


def _is_whole(config: pytest.Config) -> bool:
    """Whether this session runs all that C{make test} does, and is the one that people see."""
    listed = config.args == config.getini("testpaths")
    whole = config.option.markexpr == SUITE and not config.option.keyword and listed
    return whole and not hasattr(config, "workerinput")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """What was told after the last test fails the session."""
    if exitstatus == 0 and _is_whole(session.config) and session.config.cache is not None:
        session.config.cache.set(LAST, round(time.monotonic() - STARTED))
    if SECRETS.told:
        pytest.exit("; ".join(SECRETS.told), returncode=1)


def pytest_unconfigure() -> None:
    """Leave the classes as they were."""
    globalLogPublisher.removeObserver(SECRETS)
    SECRETS.stop()


@pytest.fixture(scope="session")
def secrets() -> SecretWatch:
    """What must not be written anywhere; for tests that read what other processes write."""
    return SECRETS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real daemons first: those tests wait more than they compute, and the others fill that time."""
    items.sort(key=lambda item: item.get_closest_marker("live") is None)


class Frozen:
    """
    What the collections after each test need not walk again: what the imports made, and what tests left.

    Garbage among it is never found, so it is thawed when it has grown by much.
    """

    MOST = 200_000
    MOST_OF_MODULE = 2_000_000
    """The same while one module goes on, whose worlds may be shared."""

    def __init__(self) -> None:
        self._kept = 0
        self._module: object = None

    def begin(self, module: object = None) -> None:
        """A test of this module begins."""
        most = self.MOST_OF_MODULE if module is self._module else self.MOST
        self._module = module
        if gc.get_freeze_count() > self._kept + most:
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            self._kept = gc.get_freeze_count()
        gc.collect()
        gc.freeze()


FROZEN = Frozen()


def pytest_collection_finish() -> None:
    """The imports are done."""
    FROZEN.begin()


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[FailureCollector]:
    FROZEN.begin(request.module)  # what earlier tests left, and only this finds, is not of this one
    collector = FailureCollector()
    before = _left_in_reactor()
    globalLogPublisher.addObserver(collector)
    try:
        yield collector
        gc.collect()
    finally:
        globalLogPublisher.removeObserver(collector)
    problems = [
        event["log_failure"].getErrorMessage() if event.get("log_failure") else str(event.get("log_format"))
        for event in collector.events
    ]
    problems += SECRETS.told
    SECRETS.told.clear()
    problems += sorted(text for key, text in _left_in_reactor().items() if key not in before)
    if problems and reactor.running:
        pytest.fail("left behind by the test:\n  " + "\n  ".join(problems))


@pytest.fixture
def flush_logged_errors(_nothing_left_behind: FailureCollector) -> Callable[..., list[Any]]:
    """A function that takes the expected logged failures out, so that they do not fail the test."""
    return _nothing_left_behind.flush


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """
    Undo what pytest-twisted does to a Hypothesis test.

    It wraps the inner test anew for every parameter set, and the second wrapping fails
    because it waits inside the reactor's greenlet.

    A stopped reactor ends the session: all later tests would fail, for no fault of their own.
    """
    handle = getattr(pyfuncitem.obj, "hypothesis", None)
    inner = getattr(handle, "inner_test", None)
    try:
        return (yield)
    finally:
        if inner is not None:
            handle.inner_test = inner
        if not reactor.running:
            pytest.exit(f"the reactor was stopped, by SIGTERM or a test, before {pyfuncitem.nodeid} ended", 1)
