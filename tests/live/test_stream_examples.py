# SPDX-License-Identifier: MIT
"""The programs over streams that the documentation shows, over two real nodes, run as its reader would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live.pair import two_nodes

from gmesh.testing.processes import ProcessMesh

pytestmark = pytest.mark.live

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
DEADLINE = 180
TWIST = (sys.executable, "-m", "twisted")


class Hosts:
    """
    Two hosts, each with its node, and the programs that run there.

    C{GMESH_STATE} tells a program of its node, as on a host that has it elsewhere than the Debian package.
    """

    def __init__(self, mesh: ProcessMesh) -> None:
        self.mesh = mesh
        self._running: list[subprocess.Popen[str]] = []

    def start(self, node: str, *command: str) -> subprocess.Popen[str]:
        """A program on the host of this node."""
        started = subprocess.Popen(
            command,
            cwd=EXAMPLES,
            env=os.environ | {"GMESH_STATE": str(self.mesh[node].state)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._running.append(started)
        return started

    def serve(self, service: str, *command: str) -> subprocess.Popen[str]:
        """A program on pump-07, once its service is offered; a name stays for a while after who had it."""
        self.mesh.wait(lambda: service not in self.offered())
        started = self.start("pump-07", *command)
        self.mesh.wait(lambda: service in self.offered())
        return started

    def offered(self) -> list[Any]:
        """The services of pump-07."""
        return [row["service"] for row in self.mesh["pump-07"].ask("GET", "/v1/services")]

    def run(self, *command: str) -> tuple[int, str]:
        """A program on the desk, to its end."""
        started = self.start("desk", *command)
        words, _ = started.communicate(timeout=DEADLINE)
        return started.returncode, words

    def stop(self) -> None:
        """End them all."""
        for each in self._running:
            if each.poll() is None:
                each.terminate()
            each.communicate(timeout=DEADLINE)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessMesh]:
    """Two nodes with a link."""
    with two_nodes(tmp_path_factory.mktemp("nodes")) as mesh:
        yield mesh


@pytest.fixture
def hosts(mesh: ProcessMesh) -> Iterator[Hosts]:
    """Where programs run."""
    made = Hosts(mesh)
    yield made
    made.stop()


def python(name: str, *arguments: str) -> tuple[str, ...]:
    """An example, as its own text says that it is started."""
    assert f"python {name} {' '.join(arguments)}\n".rstrip() in (EXAMPLES / name).read_text()
    return (sys.executable, name, *arguments)


def line(program: subprocess.Popen[str]) -> str:
    """The next that it writes."""
    assert program.stdout is not None
    return program.stdout.readline()


def test_lines_both_ways(hosts: Hosts) -> None:
    """Nobody serves: the dialler is told so; then the line comes back, and the server knows who called."""
    early, words = hosts.run(*python("lines.py", "ask", "gmesh:pump-07:lines", "hello"))
    assert early != 0
    assert "ServiceRefused" in words
    server = hosts.serve("lines", *python("lines.py", "serve", "gmesh:lines"))
    assert hosts.run(*python("lines.py", "ask", "gmesh:pump-07:lines", "hello")) == (0, "HELLO\n")
    assert line(server) == "desk calls\n"
    assert hosts.run(*python("blocking_line.py", "pump-07", "lines", "hello")) == (0, "HELLO\n")
    assert line(server) == "desk calls\n"


def test_a_blocking_program_is_told_why_not(hosts: Hosts) -> None:
    status, words = hosts.run(sys.executable, "blocking_line.py", "pump-07", "nothing", "hello")
    assert status == 1
    assert words.startswith("no-such-service: ")
    assert words.count("\n") == 1


def test_a_web_api(hosts: Hosts) -> None:
    """Klein knows who asks, and its log names them."""
    server = hosts.serve("http", *python("web_api.py", "serve", "gmesh:http"))
    got = hosts.run(*python("web_api.py", "get", "http://pump-07/level"))
    assert got == (0, "200 21.5, says the pump to desk\n")
    while "GET /level" not in (said := line(server)):
        assert said
    assert '"desk" - - ' in said


def test_a_directory_by_twist(hosts: Hosts, tmp_path: Path) -> None:
    """C{twist web} as it is, with another endpoint string; a directory redirects to itself."""
    (tmp_path / "readings").mkdir()
    (tmp_path / "readings" / "index.html").write_text("21.5")
    hosts.serve("http", *TWIST, "web", "--listen", "gmesh:http", "--path", str(tmp_path))
    assert hosts.run(sys.executable, "web_api.py", "get", "http://pump-07/readings") == (0, "200 21.5\n")


def test_commands_by_amp(hosts: Hosts) -> None:
    server = hosts.serve("sum", *python("amp_sum.py", "serve", "gmesh:sum"))
    assert hosts.run(*python("amp_sum.py", "ask", "gmesh:pump-07:sum", "4", "8")) == (0, "12\n")
    assert line(server) == "desk adds\n"


def test_objects_by_perspective_broker(hosts: Hosts) -> None:
    hosts.serve("counter", *python("pb_counter.py", "serve", "gmesh:counter"))
    assert hosts.run(*python("pb_counter.py", "count", "gmesh:pump-07:counter", "5")) == (0, "5\n")
    assert hosts.run(sys.executable, "pb_counter.py", "count", "gmesh:pump-07:counter", "2", "3") == (
        0,
        "7\n10\n",
    )
