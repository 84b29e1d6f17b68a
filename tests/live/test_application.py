# SPDX-License-Identifier: MIT
"""The program that the documentation shows, over two real nodes, run as its reader would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gmesh.testing.processes import ProcessMesh

pytestmark = pytest.mark.live

PROGRAM = Path(__file__).resolve().parents[2] / "docs" / "examples" / "readings.py"
DEADLINE = 180


@pytest.fixture
def mesh(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[ProcessMesh]:
    """Two nodes with a link."""
    port = free_port()
    mesh = ProcessMesh(tmp_path)
    mesh.add("boiler", "anchor", arguments=["--listen", f"tcp:{port}:interface=127.0.0.1"])
    mesh.add("gauge", "client", arguments=["--peer", f"127.0.0.1:{port}"])
    try:
        for node in mesh.nodes.values():
            node.start()
        mesh.wait(lambda: mesh["gauge"].reaches("boiler"))
        yield mesh
    finally:
        mesh.stop()


def program(mesh: ProcessMesh, node: str, *arguments: str) -> subprocess.Popen[str]:
    socket = str(mesh[node].state / "node.sock")
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), socket, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_short_programs(mesh: ProcessMesh) -> None:
    """One collects and answers, one reports; what is no reading is refused in the words of the collector."""
    examples = PROGRAM.parent

    def run(node: str, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(examples / command[0]), *command[1:]],
            env={**os.environ, "GMESH_STATE": str(mesh[node].state)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    collector = run("boiler", "collect.py")
    try:
        mesh.wait(lambda: serves(mesh, "boiler", "readings"))
        for value, words in [("21.5", "warmest so far: 21.5\n"), ("19", "warmest so far: 21.5\n")]:
            assert run("gauge", "report.py", "boiler", value).communicate(timeout=DEADLINE) == (words, "")
        refused = run("gauge", "report.py", "boiler", "hot")
        _, words = refused.communicate(timeout=DEADLINE)
        assert refused.returncode == 1 and words.endswith(": a reading is a number\n")
        assert collector.stdout is not None
        assert [collector.stdout.readline() for _ in range(2)] == ["gauge: 21.5\n", "gauge: 19.0\n"]
    finally:
        collector.terminate()
        collector.communicate(timeout=DEADLINE)


def serves(mesh: ProcessMesh, node: str, service: str) -> bool:
    rows = mesh[node].ask("GET", "/v1/services")
    return any(row["service"] == service and row["messages"] for row in rows)


def test_readings_arrive_and_a_missing_collector_is_told(mesh: ProcessMesh) -> None:
    """
    Nobody collects: the reporter is told so; somebody does: he has the name and the value, once, and goes on
    after a message that is no reading.
    """
    early = program(mesh, "gauge", "report", "boiler", "20.5")
    _, words = early.communicate(timeout=DEADLINE)
    assert early.returncode == 1
    assert words.startswith("not sent: ") and "readings" in words and words.count("\n") == 1
    collector = program(mesh, "boiler", "collect")
    try:
        mesh.wait(lambda: serves(mesh, "boiler", "readings"))
        told = program(mesh, "gauge", "report", "boiler", "21.5")
        words, _ = told.communicate(timeout=DEADLINE)
        assert told.returncode == 0 and re.fullmatch(r"arrived after \d+(\.\d+)? ms\n", words)
        assert collector.stdout is not None
        assert collector.stdout.readline() == "gauge: 21.5\n"
        for value, status in (("hot", 0), ("22", 0)):
            told = program(mesh, "gauge", "report", "boiler", value)
            told.communicate(timeout=DEADLINE)
            assert told.returncode == status
        assert collector.stdout.readline() == "gauge: 22.0\n"
    finally:
        collector.terminate()
        collector.communicate(timeout=DEADLINE)
