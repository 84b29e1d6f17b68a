# SPDX-License-Identifier: MIT
"""What tests of one network layer over test doubles share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mesh.network_doubles import TestWorld


@pytest.fixture
def world() -> Iterator[TestWorld]:
    """A world that leaves nothing behind."""
    made = TestWorld()
    yield made
    made.stop()
