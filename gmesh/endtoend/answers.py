# SPDX-License-Identifier: MIT
"""
How much one peer can make this node do beyond taking the messages it may send. Pure.

A message of 17 bytes can ask for an answer, and a thousand of them share one seal: so answers have a budget,
asked before the work.  What is left of a sealed frame when it is spent is dropped, as if it were lost; an
honest sender slows down for that, and repeats what is acknowledged.

Tests: C{tests/endtoend/test_answers.py}.
"""

from __future__ import annotations

from gmesh.endtoend.limits import ANSWER_BURST, ANSWER_RATE, DENIAL_BURST, DENIAL_RATE
from gmesh.token_bucket import TokenBucket

__all__ = ["AnswerBudget"]


class AnswerBudget:
    """
    The budget of one peer.

    @param now: when it is full.
    @ivar work: called with the time: may one more inner frame be looked at that is no message without
        acknowledgement?  Or with how many such frames it costs as much as.
    """

    __slots__ = ("_denials", "work")

    def __init__(self, now: float) -> None:
        self.work = TokenBucket(ANSWER_RATE, ANSWER_BURST, now).take
        self._denials = TokenBucket(DENIAL_RATE, DENIAL_BURST, now)

    def deny(self, now: float) -> bool:
        """True if the peer may be told once more that the policy allows it nothing of a service."""
        return self._denials.take(now)
