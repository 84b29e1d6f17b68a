# SPDX-License-Identifier: MIT
"""Real daemons: an authority set back to yesterday, two with one key, and a node that runs on two hosts."""

from __future__ import annotations

import json
import shutil
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from live.node_rig import LISTEN, PATIENCE, ask, listening_port, until

from gmesh.trust.documents import Certificate, Crl, Status, parse_document
from gmesh.trust.limits import EPOCH

pytestmark = pytest.mark.live

ALARM = "ALARM another-history"


class Mesh:
    """An authority, and the running nodes b, an anchor, and a."""

    def __init__(
        self, gmesh: Callable[..., Any], start: Callable[..., Any], free_port: Callable[[], int], path: Path
    ) -> None:
        self.gmesh, self._start, self.path = gmesh, start, path
        self.state = path / "net/authority"
        self.port, anchor = free_port(), free_port()
        gmesh(
            *("init", "net", "--network", "lab", "--authority-url", f"http://127.0.0.1:{self.port}"),
            *("--anchor", f"b=127.0.0.1:{anchor}"),
        )
        self.authority = self.serve(self.state, self.port)
        self.nodes: dict[str, Any] = {}
        for name, role in (("b", "anchor"), ("a", "client")):
            self.join(name, role)
            listen = ["--listen", f"tcp:{anchor}:interface=127.0.0.1"] if name == "b" else []
            self.nodes[name] = start("gmesh-node", "--state", path / name, *listen)
            self.nodes[name].wait_for("local API")
        until(lambda: ask(path / "a", "GET", "/v1/peers")[1] != [])

    def serve(self, state: Path, port: int) -> Any:
        daemon = self._start(
            "gmesh-authority", "--state", state, "--listen", f"tcp:{port}:interface=127.0.0.1"
        )
        daemon.wait_for("READY| ready,")
        return daemon

    def admin(self, *arguments: str, check: bool = True) -> Any:
        return self.gmesh("admin", "--operator", "net/operator", *arguments, check=check)

    def join(self, name: str, role: str = "client") -> int:
        """@return: the serial of its certificate."""
        invite = self.admin("invite", "--name", name, "--role", role).stdout.strip()
        self.gmesh("join", invite, "--state", name)
        return self.serial(name)

    def serial(self, name: str) -> int:
        return parse_document((self.path / name / "certificate.json").read_bytes(), Certificate).body.serial

    def ready(self, port: int | None = None) -> str:
        """C{ready}, or why not."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port or self.port}/readyz", timeout=PATIENCE
            ) as answer:
                return str(json.load(answer)["status"])
        except urllib.error.HTTPError as error:
            with error:
                return str(json.load(error)["type"]).rpartition(":")[2]

    def status(self, name: str) -> Any:
        return parse_document((self.path / name / "status.json").read_bytes(), Status).body

    def hurry(self, name: str) -> None:
        """C{systemctl reload}, by which a node asks the authority for news now, not within a minute."""
        self.nodes[name].signal(signal.SIGHUP)

    def doctor(self, name: str) -> tuple[int, str]:
        ended = self.gmesh("doctor", "--state", name, check=False)
        return ended.returncode, ended.stdout


@pytest.fixture
def mesh(
    gmesh: Callable[..., Any], start: Callable[..., Any], free_port: Callable[[], int], tmp_path: Path
) -> Mesh:
    return Mesh(gmesh, start, free_port, tmp_path)


def test_d1_a_snapshot_put_back_is_stopped_and_restored(mesh: Mesh) -> None:
    """State of yesterday, whole: no serial twice, nobody good again, said once, one command out of it."""
    mesh.authority.stop()
    shutil.copytree(mesh.state, mesh.path / "yesterday")
    mesh.authority = mesh.serve(mesh.state, mesh.port)
    traitor = mesh.join("traitor")
    assert (
        "2 nodes hold CRL" in mesh.admin("revoke", "traitor", "--reason", "key-compromise", "--wait").stdout
    )
    held = mesh.status("b").number
    mesh.authority.stop()
    shutil.rmtree(mesh.state)
    shutil.copytree(mesh.path / "yesterday", mesh.state)
    mesh.authority = mesh.serve(mesh.state, mesh.port)
    mesh.authority.wait_for(ALARM, timeout=PATIENCE)
    assert mesh.ready() == "another-history"
    refused = mesh.admin("revoke", "a", "--wait", check=False)
    assert refused.returncode == 1 and "gmesh restore" in refused.stderr
    assert mesh.status("b").number >= held
    crl = parse_document((mesh.path / "b/crl.json").read_bytes(), Crl).body
    assert crl.revoked_keys or crl.revoked_nodes
    mesh.hurry("a")
    for name in ("a", "b"):
        mesh.nodes[name].wait_for("contradicts what it once signed", timeout=PATIENCE)
        code, said = mesh.doctor(name)
        assert code == 1 and "history" in said, said
    contradictions = mesh.nodes["b"].log.count("contradicts what it once signed")
    assert contradictions == 1 and mesh.nodes["b"].log.count("digest-mismatch") <= 2
    mesh.authority.stop()
    mesh.gmesh(
        *("restore", mesh.state / "authority.sqlite", "--state", mesh.state),
        *("--crl", mesh.path / "b/crl.json", "--policy", mesh.path / "b/policy.json"),
    )
    mesh.authority = mesh.serve(mesh.state, mesh.port)
    mesh.hurry("b")
    until(lambda: mesh.status("b").number // EPOCH > 0)
    assert mesh.ready() == "ready"
    assert mesh.join("c") // EPOCH > 0
    assert traitor // EPOCH == 0
    assert parse_document((mesh.path / "b/crl.json").read_bytes(), Crl).body.revoked_keys == crl.revoked_keys
    until(lambda: "history" not in mesh.doctor("b")[1])


def test_a6_two_authorities_with_one_key(mesh: Mesh, free_port: Callable[[], int]) -> None:
    """A cloned host: what one gave out, a node shows to the other, and that one stops."""
    mesh.authority.stop()
    shutil.copytree(mesh.state, mesh.path / "clone")
    mesh.authority = mesh.serve(mesh.state, mesh.port)
    port = free_port()
    clone = mesh.serve(mesh.path / "clone", port)
    for name in ("x", "y", "z"):
        mesh.join(name)
    number = json.loads(mesh.admin("revoke", "z", "--json").stdout)["crl_number"]
    until(lambda: ask(mesh.path / "a", "GET", "/v1/status")[1]["crl_number"] == number)
    place = mesh.path / "a/authority.json"
    place.write_text(json.dumps({"urls": [f"http://127.0.0.1:{port}"]}))
    mesh.nodes["a"].stop()
    mesh.nodes["a"] = mesh._start("gmesh-node", "--state", mesh.path / "a")
    clone.wait_for(ALARM, timeout=PATIENCE)
    assert mesh.ready(port) == "another-history"
    assert mesh.ready() == "ready", "the one that knows all goes on"
    assert mesh.doctor("a")[0] == 1


@dataclass(frozen=True)
class Twins:
    """
    The anchor a, and two hosts with the state of b: the older keeps its link, both logs say so.

    @ivar states: state directories, by name.
    """

    a: Any
    states: dict[str, Path]

    def check(self) -> None:
        """Each knows of it, and nothing flaps."""
        assert self.a.log.count("Link to b at ") <= 4
        assert "twin:b" in ask(self.states["a"], "GET", "/v1/doctor")[1]["faults"]
        assert "twin" in ask(self.states["clone"], "GET", "/v1/doctor")[1]["faults"]


@pytest.fixture
def twins(start: Callable[..., Any], enrol: Callable[..., Path], tmp_path: Path) -> Twins:
    states = {"a": enrol("a", "anchor"), "b": enrol("b", "client"), "clone": tmp_path / "clone"}
    shutil.copytree(states["b"], states["clone"])
    a = start("gmesh-node", "--state", states["a"], "--listen", LISTEN)
    peer = f"127.0.0.1:{listening_port(a)}"
    b = start("gmesh-node", "--state", states["b"], "--peer", peer)
    b.wait_for("Link to a at .* is up")
    clone = start("gmesh-node", "--state", states["clone"], "--peer", peer)
    clone.wait_for("another host runs with the keys of this node", timeout=PATIENCE)
    a.wait_for("b runs on two hosts with one key, at .* and ")
    until(lambda: [each["name"] for each in ask(states["b"], "GET", "/v1/peers")[1]] == ["a"])
    assert ask(states["clone"], "GET", "/v1/peers")[1] == []
    return Twins(a, states)


def test_c16_d8_two_hosts_with_one_state_directory(twins: Twins) -> None:
    """The older keeps its link, and both logs say so once."""
    twins.check()


@pytest.mark.soak
def test_c16_d8_messages_go_to_one_of_two_hosts(twins: Twins) -> None:
    """To the older; if the newer began a session with the sender, once that ends, within three minutes."""
    links = twins.a.log.count("Link to b at ")
    until(lambda: ask(twins.states["a"], "POST", "/v1/ping", {"node": "b", "count": 3})[0] == 200)
    assert twins.a.log.count("Link to b at ") == links
    twins.check()
