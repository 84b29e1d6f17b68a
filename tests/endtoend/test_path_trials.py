# SPDX-License-Identifier: MIT
"""How much silence makes a path a bad one."""

from __future__ import annotations

import random

from gmesh.endtoend.path_trials import PathTrials

PATH, OTHER = (b"s", b"x", b"t"), (b"s", b"y", b"t")


def left_after(share: float, seed: int, most: int) -> int | None:
    """Transmissions until a path that loses this share is left."""
    trials, rng = PathTrials(), random.Random(seed)
    for number in range(most):
        if rng.random() >= share:
            trials.answered(PATH)
        elif trials.lost(PATH):
            return number
    return None


def test_c8_one_in_ten_is_noticed() -> None:
    """Within two hundred transmissions, whatever the dice say."""
    found = [left_after(0.1, seed, 200) for seed in range(50)]
    assert None not in found


def test_one_in_a_thousand_is_weather() -> None:
    """A path is not left for what every network loses now and then."""
    assert [left_after(0.001, seed, 20_000) for seed in range(20)] == [None] * 20


def test_late_answers_are_no_losses() -> None:
    """A path whose round trip grew is not a lossy one."""
    trials = PathTrials()
    for _ in range(50):
        assert not trials.lost(PATH)
        trials.late(PATH)


def test_a_path_answers_for_itself() -> None:
    """What another one lost does not count."""
    trials = PathTrials()
    for _ in range(10):
        for path in (PATH, OTHER):
            assert not trials.lost(path)
            assert not trials.lost(path)
