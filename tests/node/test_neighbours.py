# SPDX-License-Identifier: MIT
"""One neighbour of a whole node: what acts on its link, in which order; one budget for all it gets wrong."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from gmesh.mesh.limits import FAILURE_BURST
from gmesh.node.runtime import NodeRuntime
from gmesh.testing.mesh import MemoryMesh
from gmesh.wire.frames import Kind
from gmesh.wire.messages import CertAnswer, DocumentPush

PAGE = Path(__file__).parents[2] / "docs" / "architecture.rst"
SECTION = PAGE.read_text().split("\nLinks\n")[1].split("\nRoutes\n")[0]
OBSERVERS = re.findall(r"^#\. ``([a-z_.]+)``", SECTION, re.MULTILINE)


@pytest.fixture
def mesh() -> Iterator[MemoryMesh]:
    """a - b."""
    made = MemoryMesh(seed=3)
    made.add("a", "relay")
    made.add("b", "relay", peers=["a"])
    made.start()
    made.run_until(lambda: made["b"].reaches("a"))
    yield made
    made.stop()


def test_the_page_lists_every_observer() -> None:
    """docs/architecture.rst names what acts on a link that comes up, all of it, in its order."""
    tree = ast.parse(dedent(inspect.getsource(NodeRuntime.__init__)))
    [call] = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and "observe" in ast.unparse(node.func)
    ]
    given = [ast.unparse(each).removeprefix("self.").removeprefix("_") for each in call.args]
    assert given == OBSERVERS


@pytest.mark.parametrize("each", [FAILURE_BURST // 2, FAILURE_BURST // 2 + 1])
def test_commands_and_certificates_spend_one_budget(mesh: MemoryMesh, each: int) -> None:
    """So many that do not verify end the link, whatever kinds of frame they came in."""
    [neighbour] = mesh["a"].runtime.neighbours
    for _ in range(each):
        neighbour.send(Kind.COMMAND, DocumentPush.of(1, b"{}").encode())
        neighbour.send(Kind.CERT, CertAnswer((b"{}",)).encode())
    mesh.run(1)
    counters = mesh["b"].runtime.counters()
    assert counters["certificate-malformed"] >= FAILURE_BURST // 2
    assert ("too-many-failures" in counters) is (each > FAILURE_BURST // 2)
