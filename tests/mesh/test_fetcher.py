# SPDX-License-Identifier: MIT
"""Tests of L{gmesh.mesh.fetcher}: many things of many neighbours, in batches, none asked twice for long."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock

from gmesh.mesh.fetcher import Asked, Fetcher
from gmesh.mesh.limits import ASK_AGAIN, ASK_ELSEWHERE, ASK_STALL, MAX_WANTED


def test_fetcher_batches_and_goes_on() -> None:
    """Keys are asked for in batches, each once, the next batch when the last came or stalled."""
    clock = Clock()
    asked: list[list[int]] = []
    fetcher: Fetcher[int] = Fetcher(clock, asked.append, 3)
    for number in range(7):
        assert fetcher.want(number)
    clock.advance(0)
    assert asked == [[0, 1, 2]]
    for number in (0, 1, 1, 2):
        fetcher.came(number)
    assert asked[1:] == [[3, 4, 5]]
    fetcher.want(3)
    clock.advance(ASK_STALL)
    assert asked[2:] == [[6]]
    fetcher.came(6)
    fetcher.want(4)
    clock.advance(0)
    assert len(asked) == 3
    clock.advance(ASK_AGAIN)
    fetcher.want(4)
    clock.advance(0)
    assert asked[3:] == [[4]]
    fetcher.stop()
    fetcher.want(9)
    assert clock.getDelayedCalls() == [] and fetcher.idle


def test_a_batch_that_trickles_in_does_not_stall() -> None:
    """Each answer is waited for anew; one that stays away holds up what comes after it for 5 s only."""
    clock, asked = Clock(), list[list[int]]()
    fetcher: Fetcher[int] = Fetcher(clock, asked.append, 3)
    for key in range(6):
        fetcher.want(key)
    clock.advance(0)
    for key in range(2):
        clock.advance(4)
        fetcher.came(key)
    clock.advance(4)
    assert asked == [[0, 1, 2]]
    clock.advance(1)
    assert asked == [[0, 1, 2], [3, 4, 5]]
    fetcher.stop()


def test_only_so_much_is_wanted_of_a_neighbour() -> None:
    """A neighbour that names what does not exist fills its own bounded list."""
    clock, asked = Clock(), list[list[int]]()
    fetcher: Fetcher[int] = Fetcher(clock, asked.append, 3)
    assert all(fetcher.want(key) for key in range(MAX_WANTED))
    assert not fetcher.want(-1)
    clock.advance(0)
    assert fetcher.want(-1) and asked == [[0, 1, 2]]
    fetcher.stop()


class Several:
    """Fetchers of neighbours that share what is asked for; C{asked}: (neighbour, batch)."""

    def __init__(self, *names: str) -> None:
        self.clock = Clock()
        self.held: set[int] = set()
        self.asked: list[tuple[str, list[int]]] = []
        self.shared: Asked[int] = Asked(self.clock, lambda key, number: key not in self.held)
        self.fetchers = [Fetcher(self.clock, self._recorder(name), 3, self.shared) for name in names]

    def _recorder(self, name: str) -> Callable[[list[int]], None]:
        return lambda batch: self.asked.append((name, batch))

    def want(self, *keys: int) -> None:
        """All offer all of these."""
        for fetcher in self.fetchers:
            for key in keys:
                fetcher.want(key, 1)
        self.clock.advance(0)

    def arrives(self, key: int) -> None:
        """From wherever."""
        self.held.add(key)
        self.shared.settled(key)


def test_neighbours_share_what_is_wanted() -> None:
    """Each thing is asked of one neighbour; who is through takes of what is left."""
    several = Several("a", "b")
    several.want(*range(7))
    assert several.asked == [("a", [0, 1, 2]), ("b", [3, 4, 5])]
    for key in (3, 4, 5):
        several.arrives(key)
    assert several.asked[2:] == [("b", [6])]
    for key in (0, 1, 2, 6):
        several.arrives(key)
    several.clock.advance(ASK_ELSEWHERE + 0.01)
    assert len(several.asked) == 3 and all(fetcher.idle for fetcher in several.fetchers)
    assert several.clock.getDelayedCalls() == [] and len(several.shared) == 0


def test_silence_delays_once_however_many_are_silent() -> None:
    """After half a second without the answer all others that offered it are asked at once."""
    several = Several("a", "b", "c", "d")
    several.want(0)
    assert several.asked == [("a", [0])]
    several.clock.advance(ASK_ELSEWHERE / 2)
    assert len(several.asked) == 1
    several.clock.advance(ASK_ELSEWHERE / 2 + 0.01)
    assert several.asked[1:] == [("b", [0]), ("c", [0]), ("d", [0])]
    several.clock.advance(ASK_AGAIN + 1)
    several.shared.forget_old()
    assert len(several.shared) == 0


def test_who_leaves_holds_up_nothing() -> None:
    """What was asked of a neighbour that is gone is asked of the next at once."""
    several = Several("a", "b")
    several.want(0)
    several.fetchers[0].stop()
    several.clock.advance(0)
    assert several.asked == [("a", [0]), ("b", [0])]
    several.fetchers[1].stop()
    assert several.clock.getDelayedCalls() == [] and len(several.shared) == 0


def test_what_was_asked_is_remembered_within_bounds() -> None:
    """A neighbour that names and answers what is of no use does not grow the table without end."""
    several = Several("a")
    for key in range(MAX_WANTED + 100):
        several.fetchers[0].want(key)
        several.clock.advance(0)
        several.fetchers[0].came(key)
    assert len(several.asked) == MAX_WANTED + 100 and len(several.shared) == MAX_WANTED
    several.fetchers[0].stop()


def test_a_newer_one_is_asked_for_anew() -> None:
    """That an older one was asked for without answer does not hide the next."""
    several = Several("a")
    several.want(0)
    several.clock.advance(ASK_STALL)
    several.want(0)
    assert len(several.asked) == 1
    several.fetchers[0].want(0, 2)
    several.clock.advance(0)
    assert several.asked[1:] == [("a", [0])]
    several.fetchers[0].stop()
