# SPDX-License-Identifier: MIT
"""What is cancelled may have come already, or never have been there."""

from __future__ import annotations

from twisted.internet.task import Clock

from gmesh.mesh.timers import cancel_calls


def test_what_still_waits_comes_no_more() -> None:
    """What has come, was cancelled before or is none is left alone."""
    clock, came = Clock(), list[int]()
    early, late, other = (clock.callLater(when, came.append, when) for when in (1, 2, 3))
    clock.advance(1)
    cancel_calls(early, None, late)
    cancel_calls(late)
    clock.advance(9)
    assert came == [1, 3] and not other.active()
