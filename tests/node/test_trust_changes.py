# SPDX-License-Identifier: MIT
"""Revocation cuts in one turn: the steps, their order, and that none keeps another from its work."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from gmesh.errors import SendRefused
from gmesh.node.runtime import NodeRuntime
from gmesh.node.trust_changes import TrustChanges
from gmesh.testing.mesh import MemoryMesh
from gmesh.wire.frames import Kind
from gmesh.wire.paths import PathHeader, pack_path_frame

PAGE = Path(__file__).parents[2] / "docs" / "architecture.rst"
SECTION = PAGE.read_text().split("A change of trust\n")[1].split("\nThree lives\n")[0]
STEPS = re.findall(r"^#\. ``([a-z_.]+)``", SECTION, re.MULTILINE)
CUTS = {"cut_neighbours", "sessions.trust_changed"}


@pytest.fixture
def mesh() -> Iterator[MemoryMesh]:
    """a - b - c, where b has a link to c and sealed sessions with c and d; d is behind c."""
    made = MemoryMesh(seed=3)
    for name, peers in (("a", []), ("b", ["a"]), ("c", ["b"]), ("d", ["c"])):
        made.add(name, "relay", peers=peers)
    made.start()
    made.run_until(lambda: made["b"].reaches("a", "c", "d"))
    yield made
    made.stop()


def test_no_link_queues_frames_of_a_revoked_node(mesh: MemoryMesh) -> None:
    """Nor of one that is not a neighbour: what waits from and to it goes in this turn, and all else stays."""
    a, b, c, d = (mesh[name].runtime.member.handle for name in "abcd")
    link = mesh["b"].runtime.neighbours.links[c]

    def queue(source: bytes, target: bytes) -> int:
        frame = pack_path_frame(Kind.E2E_DATA, PathHeader((source, b, c, target), 1, 1, 2), bytes(15_000))
        before = link.backlog
        assert all(link.send_data(frame, source + target) for _ in range(10))
        return link.backlog - before

    queue(a, d)
    queue(d, a)
    others = queue(a, c)
    assert link.backlog > others > 0
    mesh.issuer.revoke(mesh["d"].enrolled)
    mesh["b"].runtime.member.trust.offer(mesh.issuer.crl, mesh.wall())
    assert link.backlog == others


def place(node: NodeRuntime, step: str) -> tuple[Any, str]:
    """The object that has a step of the page as a method, and the method's name."""
    *owners, name = step.split(".")
    found: Any = node._changes
    for owner in owners:
        found = getattr(found, owner if hasattr(found, owner) else f"_{owner}")
    return found, name if hasattr(found, name) else f"_{name}"


def test_the_page_lists_every_step() -> None:
    """docs/architecture.rst names what the method calls, all of it, in its order."""
    tree = ast.parse(dedent(inspect.getsource(TrustChanges.document_changed)))
    [steps] = [node.iter for node in ast.walk(tree) if isinstance(node, ast.For)]
    assert isinstance(steps, ast.Tuple)
    called = [ast.unparse(step).removeprefix("self.").removeprefix("_") for step in steps.elts]
    assert called == STEPS


@pytest.mark.parametrize("kind", ["crl", "policy", "status"])
def test_a_document_takes_the_steps_of_the_page(
    mesh: MemoryMesh, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Each step is taken once, within the call that brings the document, in the order of the page."""
    node, taken = mesh["b"].runtime, list[str]()

    def watch(step: str) -> None:
        owner, name = place(node, step)
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda kind: taken.append(step) or real(kind))

    for step in STEPS:
        watch(step)
    mesh.issuer.revoke(mesh.issuer.enrol("x", "client"))
    mesh.issuer.publish_policy()
    node.member.trust.offer(getattr(mesh.issuer, kind), mesh.wall())
    assert taken == STEPS


@pytest.mark.parametrize("broken", STEPS)
def test_a_step_that_fails_keeps_no_other_from_cutting(
    mesh: MemoryMesh,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
    flush_logged_errors: Callable[..., list[Any]],
) -> None:
    """Whatever is broken, link and session of a revoked node end in this turn; the fault is logged."""
    node = mesh["b"].runtime
    mesh["c"].runtime.datagrams.register("log", lambda message: None)
    mesh.result(node.datagrams.send("c", "log", b""))

    def fail(kind: str) -> None:
        raise RuntimeError(f"{broken} is broken")

    monkeypatch.setattr(*place(node, broken), fail)
    mesh.issuer.revoke(mesh["c"].enrolled)
    node.member.trust.offer(mesh.issuer.crl, mesh.wall())
    cut = {
        "cut_neighbours": mesh["b"].link_names == ["a"],
        "sessions.trust_changed": node._sessions.established == 0,
    }
    assert [step for step in CUTS - {broken} if not cut[step]] == []
    assert [str(failure.value) for failure in flush_logged_errors(RuntimeError)] == [f"{broken} is broken"]


def test_who_is_called_back_by_a_cut_finds_the_new_decisions(mesh: MemoryMesh) -> None:
    """An application that loses one revoked peer cannot, in that very turn, send to another revoked one."""
    node, got, outcome = mesh["b"].runtime, list[bytes](), list[str]()
    mesh["c"].runtime.datagrams.register("log", lambda message: None)
    mesh["d"].runtime.datagrams.register("log", lambda message: got.append(message.data))
    flow = node.datagrams.open("d", "log")

    def lost(failure: Any) -> None:
        outcome.append(failure.value.reason)
        try:
            flow.send(b"late")
        except SendRefused as refusal:
            outcome.append(refusal.reason)

    mesh.result(node.datagrams.send("c", "log", b""))
    flow.send(b"first")
    mesh.run(1)
    flow.send(b"admitted just now")
    node.datagrams.send("c", "log", b"").addErrback(lost)
    for name in ("c", "d"):
        mesh.issuer.revoke(mesh[name].enrolled)
    node.member.trust.offer(mesh.issuer.crl, mesh.wall())
    mesh.run(1)
    assert outcome == ["revoked", "revoked"]
    assert b"late" not in got
