# SPDX-License-Identifier: MIT
"""What the garbage collector of a daemon no longer looks at."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from gmesh.daemon.collector import keep_for_good


class Thing:
    """Refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def frozen() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("frozen")
def test_what_lives_is_walked_no_more_and_what_is_dead_is_gone_first() -> None:
    """A cycle from before is collected, and one from after; what lived is not among what is walked."""
    gone, kept = weakref.ref(Thing()), Thing()
    keep_for_good()
    assert gone() is None
    assert all(each is not kept for each in gc.get_objects())
    later = weakref.ref(Thing())
    gc.collect()
    assert later() is None
