# SPDX-License-Identifier: MIT
"""Which receiver gets which frame."""

from __future__ import annotations

import pytest

from gmesh.mesh.dispatcher import Dispatcher


class Factory:
    """Builds receivers that keep a common diary."""

    def __init__(self, name, kinds, diary):
        self.name, self.kinds, self.diary = name, frozenset(kinds), diary

    def build_receiver(self, neighbour):
        return Receiver(self)


class Receiver:
    def __init__(self, factory):
        self.factory = factory

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
        receivers[kind](kind, memoryview(b""), 0, 0)
    assert diary == [("b", 3), ("a", 1), ("a", 2)]
    assert set(receivers) == {1, 2, 3}


def test_a_kind_has_one_receiver():
    """Registering it twice is a mistake of the composer."""
    with pytest.raises(ValueError, match=r"\[2\]"):
        build(Factory("a", {1, 2}, []), Factory("b", {2}, []))
