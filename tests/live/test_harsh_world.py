# SPDX-License-Identifier: MIT
"""No traceback, ever: every command, and both daemons, where users, rights, disks and streams are wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from authority.state_files import Keys, make_genesis, write_state
from live.harsh_commands import DISKS, WORLDS, commands
from live.node_rig import until

from gmesh.cli.main import gmesh as tree
from gmesh.testing.issuer import Issuer
from gmesh.testing.twistd import environment, twistd

pytestmark = pytest.mark.live

HERE = Path(__file__).resolve().parent
ENDS = (0, 1, 2, 3, 130)
DEADLINE = 180.0


def _unchanged(directory: Path) -> None:
    pass


def _locked(directory: Path) -> None:
    for file in directory.rglob("*"):
        file.chmod(0o500 if file.is_dir() else 0o400)


FULL = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
FULL += "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
DAEMON_WORLDS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "no input": ("import os, sys; os.close(0); sys.stdin = None", _unchanged),
    "no errors": ("import os, sys; os.close(2); sys.stderr = None", _unchanged),
    "full disk": (FULL, _unchanged),
    "read only": ("", _locked),
    "few files": ("import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))", _unchanged),
    "odd locale": ("import os; os.environ |= {'LC_ALL': 'xx_XX.nonsense', 'TZ': 'No/Where'}", _unchanged),
}
NAMES = {" ".join(path) for path, _ in commands(tree)}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directories of a node, an authority and an operator."""
    sandbox = tmp_path_factory.mktemp("harsh") / "sandbox"
    sandbox.mkdir()
    issuer = Issuer.unreachable()
    issuer.write_state(issuer.enrol("a", "client"), sandbox / "state")
    keys, now = Keys(), int(time.time())
    write_state(sandbox / "authority", keys, now)
    operator = sandbox / "operator"
    operator.mkdir(0o700)
    (operator / "operator.key").touch(0o600)
    (operator / "operator.key").write_bytes(keys.admin.to_pem())
    (operator / "genesis.json").write_bytes(make_genesis(keys, now).encode())
    (operator / "authority.json").write_text(json.dumps({"urls": ["http://127.0.0.1:1"]}))
    return sandbox


@pytest.fixture(scope="module")
def results(sandbox: Path) -> list[dict[str, Any]]:
    """What became of every command in every world."""
    command = [sys.executable, str(HERE / "harsh_commands.py"), str(sandbox)]
    if os.geteuid() == 0 and not subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        command = ["unshare", "-m", *command]
    paths = os.pathsep.join([environment()["PYTHONPATH"], str(HERE.parent)])
    done = subprocess.run(
        command, env=environment(PYTHONPATH=paths), stdout=subprocess.PIPE, timeout=1800, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("world", [*WORLDS, *DISKS])
def test_no_command_ends_with_a_traceback(results: list[dict[str, Any]], world: str) -> None:
    """It does its work, or ends with a status of the manual and says in one line of its own what is wrong."""
    seen = [each for each in results if each["world"] == world]
    for each in seen:
        if "skipped" in each:
            pytest.skip(each["skipped"])
    assert {each["command"] for each in seen} >= NAMES - {"demo"}
    wrong = [each for each in seen if trouble(each)]
    assert not wrong, "\n".join(f"{each['command']}: {trouble(each)}: {each}" for each in wrong)


def trouble(each: dict[str, Any]) -> str:
    """What is wrong with an end, or nothing."""
    text, lines = each["out"] + each["err"], each["err"].splitlines()
    if "Traceback" in text or "Exception ignored" in text:
        return "a traceback"
    if each["status"] not in ENDS:
        return "no status of ours"
    if each["status"] in (1, 2) and each["world"] not in ("no errors", "closed"):
        told = [line for line in lines if line.startswith("gmesh: ") and len(line) > 12]
        if not told and not (each["world"] == "reader gone" and not lines):
            return "nobody is told why"
    if each["status"] == 130 and each["command"] != "demo":
        return "it waits where nothing comes"
    return ""


# Both daemons, and the start of everything.


DAEMONS = {
    "gmesh-node": ["gmesh-node", "--state", "state"],
    "gmesh-authority": ["gmesh-authority", "--state", "authority", "--listen", "unix:http.sock"],
}
SOCKETS = {"gmesh-node": "state/node.sock", "gmesh-authority": "http.sock"}


def started(arguments: list[str], directory: Path, before: str) -> subprocess.Popen[str]:
    """A program; of a daemon, the process runs C{before} first."""
    return subprocess.Popen(
        [*twistd(before), *arguments] if arguments[0] in DAEMONS else arguments,
        cwd=directory,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("unit", DAEMONS)
@pytest.mark.parametrize("world", DAEMON_WORLDS)
def test_no_daemon_ends_with_a_traceback(sandbox: Path, tmp_path: Path, unit: str, world: str) -> None:
    """It runs until it is stopped, or says in one line of its own why it does not."""
    if world == "read only" and os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    directory = tmp_path / "here"
    shutil.copytree(sandbox, directory)
    before, prepare = DAEMON_WORLDS[world]
    prepare(directory)
    process = started(DAEMONS[unit], directory, before)
    until(lambda: process.poll() is not None or (directory / SOCKETS[unit]).exists())
    process.terminate()
    wrote, _ = process.communicate(timeout=DEADLINE)
    assert "Traceback" not in wrote, wrote
    if process.returncode == 1:
        assert [line for line in wrote.splitlines() if line.startswith(f"{unit}: ")], wrote
    else:
        assert process.returncode in (0, -signal.SIGTERM), wrote


FOUND = """
import gmesh.daemon.interrupts as interrupts
quietly = interrupts.end_quietly
interrupts.end_quietly = lambda: (quietly(), print("found", flush=True))
"""
"""Says when twistd has found the daemon: what it makes of a signal before is its own."""


def interrupted(arguments: list[str], directory: Path, moments: Sequence[float]) -> list[str]:
    """What is amiss after SIGINT and SIGTERM at these seconds of its start; of a daemon, once it is found."""
    wrong = []
    for moment in moments:
        running = [
            (number, started(arguments, directory, FOUND)) for number in (signal.SIGINT, signal.SIGTERM)
        ]
        if arguments[0] in DAEMONS:
            for _, process in running:
                assert process.stdout is not None
                assert process.stdout.readline() == "found\n"
        time.sleep(moment)
        for number, process in running:
            process.send_signal(number)
        for number, process in running:
            try:
                wrote, _ = process.communicate(timeout=DEADLINE)
            finally:
                process.kill()
            if re.search(r"Traceback(?s:.)*/gmesh/", wrote):
                wrong.append(f"{arguments[0]} after {moment:.2f} s, signal {number}: {wrote}")
    return wrong


STARTS = {
    "gmesh": [sys.executable, "-m", "gmesh.cli.start", "doctor", "--state", "state"],
    **DAEMONS,
}


@pytest.mark.parametrize("name", STARTS)
def test_an_interrupted_start_leaves_no_traceback_of_ours(sandbox: Path, tmp_path: Path, name: str) -> None:
    """^C, or a service manager that changes its mind about a daemon, at any moment."""
    shutil.copytree(sandbox, tmp_path / "here")
    assert interrupted(STARTS[name], tmp_path / "here", [0.2 * step for step in range(5)]) == []


@pytest.mark.soak
@pytest.mark.parametrize("name", STARTS)
def test_a_start_interrupted_every_20_ms(sandbox: Path, tmp_path: Path, name: str) -> None:
    """The same, from its first instruction until it runs."""
    shutil.copytree(sandbox, tmp_path / "here")
    assert interrupted(STARTS[name], tmp_path / "here", [0.02 * step for step in range(100)]) == []
