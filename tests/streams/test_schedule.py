# SPDX-License-Identifier: MIT
"""Whose turn it is."""

from __future__ import annotations

from collections import Counter

from gmesh.streams.schedule import Schedule


def turns(schedule: Schedule[str], number: int, left: dict[str, int]) -> list[str]:
    """Who had the next turns; each has so many left."""
    taken = []
    while len(taken) < number:
        one = schedule.next()
        if one is None:
            break
        if left[one]:
            left[one] -= 1
            taken.append(one)
            schedule.again(one)
        else:
            schedule.idle(one)
    return taken


def test_turns_go_round() -> None:
    """Each gets as many."""
    schedule: Schedule[str] = Schedule()
    for name in "abc":
        schedule.wake(name)
    assert turns(schedule, 9, dict.fromkeys("abc", 9)) == list("abcabcabc")


def test_who_was_idle_goes_first_once() -> None:
    """Then behind the others."""
    schedule: Schedule[str] = Schedule()
    left = dict.fromkeys("abn", 100)
    for name in "ab":
        schedule.wake(name)
    turns(schedule, 3, left)
    schedule.wake("n")
    assert turns(schedule, 5, left) == ["n", "b", "a", "n", "b"]


def test_little_things_said_often_do_not_starve_others() -> None:
    """Who wakes after each turn is not idle yet, and waits like everybody."""
    schedule: Schedule[str] = Schedule()
    left = {"bulk": 1000, "chatty": 0}
    schedule.wake("bulk")
    taken: Counter[str] = Counter()
    for _ in range(100):
        left["chatty"] = 1
        schedule.wake("chatty")
        taken.update(turns(schedule, 1, left))
    assert taken["bulk"] >= 49


def test_the_forgotten_has_no_turn() -> None:
    """And may wake again."""
    schedule: Schedule[str] = Schedule()
    left = dict.fromkeys("ab", 9)
    schedule.wake("a")
    schedule.wake("b")
    schedule.forget("a")
    assert turns(schedule, 2, left) == ["b", "b"]
    schedule.forget("b")
    assert not schedule
    schedule.wake("a")
    assert turns(schedule, 1, left) == ["a"]


def test_who_could_not_use_its_turn_is_next() -> None:
    """Before those who wait."""
    schedule: Schedule[str] = Schedule()
    for name in "ab":
        schedule.wake(name)
    one = schedule.next()
    assert one is not None
    schedule.first(one)
    assert turns(schedule, 2, dict.fromkeys("ab", 9)) == ["a", "b"]
