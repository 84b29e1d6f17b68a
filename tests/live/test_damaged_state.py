# SPDX-License-Identifier: MIT
"""A real daemon over a damaged file, a full disk, an old certificate: it runs, or a line says what to do."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from random import SystemRandom
from typing import Any

import pytest
from live.node_rig import LISTEN, ask, listening_port, until

from gmesh.testing.issuer import Issuer
from gmesh.testing.processes import ProcessMesh, ProcessNode
from gmesh.testing.twistd import twistd

pytestmark = pytest.mark.live

NEEDED = ("identity.key", "noise.key", "certificate.json", "genesis.json")
FETCHED = ("crl.json", "policy.json", "status.json")
KEPT = ("floors.json", "state.json", "authority.json")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def into_a_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


HARMS: dict[str, Callable[[Path], object]] = {
    "cut": cut,
    "removed": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "garbage": lambda file: file.write_bytes(bytes(range(256))),
    "directory": into_a_directory,
}
DAILY = ("cut",)


def each_day(names: list[str]) -> list[object]:
    """The first of these in the suite, the others with C{make soak}: each is a process of its own."""
    return [name if name in DAILY else pytest.param(name, marks=pytest.mark.soak) for name in names]


@pytest.fixture
def node(tmp_path: Path) -> ProcessNode:
    """One that was up: every file is there."""
    made = ProcessMesh(tmp_path).add("a", "anchor")
    for name, text in zip(KEPT, ("{}", '{"record_sequence": 7}', '{"urls": []}'), strict=True):
        (made.state / name).write_text("\n" * 64 + text)
    return made


def lines_of_a_refusal(node: ProcessNode) -> list[str]:
    """What the daemon said before it ended by itself."""
    command = [*node._command, *node._arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    return [line for line in ended.stderr.splitlines() if line.strip()]


@pytest.mark.parametrize("harm", each_day(list(HARMS)))
@pytest.mark.parametrize("name", NEEDED)
def test_what_it_cannot_be_without(node: ProcessNode, name: str, harm: str) -> None:
    """It ends at once with one line: the file, and what to do."""
    HARMS[harm](node.state / name)
    [line] = lines_of_a_refusal(node)
    assert line.startswith("gmesh-node: ")
    assert name.partition(".")[0] in line
    assert "gmesh join -" in line or "restore" in line


@pytest.mark.parametrize("name", NEEDED[:2])
def test_a_key_that_others_may_read(node: ProcessNode, name: str) -> None:
    """The line is the command that mends it."""
    (node.state / name).chmod(0o644)
    [line] = lines_of_a_refusal(node)
    assert re.search(rf"chmod 0600 .*{name}", line)


@pytest.mark.parametrize("harm", each_day(list(HARMS)))
def test_what_comes_back_by_itself(node: ProcessNode, harm: str) -> None:
    """With every other file damaged at once it runs, says one line for each, and stops cleanly."""
    damaged = (*FETCHED, *KEPT)
    for name in damaged:
        HARMS[harm](node.state / name)
    node.start()
    try:
        until(node.reaches)
        assert node.ask("GET", "/v1/status")["name"] == "a"
    finally:
        process = node._process
        node.stop()
    assert process is not None
    assert process.returncode in (0, -signal.SIGTERM)
    log = node.log.read_text()
    assert "Traceback" not in log
    if harm != "removed":
        for name in damaged:
            assert len(re.findall(rf"{name} cannot be used", log)) == 1, name


FULL = twistd("import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))")
"""No file may have a byte more: to the daemon that is a full disk."""


def test_a_full_disk(start: Callable[..., Any], enrol: Callable[..., Path], issuer: Issuer) -> None:
    """A revocation is in force all the same, a line says what is not on disk; with room again it is."""
    states = {"a": enrol("a", "anchor"), "b": enrol("b", "client")}
    a = start("gmesh-node", "--state", states["a"], "--listen", LISTEN)
    peer = f"127.0.0.1:{listening_port(a)}"
    b = start("gmesh-node", "--state", states["b"], "--peer", peer, program=FULL)
    b.wait_for("Link to a at .* is up")
    crl = issuer.revoke(issuer.enrol("c", "client"))
    (states["a"] / "crl.json").write_bytes(crl.encode())
    a.signal(signal.SIGHUP)
    b.wait_for("crl is in force but not on disk: .*File too large")
    assert ask(states["b"], "GET", "/v1/status")[1]["crl_number"] == crl.body.number
    assert [peer["name"] for peer in ask(states["b"], "GET", "/v1/peers")[1]] == ["a"]
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(b.process.pid, resource.RLIMIT_FSIZE, unlimited)
    b.stop()
    assert json.loads((states["b"] / "crl.json").read_text())["signed"]["number"] == crl.body.number
    assert json.loads((states["b"] / "state.json").read_text())["record_sequence"] > 0


def test_a_certificate_that_has_ended(tmp_path: Path) -> None:
    """It runs on to renew it, answers on its socket what it is worth, and one line says so."""
    mesh = ProcessMesh(tmp_path)
    mesh.issuer = Issuer(lambda: time.time() - 3 * 86400, SystemRandom(), [], ["http://127.0.0.1:9"])
    node = mesh.add("a", "anchor")
    node.start()
    try:
        until(node.reaches)
        assert node.ask("GET", "/v1/status")["certificate"]["standing"] == "expired"
    finally:
        node.stop()
    log = node.log.read_text()
    assert len(re.findall("own certificate is no good now, others will refuse it", log)) == 1
    assert "Traceback" not in log
