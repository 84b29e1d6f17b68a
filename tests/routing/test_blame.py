# SPDX-License-Identifier: MIT
"""Which relays are avoided for what was not answered, and which are not, though nothing was."""

from __future__ import annotations

import pytest

from gmesh.routing.blame import PathBlame
from gmesh.routing.limits import (
    BLAME_LEVELS,
    BLAME_LIFE,
    LOSS_PENALTY_FACTOR,
    MAX_SUSPECTS,
    SUSPICION_FACTOR,
    SUSPICION_LIFE,
)

X, Y, Z = (b"s", b"x", b"t"), (b"s", b"y", b"t"), (b"s", b"z", b"t")


@pytest.fixture
def blame() -> PathBlame:
    return PathBlame()


def test_silence_is_suspicion_at_once(blame: PathBlame) -> None:
    """Its relays cost more; the one suspected longest ago the least, so that it is tried first."""
    blame.unanswered(X, 0.0, False)
    assert blame.factors() == {b"x": SUSPICION_FACTOR}
    blame.unanswered(Y, 1.0, False)
    factors = blame.factors()
    assert 1 < factors[b"x"] < factors[b"y"]
    blame.unanswered(X, 2.0, False)
    factors = blame.factors()
    assert 1 < factors[b"y"] < factors[b"x"]


def test_c8_blame_comes_after_another_path_was_answered_and_lasts(blame: PathBlame) -> None:
    """Never a gap between suspicion and blame; and it ends."""
    blame.unanswered(X, 0.0, False)
    blame.answered(Y, 1.0, False)
    assert blame.factors() and blame.blamed(19.0) == []
    assert not blame.settle(SUSPICION_LIFE - 0.1)
    assert blame.settle(SUSPICION_LIFE)
    assert blame.blamed(SUSPICION_LIFE) == [b"x"] and blame.factors() == {b"x": LOSS_PENALTY_FACTOR}
    assert blame.due == SUSPICION_LIFE + BLAME_LIFE
    assert blame.settle(blame.due)
    assert not blame


def test_c8_each_further_blame_costs_more(blame: PathBlame) -> None:
    """Up to a bound; a relay that was blamed once and one that was blamed often are not alike."""
    now = 0.0
    for level in (*range(1, BLAME_LEVELS + 1), BLAME_LEVELS):
        blame.unanswered(X, now, False)
        blame.answered(Y, now + 1, False)
        now += SUSPICION_LIFE
        blame.settle(now)
        assert blame.factors() == {b"x": LOSS_PENALTY_FACTOR**level}


def test_c8_a_node_that_was_away_puts_no_relay_to_blame(blame: PathBlame) -> None:
    """Nothing was answered over any path; then something is, over one of those."""
    blame.unanswered(X, 0.0, False)
    blame.unanswered(Y, 1.0, False)
    assert blame.answered(X, 2.0, False)
    assert not blame


def test_c8_a_node_that_lost_its_keys_puts_no_relay_to_blame(blame: PathBlame) -> None:
    """New keys: that it was silent before is not the doing of relays, unless that was proved."""
    blame.unanswered(X, 0.0, False)
    blame.answered(Y, 1.0, True)
    assert blame.new_keys(b"t")
    assert not blame.new_keys(b"t")
    assert not blame


def test_c8_handshakes_are_compared_with_handshakes(blame: PathBlame) -> None:
    """A relay that drops those alone is found out by one over another path."""
    blame.unanswered(X, 0.0, True)
    blame.answered(Y, 1.0, True)
    assert not blame.new_keys(b"t")
    blame.settle(SUSPICION_LIFE)
    assert blame.blamed(SUSPICION_LIFE) == [b"x"]


def test_c8_a_link_found_dead_puts_no_relay_to_blame(blame: PathBlame) -> None:
    """The neighbours of a silent link say so after a while; other suspicions stay."""
    other = (b"s", b"x", b"u")
    blame.unanswered(X, 0.0, False)
    blame.unanswered(other, 0.0, False)
    blame.answered(Y, 1.0, False)
    blame.links_changed(lambda path: path != X)
    blame.settle(SUSPICION_LIFE)
    assert blame.blamed(SUSPICION_LIFE) == [] and not blame


def test_what_was_answered_meanwhile_clears_nothing(blame: PathBlame) -> None:
    """A relay that drops large frames passes on small ones: those under way, and those after the proof."""
    blame.unanswered(X, 5.0, False)
    assert not blame.answered(X, 4.9, False)
    blame.answered(Y, 6.0, False)
    assert not blame.answered(X, 7.0, False)
    blame.settle(5.0 + SUSPICION_LIFE)
    assert blame.blamed(30.0) == [b"x"]


def test_an_answer_to_what_was_sent_before_proves_nothing(blame: PathBlame) -> None:
    """Only what was sent after the silence compares the paths; nor does another node's answer."""
    blame.unanswered(X, 5.0, False)
    blame.answered(Y, 4.9, False)
    blame.answered((b"s", b"y", b"u"), 6.0, False)
    blame.settle(5.0 + SUSPICION_LIFE)
    assert not blame


def test_suspicions_are_bounded(blame: PathBlame) -> None:
    """However many nodes are silent."""
    for number in range(2 * MAX_SUSPECTS):
        blame.unanswered((b"s", b"x", number.to_bytes(8, "big")), 0.0, False)
    blame.settle(SUSPICION_LIFE - 1)
    assert len(blame._suspicions) == MAX_SUSPECTS
    blame.settle(SUSPICION_LIFE)
    assert not blame
