# SPDX-License-Identifier: MIT
"""gmesh demo, run as a newcomer runs it: the whole system, then nothing left behind."""

from __future__ import annotations

import math
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

pytestmark = pytest.mark.live

DEADLINE = 180.0
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def demo(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """A function that starts the demonstration with its files below C{tmp_path}."""

    def starter(*options: str, **environment: str) -> subprocess.Popen[str]:
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), **environment}
        return subprocess.Popen(
            [sys.executable, "-m", "gmesh.cli.main", "demo", *options],
            env=variables,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    return starter


def _daemons_below(directory: Path) -> list[int]:
    """The processes whose command line names something below a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(directory) in command:
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("bound", [math.inf, pytest.param(30, marks=pytest.mark.soak)])
def test_whole_story(demo: Callable[..., subprocess.Popen[str]], tmp_path: Path, bound: float) -> None:
    """Messages pass b both ways, b sees headers only, c is cut off, and nothing is left, (in under 30 s)."""
    began = time.monotonic()
    process = demo()
    out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (0, ""), out
    assert time.monotonic() - began < bound
    assert "\x1b" not in out
    for text in (
        r"a > b > c: .* arrived, acknowledged after [\d.]+ ms",
        r"c > b > a: .* arrived, acknowledged after [\d.]+ ms",
        r"│ +a +│ ━━━━▶ │ +b +│ ━━━━▶ │ +c +│",
        r"b has cut its session with c: \d+ ms after",
        r"a > c refused, \d+ ms after: \w+",
        r"│ +a +│ ───── │ +b +│ ──✗── │ +c +│",
        r"b +headers only, as it says itself:\n +a > b > c \(E2E_INIT, \d+ bytes\), c > b > a \(E2E_RESP",
        r"all daemons stopped, all files removed",
    ):
        assert re.search(text, out), (text, out)
    assert list(tmp_path.iterdir()) == []
    assert _daemons_below(tmp_path) == []


def test_plain_ascii(demo: Callable[..., subprocess.Popen[str]]) -> None:
    """Where only ASCII can be shown, the picture is drawn in ASCII."""
    process = demo(PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (0, "")
    assert re.search(r"\| +a +\| ====> \| +b +\| ====> \| +c +\|", out), out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(demo: Callable[..., subprocess.Popen[str]], tmp_path: Path, number: int) -> None:
    """Interrupted with daemons running, it still stops them and removes its files."""
    process = demo(PYTHONUNBUFFERED="1")
    assert process.stdout is not None
    for line in process.stdout:
        if "b runs" in line:
            break
    assert _daemons_below(tmp_path)
    process.send_signal(number)
    _, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, "Traceback" in err) == (130, False)
    assert _daemons_below(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_keep(demo: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    """--keep leaves a mesh that the printed commands can talk to, and the printed command ends."""
    process = demo("--keep")
    out, err = process.communicate(timeout=DEADLINE)
    try:
        assert (process.returncode, err) == (0, ""), out
        commands = dict.fromkeys(line.strip() for line in out.splitlines() if line.startswith("  "))
        (export,) = [line for line in commands if line.startswith("export ")]
        shell = f'{export}; gmesh() {{ {sys.executable} -m gmesh.cli.main "$@"; }}; gmesh ping c --count 1'
        ping = subprocess.run(
            ["bash", "-c", shell],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=True,
        )
        assert ping.stdout.startswith("answer from c: ")
        (expose,) = [line for line in commands if "gmesh expose" in line]
        (opened,) = [line for line in commands if "gmesh connect" in line]
        assert "<h1>4.2 bar</h1>" in _page(f"{export}; {expose}", f"{export}; {opened}")
        (end,) = [line for line in commands if line.startswith("kill ")]
        subprocess.run(["bash", "-c", end], check=True, timeout=DEADLINE)
    finally:
        left = _daemons_below(tmp_path)
        for pid in left:
            _wait_for_end(pid)
    assert _daemons_below(tmp_path) == []


def _page(expose: str, opened: str) -> str:
    """What the second command prints while the first runs: two programs, which both say when they serve."""
    gmesh = f'gmesh() {{ {sys.executable} -m gmesh.cli.main "$@"; }}; '
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        ["bash", "-c", f"{gmesh}{expose} wait"],
        env={**environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as serving:
        try:
            assert serving.stdout is not None
            _await_lines(serving.stdout, "Serving HTTP ", "exposing ")
            page = subprocess.run(
                ["bash", "-c", gmesh + opened],
                env=environment,
                capture_output=True,
                text=True,
                timeout=DEADLINE,
            )
            assert page.returncode == 0, page.stderr
            return page.stdout
        finally:
            os.killpg(serving.pid, signal.SIGTERM)


def _await_lines(output: Iterable[str], *beginnings: str) -> None:
    """Read until a line with each of these beginnings has come, in any order."""
    missing = set(beginnings)
    for line in output:
        missing -= {beginning for beginning in missing if line.startswith(beginning)}
        if not missing:
            return
    raise AssertionError(f"ended before it said: {missing}")


def _wait_for_end(pid: int, seconds: float = 60.0) -> None:
    """Wait for a process that is not our child; kill it when it does not end."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poller = select.poll()
    poller.register(handle)
    if not poller.poll(seconds * 1000):
        os.kill(pid, signal.SIGKILL)
    os.close(handle)
