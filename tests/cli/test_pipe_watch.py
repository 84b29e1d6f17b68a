# SPDX-License-Identifier: MIT
"""Long commands whose reader goes: they end at once, not with a line that may never come."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cli.leg_end import LegEnd

from gmesh.client.message_frames import GivenMessage

DEADLINE = 180
LONG = {"receive": ["receive", "--service", "s"], "follow": ["peers", "--follow"]}


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Set at the end of the test: until then the node says nothing more."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("name", sorted(LONG))
def test_a_reader_that_goes(node_end: Any, over: threading.Event, tmp_path: Path, name: str) -> None:
    """After the first line nothing comes any more, and still the command ends: with 1, without a word."""
    leg = LegEnd(GivenMessage(0, "b", "bb" * 16, (), b"hi"))
    leg.stay = partial(over.wait, DEADLINE)

    def answer(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b'{"event":"added","name":"b"}\n')
        over.wait(DEADLINE)
        handler.close_connection = True

    node_end.answers |= {"GET /v1/messages": leg, "GET /v1/follow?what=peers": answer}
    command = [sys.executable, "-m", "gmesh.cli.main", *LONG[name], "--state", str(tmp_path / "node")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    try:
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(DEADLINE) == 1
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
