# SPDX-License-Identifier: MIT
"""A bench reports its progress, and a child of it that dies ends it with that child's error."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.children import Child, ChildDied, Process, watch
from bench.daemon import Daemon
from bench.harness import alternate
from bench.links import common

ROOT = Path(__file__).resolve().parents[1]
FOR_EVER = [sys.executable, "-c", "import sys; sys.stdin.read()"]


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """Whoever still waits after ten minutes waits for ever."""

    def late(*_: object) -> None:
        raise TimeoutError("the bench waits for a child that is dead")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(600)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_b20_far_end_killed() -> None:
    """Whoever waits for the near end of a link learns that the far end was killed."""
    options = common("aesgcm", 0, count=10**9, pace=0.0)
    with pytest.raises(ChildDied, match=r"bench\.link_process far was killed by signal 9"):  # noqa: SIM117
        with Process("bench.link_process", "far", options) as far:
            port = far.line()["port"]
            with Process("bench.link_process", "prober", {**options, "port": port}) as near:
                os.kill(far.child.pid, signal.SIGKILL)
                near.line()


def test_error_of_the_child_is_told() -> None:
    """The error of the bench holds the last words and the status of the child that died."""
    dying = [sys.executable, "-c", "import sys; sys.exit('no more memory')"]
    with pytest.raises(ChildDied) as died, Child("quiet", FOR_EVER), Child("greedy", dying):
        watch(seconds=180)
    assert str(died.value) == "greedy ended with status 1\nno more memory"


def test_child_that_answers_and_ends_is_no_error() -> None:
    """A child that has ended with status 0 disturbs nobody who waits for another."""
    with Child("done", [sys.executable, "-c", ""]) as done, Child("quiet", FOR_EVER):
        assert done.ended(within=180)
        assert not watch(seconds=0.01)


def test_child_that_ends_without_its_answer() -> None:
    """Waiting for a line of a child that ends with status 0 instead is an error, too."""
    with pytest.raises(ChildDied, match=r"bench\.process nothing ended with status 0"):  # noqa: SIM117
        with Process("bench.process", "nothing", {}) as process:
            process.line()


def test_death_found_at_the_end() -> None:
    """A child that has died while nobody waited is noticed when it is closed."""
    with pytest.raises(ChildDied, match="greedy ended with status 3"):  # noqa: SIM117
        with Child("greedy", [sys.executable, "-c", "import sys; sys.exit(3)"]) as child:
            child.ended(within=180)


def test_lost_connection_is_explained_by_the_death() -> None:
    """An error that follows from the death of a child is replaced by the child's own."""
    with pytest.raises(ChildDied, match="greedy was killed by signal 15"):  # noqa: SIM117
        with Child("greedy", FOR_EVER) as child:
            child.child.terminate()
            raise ConnectionResetError


def test_word_to_a_dead_child() -> None:
    """Speaking to a child that has died ends the bench with the child's error, not with a broken pipe."""
    with pytest.raises(ChildDied, match="unknown role juggler"):  # noqa: SIM117
        with Process("bench.bare", "juggler", {}) as process:
            assert process.ended(within=180)
            process.say({"say": "start"})


def test_failure_in_the_reactor_ends_a_child(tmp_path: Path) -> None:
    """An exception in a callback of Twisted ends the child; it is not only logged."""
    requests = tmp_path / "requests"
    requests.write_bytes(pickle.dumps([[b"GET / HTTP/1.1\r\n\r\n"]]))
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].close()).start()
        options = {
            "ports": [server.getsockname()[1]],
            "requests": str(requests),
            "clients": 1,
            "shared": False,
        }
        with pytest.raises(ChildDied, match="a connection was closed before its last answer"):  # noqa: SIM117
            with Process("bench.authority_process", "client", options) as client:
                client.line()


def test_daemon_that_does_not_start(tmp_path: Path) -> None:
    """A node that ends instead of saying READY ends the bench with what the node said."""
    with pytest.raises(ChildDied, match="holds no certificate"):
        Daemon(tmp_path)


def test_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured next, and which round of how many, stands on standard error before it is measured."""
    monkeypatch.setattr("bench.harness.wait_until_quiet", lambda: None)
    said: list[str] = []

    def measure() -> dict[str, object]:
        said.append(capsys.readouterr().err.partition(" s  ")[2])
        return {}

    alternate("1,024 B", 2, {"floor": measure, "link": measure})
    assert said == [
        "1,024 B: round 1 of 2, floor\n",
        "1,024 B: round 1 of 2, link\n",
        "1,024 B: round 2 of 2, floor\n",
        "1,024 B: round 2 of 2, link\n",
    ]


def test_a_bench_ends_with_status_1() -> None:
    """Uncaught, the death of a child ends the bench with status 1 and the child's words alone."""
    code = (
        "import sys; from bench.children import Process\n"
        "with Process('bench.bare', 'juggler', {}) as child: child.line()"
    )
    bench = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert bench.returncode == 1
    assert bench.stderr.startswith("bench.bare juggler ended with status 1\n")
    assert "unknown role juggler" in bench.stderr
