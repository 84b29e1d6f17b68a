# SPDX-License-Identifier: MIT
"""The short way to a handler: as Klein's where it may differ, and a deadline that all requests share."""

from __future__ import annotations

import re
from typing import Any

import pytest
from klein import Klein
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from gmesh.authority import limits
from gmesh.authority.dispatch import AuthorityResource, Deadline
from gmesh.authority.http import AuthoritySite
from gmesh.errors import StoreError


class Transport(StringTransport):
    """In memory."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


class Served:
    """A site with one handler at C{/x}, found directly, and at C{/y/<name>}, found by Klein."""

    def __init__(self, answers: Any) -> None:
        app = Klein()
        self.asked: list[str] = []

        @app.route("/x", methods=["POST"], endpoint="x")
        def direct(request: Any) -> Any:
            self.asked.append("x")
            return answers()

        @app.route("/y/<name>", methods=["POST"])
        def other(request: Any, name: str) -> bytes:
            self.asked.append(name)
            return b"by Klein"

        def nowhere(request: Any) -> bytes:
            request.setResponseCode(404)
            return b"nowhere"

        self.clock = Clock()
        resource = AuthorityResource(
            app,
            {(b"POST", b"/x"): "x"},
            re.compile(b"/x|/y/[a-z]+"),
            lambda request: None,
            nowhere,
        )
        site = AuthoritySite(resource, self.clock, lambda: "id")
        self.transport = Transport(peerAddress=IPv4Address("TCP", "192.0.2.1", 50_000))
        self.channel: Any = site.buildProtocol(None)
        self.channel.makeConnection(self.transport)

    def ask(self, method: str, target: str) -> bytes:
        self.transport.clear()
        self.channel.dataReceived(f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        return self.transport.value()

    def leave(self) -> None:
        self.channel.connectionLost(Failure(ConnectionDone()))


def answered(body: bytes) -> Deferred[bytes]:
    """A Deferred that has fired."""
    done: Deferred[bytes] = Deferred()
    done.callback(body)
    return done


def test_a_path_is_found_directly_with_its_method_and_any_query() -> None:
    """The same connection serves one request after another; what the table lacks goes by Klein."""
    served = Served(lambda: answered(b"at once"))
    assert served.ask("POST", "/x").endswith(b"at once\r\n0\r\n\r\n")
    assert served.ask("POST", "/x?a=1").endswith(b"at once\r\n0\r\n\r\n")
    assert b"by Klein" in served.ask("POST", "/y/pump")
    assert served.ask("POST", "/%78").endswith(b"nowhere"), "a path has one spelling"
    assert served.ask("GET", "/x").startswith(b"HTTP/1.1 405 ")
    assert served.ask("POST", "/x/").startswith(b"HTTP/1.1 404 ")
    assert served.asked == ["x", "x", "pump"]
    served.leave()
    assert not served.clock.getDelayedCalls()


def test_an_answer_that_comes_later_is_written_then() -> None:
    """Nothing goes out before, all of it after."""
    later: Deferred[bytes] = Deferred()
    served = Served(lambda: later)
    assert served.ask("POST", "/x") == b""
    later.callback(b"later")
    assert b"later" in served.transport.value()
    served.leave()


def test_who_leaves_is_not_answered() -> None:
    """The handler is cancelled, and what it says to that goes nowhere."""
    cancelled: list[object] = []
    later: Deferred[bytes] = Deferred(cancelled.append)
    later.addErrback(lambda failure: failure.trap(CancelledError) and b"a problem")
    served = Served(lambda: later)
    served.ask("POST", "/x")
    served.leave()
    assert cancelled == [later]
    assert served.transport.value() == b""


def test_a_handler_that_fails_after_all_ends_the_connection(flush_logged_errors: Any) -> None:
    """It is logged, and told as a broken server, not left without an answer."""
    later: Deferred[bytes] = Deferred()
    served = Served(lambda: later)
    served.ask("POST", "/x")
    later.errback(ZeroDivisionError())
    assert served.transport.value().startswith(b"HTTP/1.1 500 ")
    assert len(flush_logged_errors(ZeroDivisionError)) == 1
    served.leave()


def test_a_slow_answer_does_not_use_up_the_time_of_the_next_request() -> None:
    """The timer of the connection finds nothing to do while one is answered, and begins again after."""
    waiting: list[Deferred[bytes]] = []

    def begin() -> Deferred[bytes]:
        waiting.append(Deferred())
        return waiting[-1]

    served = Served(begin)
    aborted: list[bool] = []
    served.transport.abortConnection = lambda: aborted.append(True)  # type: ignore[method-assign]
    served.clock.advance(limits.RECEIVE_SECONDS - 1)
    served.ask("POST", "/x")
    for _ in range(limits.RECEIVE_SECONDS * 2):
        served.clock.advance(1)
    waiting.pop().callback(b"slow")
    served.clock.advance(limits.RECEIVE_SECONDS - 1)
    assert not aborted
    served.clock.advance(1)
    assert aborted
    served.leave()


# The deadline.


def test_each_is_cancelled_when_its_own_time_is_over() -> None:
    """One timer serves all; who was done before is left out; nothing is left when all are done."""
    clock = Clock()
    deadline = Deadline(clock, 30)
    working: list[Deferred[str]] = []
    for _ in range(3):
        one: Deferred[str] = Deferred()
        deadline.watch(one)
        working.append(one)
        clock.advance(10)
    assert len(clock.getDelayedCalls()) == 1
    ends: list[Any] = []
    for one in working:
        one.addBoth(ends.append)
    working[1].callback("done")
    assert [type(end) for end in ends] == [Failure, str], "the first ended at thirty"
    assert ends[0].check(StoreError) and ends[0].value.reason == "unavailable"
    clock.advance(19.5)
    assert len(ends) == 2
    clock.advance(0.5)
    assert ends[2].check(StoreError)
    assert not clock.getDelayedCalls()


def test_who_cancels_himself_was_not_late() -> None:
    """A client that leaves is told apart from a handler that took too long."""
    clock = Clock()
    deadline = Deadline(clock, 30)
    one: Deferred[str] = Deferred()
    deadline.watch(one)
    one.cancel()
    with pytest.raises(CancelledError):
        _result(one)
    assert not clock.getDelayedCalls()


def _result(done: Deferred[Any]) -> Any:
    """What it fired with; a failure is raised."""
    got: list[Any] = []
    done.addBoth(got.append)
    if isinstance(got[0], Failure):
        got[0].raiseException()
    return got[0]
