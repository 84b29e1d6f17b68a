# SPDX-License-Identifier: MIT
"""L{gmesh.daemon.interrupts}: what SIGINT does to a daemon while it starts, runs and stops."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gmesh.daemon.interrupts import DaemonMaker, end_quietly, stop_once


class Reactor:
    """Keeps triggers, as a reactor does until it starts."""

    def __init__(self) -> None:
        self.triggers: dict[tuple[str, str], Callable[[], None]] = {}

    def addSystemEventTrigger(self, phase: str, event: str, call: Callable[[], None]) -> None:
        self.triggers[phase, event] = call

    def sigInt(self, *ignored: Any) -> None:
        """What Twisted's reactors have for SIGINT."""


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Handlers as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_an_interrupt_of_a_start_ends_it_as_sigterm_does() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end_quietly()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


def test_that_holds_before_anything_of_the_daemon_is_imported() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    maker = DaemonMaker("a daemon", "no.such.module", "", "daemon")
    with pytest.raises(Exception, match="no"):
        _ = maker.options
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


@pytest.mark.parametrize("other", [signal.SIG_IGN, lambda number, frame: None])
def test_what_somebody_else_decided_about_interrupts_stays(other: Any) -> None:
    signal.signal(signal.SIGINT, other)
    end_quietly()
    assert signal.getsignal(signal.SIGINT) is other


def test_the_reactor_hears_interrupts_once_it_runs() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end_quietly()
    reactor = Reactor()
    stop_once(reactor)
    reactor.triggers["before", "startup"]()
    assert signal.getsignal(signal.SIGINT) == reactor.sigInt


def test_a_daemon_that_stops_hears_neither_signal_again() -> None:
    reactor = Reactor()
    stop_once(reactor)
    reactor.triggers["before", "shutdown"]()
    assert {signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)} == {signal.SIG_IGN}
