# SPDX-License-Identifier: MIT
"""What a new stream is granted, when others have much already."""

from __future__ import annotations

from gmesh.streams import limits
from gmesh.streams.budget import CreditBudget, CreditWindow


def opened(budget: CreditBudget, number: int) -> list[int]:
    """What so many streams are granted, one after the other, of which nobody reads."""
    granted = []
    for _ in range(number):
        granted.append(budget.first())
        CreditWindow(budget, granted[-1], 0.0)
    return granted


def test_a_peer_may_have_all_its_streams_though_nobody_reads() -> None:
    """The first get most; each gets something, and all together no more than what is a peer's."""
    whole = CreditBudget()
    granted = opened(CreditBudget(limits.PEER_CREDIT, whole), limits.MAX_PEER_STREAMS)
    assert granted == sorted(granted, reverse=True)
    assert set(granted) == {limits.FIRST_CREDIT, limits.SPARE_CREDIT, limits.LAST_CREDIT}
    assert sum(granted) == whole.used <= limits.PEER_CREDIT


def test_what_one_peer_has_leaves_something_for_others() -> None:
    """A second peer gets streams too, and the node grants no more than it can hold."""
    whole = CreditBudget()
    for _ in range(2):
        assert opened(CreditBudget(limits.PEER_CREDIT, whole), limits.MAX_PEER_STREAMS)[-1] > 0
    assert whole.used <= limits.NODE_CREDIT
