# SPDX-License-Identifier: MIT
"""Twisted's own tests of transports, from the installed Twisted, pass over streams of the mesh."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def sockets() -> Iterator[str]:
    """Where two nodes listen."""
    with TemporaryDirectory() as directory:
        nodes = subprocess.Popen(
            [sys.executable, "-m", "client.two_nodes", directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": f"{TESTS}:{TESTS.parent}"},
        )
        assert nodes.stdin is not None
        assert nodes.stdout is not None
        with nodes:
            try:
                assert nodes.stdout.readline() == b"ready\n"
                yield directory
            finally:
                nodes.stdin.close()
                nodes.wait(180)


def test_twisteds_own_tests_of_transports_pass(sockets: str, tmp_path: Path) -> None:
    """On every reactor that it can build here: select, poll and epoll at least."""
    pytest.importorskip("hamcrest")  # which Twisted's tests want
    pytest.importorskip("twisted.internet.test.connectionmixins")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "twisted.trial",
            "--temp-directory",
            str(tmp_path / "trial"),
            "client.twisted_mixins",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": f"{TESTS}:{TESTS.parent}", "SOCKETS": sockets},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (passed,) = re.findall(r"successes=(\d+)", done.stdout)
    assert int(passed) >= 60
