# SPDX-License-Identifier: MIT
"""Which way is tried first, when the next one is, and what is learned of it."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from gmesh.errors import CarrierRefused
from gmesh.mesh.ways import MOST_KEPT, STAGGER, Experience, Ways


class Way:
    """An endpoint that a test lets connect or fail."""

    def __init__(self):
        self.tries, self.cancelled = [], 0

    def connect(self, factory):
        def cancel(_):
            self.cancelled += 1

        self.tries.append(Deferred(cancel))
        return self.tries[-1]


@pytest.fixture
def made():
    clock, proxied, direct = Clock(), Way(), Way()
    experience = Experience()
    return (
        clock,
        proxied,
        direct,
        lambda: Ways(clock, "a:1", {"proxied": proxied, "direct": direct}, experience),
    )


def test_the_next_way_begins_soon_beside_one_that_does_not_answer(made):
    """The first to connect has it, the other is given up; nothing is left on the clock."""
    clock, proxied, direct, ways = made
    connecting, protocol = ways().connect(None), Protocol()
    assert (len(proxied.tries), len(direct.tries)) == (1, 0)
    clock.advance(STAGGER)
    assert len(direct.tries) == 1
    direct.tries[0].callback(protocol)
    found = []
    connecting.addCallback(found.append)
    assert found == [protocol] and proxied.cancelled == 1 and direct.cancelled == 0
    assert clock.getDelayedCalls() == []


def test_the_next_way_begins_at_once_when_one_fails(made):
    """All that they said is told when none is left, with the first reason that a carrier gave."""
    clock, proxied, direct, ways = made
    failures = []
    ways().connect(None).addErrback(lambda failure: failures.append(failure.value))
    proxied.tries[0].errback(CarrierRefused("proxy-refused", "not there (403)"))
    assert len(direct.tries) == 1 and clock.getDelayedCalls() == []
    direct.tries[0].errback(ConnectionRefusedError())
    [error] = failures
    assert error.reason == "proxy-refused"
    assert str(error).startswith("proxied: not there (403); direct: Connection was refused")


def test_who_gives_up_gives_up_all(made):
    """What ways under way say then is what is told."""
    clock, proxied, direct, ways = made
    failures = []
    connecting = ways().connect(None)
    connecting.addErrback(lambda failure: failures.append(failure.value))
    clock.advance(STAGGER)
    connecting.cancel()
    assert (proxied.cancelled, direct.cancelled, len(failures)) == (1, 1, 1)
    assert clock.getDelayedCalls() == []


def test_what_led_to_a_link_goes_first_the_next_time(made):
    """Also for other addresses, of which nothing is known yet."""
    clock, proxied, direct, ways = made
    first = ways()
    first.connect(None)
    clock.advance(STAGGER)
    direct.tries[0].callback(Protocol())
    first.judge(True)
    ways().connect(None)
    assert len(proxied.tries) == 1 and len(direct.tries) == 2
    assert first._experience.order("b:1", ["proxied", "direct"]) == ["direct", "proxied"]


def test_what_connects_and_leads_to_no_link_goes_last_the_next_time(made):
    """A network that takes every connection and answers none: it is not tried first for ever."""
    _, proxied, direct, ways = made
    for expected in ("proxied", "direct", "proxied"):
        each = ways()
        each.connect(None)
        way = {"proxied": proxied, "direct": direct}[expected]
        way.tries[-1].callback(Protocol())
        assert each._taken == expected
        each.judge(False)


def test_what_is_remembered_is_bounded():
    """However many addresses records name."""
    experience = Experience()
    for number in range(2 * MOST_KEPT):
        experience.judge(f"{number}:1", "direct", bool(number % 2))
    assert len(experience._good) <= MOST_KEPT and len(experience._bad) <= MOST_KEPT
