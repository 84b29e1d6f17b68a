# SPDX-License-Identifier: MIT
"""Which receiver gets which frame."""

from __future__ import annotations

import pytest

from gmesh.mesh.dispatcher import Dispatcher


class Factory:
    """Builds receivers that keep a common diary."""

    def __init__(self, name, kinds, diary, fault=None):
        self.name, self.kinds, self.diary, self.fault = name, frozenset(kinds), diary, fault

    def build_receiver(self, link):
        return Receiver(self)


class Receiver:
    def __init__(self, factory):
        self.factory = factory

    def link_up(self):
        self.factory.diary.append((self.factory.name, "up"))
        if callable(self.factory.fault):
            self.factory.fault()

    def link_down(self, reason):
        self.factory.diary.append((self.factory.name, reason))
        if self.factory.fault == "down":
            raise RuntimeError("a bug in a receiver")

    def frame_received(self, kind, record, start, end):
        self.factory.diary.append((self.factory.name, kind))


def build(*factories):
    dispatcher = Dispatcher()
    for factory in factories:
        dispatcher.register(factory)
    return dispatcher.receivers(None)


def test_each_kind_goes_to_its_receiver():
    """By the kinds that the factories registered; others have none."""
    diary = []
    receivers = build(Factory("a", {1, 2}, diary), Factory("b", {3}, diary))
    for kind in (3, 1, 2):
        receivers.table[kind](kind, memoryview(b""), 0, 0)
    assert diary == [("b", 3), ("a", 1), ("a", 2)]
    assert set(receivers.table) == {1, 2, 3}


def test_a_kind_has_one_receiver():
    """Registering it twice is a mistake of the composer."""
    with pytest.raises(ValueError, match=r"\[2\]"):
        build(Factory("a", {1, 2}, []), Factory("b", {2}, []))


def test_up_in_order_down_in_reverse():
    """Those that came first leave last."""
    diary = []
    receivers = build(Factory("a", {1}, diary), Factory("b", {2}, diary))
    receivers.link_up()
    receivers.link_down("gone")
    receivers.link_down("again")
    assert diary == [("a", "up"), ("b", "up"), ("b", "gone"), ("a", "gone")]
    assert receivers.table == {}


def test_one_that_ends_the_link_while_it_comes_up_spares_the_rest():
    """Receivers that never heard of the link do not hear of its end."""
    diary = []
    receivers = build(
        Factory("a", {1}, diary, lambda: receivers.link_down("early")), Factory("b", {2}, diary)
    )
    receivers.link_up()
    assert diary == [("a", "up"), ("a", "early")]


def test_one_that_fails_spares_the_rest(flush_logged_errors):
    """A bug in one receiver is logged and keeps no other from hearing that the link is down."""
    diary = []
    receivers = build(Factory("a", {1}, diary), Factory("b", {2}, diary, "down"))
    receivers.link_up()
    receivers.link_down("gone")
    assert diary[2:] == [("b", "gone"), ("a", "gone")]
    assert len(flush_logged_errors(RuntimeError)) == 1
