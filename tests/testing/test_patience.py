# SPDX-License-Identifier: MIT
"""How long is waited for other processes."""

from __future__ import annotations

from gmesh.testing.patience import STEP, Patience


def test_a_host_that_stood_still_uses_up_no_patience() -> None:
    """A minute between two looks counts as one step; what is looked at all the time ends as it says."""
    now = [100.0]
    patience = Patience(10.0, lambda: now[0])
    now[0] += 60.0
    assert patience.lasts()
    now[0] += 10.0 - STEP - 0.5
    assert patience.lasts()
    now[0] += 0.6
    assert not patience.lasts()
