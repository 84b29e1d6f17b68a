# SPDX-License-Identifier: MIT
"""What the daemons tell systemd, read by a real unix datagram socket, and how they reload."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from gmesh.daemon.notify import HangupService, Notifier, NotifyService


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield listener


def received(manager: socket.socket) -> list[bytes]:
    messages = []
    while True:
        try:
            messages.append(manager.recv(1024))
        except BlockingIOError:
            return messages


def environ(manager: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.getsockname(), **more}


def test_life_of_a_service(manager: socket.socket) -> None:
    """READY, a watchdog at half the period, STOPPING, and nothing after it."""
    clock = Clock()
    service = NotifyService(Notifier(environ(manager, WATCHDOG_USEC="4000000", WATCHDOG_PID="7"), 7), clock)
    service.startService()
    service.ready()
    assert received(manager) == [b"WATCHDOG=1", b"READY=1"]
    clock.advance(2)
    assert received(manager) == [b"WATCHDOG=1"]
    service.stopService()
    clock.advance(10)
    assert received(manager) == [b"STOPPING=1"]


def test_watchdog_of_another_process_is_left_alone(manager: socket.socket) -> None:
    """WATCHDOG_PID names who must feed it."""
    assert Notifier(environ(manager, WATCHDOG_USEC="4000000", WATCHDOG_PID="8"), 7).watchdog_period is None


@pytest.mark.parametrize("value", ["", "0", "-1", "x", "²"])
def test_bad_watchdog_period_is_none(manager: socket.socket, value: str) -> None:
    """A malformed WATCHDOG_USEC never stops the daemon."""
    assert Notifier(environ(manager, WATCHDOG_USEC=value), os.getpid()).watchdog_period is None


def test_abstract_address() -> None:
    """A leading @ stands for NUL."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        name = f"gmesh-test-{os.getpid()}"
        listener.bind("\0" + name)
        listener.setblocking(False)
        Notifier({"NOTIFY_SOCKET": "@" + name}, 1).send("READY=1")
        assert received(listener) == [b"READY=1"]


def test_silent_without_a_manager(tmp_path: Path) -> None:
    """No NOTIFY_SOCKET: nothing sent; a dead one: a warning and no error."""
    Notifier({}, 1).send("READY=1")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}, 1).send("READY=1")


class Woken:
    """A reactor's callFromThread: the turn that a signal handler asked for runs when the test says."""

    def __init__(self) -> None:
        self.asked: list[Callable[[], Any]] = []

    def callFromThread(self, function: Callable[[], Any]) -> None:
        self.asked.append(function)


def test_hangup_reloads_between_reloading_and_ready(manager: socket.socket) -> None:
    """SIGHUP: nothing inside the handler; then RELOADING with the monotonic time, the reload, READY."""
    reactor, done = Woken(), []
    service = HangupService(reactor, Notifier(environ(manager), 1), lambda: done.append(received(manager)))
    before = signal.getsignal(signal.SIGHUP)
    service.startService()
    began = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    signal.raise_signal(signal.SIGHUP)
    assert not done and not received(manager)
    reactor.asked.pop()()
    kind, stamp = done[0][0].decode().split("\n")
    assert kind == "RELOADING=1"
    assert (
        began
        <= int(stamp.removeprefix("MONOTONIC_USEC="))
        <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    )
    assert received(manager) == [b"READY=1"]
    service.stopService()
    assert signal.getsignal(signal.SIGHUP) is before


def test_hangup_is_taken_over_before_anything_listens(manager: socket.socket) -> None:
    """Who reads "listening on" in the log may send it before the services have started."""
    reactor, done = Woken(), []
    service = HangupService(reactor, Notifier(environ(manager), 1), lambda: done.append(1))
    before = signal.getsignal(signal.SIGHUP)
    service.privilegedStartService()
    signal.raise_signal(signal.SIGHUP)
    service.startService()
    assert [asked() for asked in reactor.asked] == [None] and done == [1]
    service.stopService()
    assert signal.getsignal(signal.SIGHUP) is before


def test_failed_reload_is_survived(
    manager: socket.socket, flush_logged_errors: Callable[..., list[Any]]
) -> None:
    """A reload that fails is logged, and the service manager is not left waiting."""
    reactor = Woken()

    def fail() -> None:
        raise ValueError("bad file")

    service = HangupService(reactor, Notifier(environ(manager), 1), fail)
    service.startService()
    signal.raise_signal(signal.SIGHUP)
    reactor.asked.pop()()
    service.stopService()
    assert received(manager)[-1] == b"READY=1"
    assert [failure.getErrorMessage() for failure in flush_logged_errors(ValueError)] == ["bad file"]
