# SPDX-License-Identifier: MIT
"""What the tests of programs' ends share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from tempfile import TemporaryDirectory

import pytest_twisted
from client.fake_daemon import FakeDaemon


@pytest_twisted.async_yield_fixture
async def daemon() -> AsyncIterator[FakeDaemon]:
    """One that runs."""
    with TemporaryDirectory() as directory:
        made = FakeDaemon(f"{directory}/node.sock")
        await made.start()
        yield made
        await made.stop()
