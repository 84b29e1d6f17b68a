# SPDX-License-Identifier: MIT
"""What tests of nodes share: whole nodes in a line, and a state directory with its issuer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from gmesh.testing.issuer import Enrolled, Issuer
from gmesh.testing.mesh import MemoryMesh
from gmesh.trust.keys import NoiseKey

START = 1_800_000_000.0


class Wall:
    """A wall clock that stands still until it is set."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def mesh() -> Iterator[MemoryMesh]:
    """a - b - c, whose ends reach each other; nothing is left of it after the test."""
    made = MemoryMesh.line("a", "b", "c")
    made.run_until(lambda: made["a"].reaches("c") and made["c"].reaches("a"))
    yield made
    made.stop()
    assert made.clock.getDelayedCalls() == []
    assert made.network.open_connections() == []


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def issuer(wall: Wall) -> Issuer:
    return Issuer(wall, Random(7), [("a", "tcp:a.example:7443")], ["http://authority.example"])


@pytest.fixture
def node(issuer: Issuer) -> Enrolled:
    return issuer.enrol("a", "anchor")


@pytest.fixture
def directory(tmp_path: Path, issuer: Issuer, node: Enrolled) -> Path:
    """What C{gmesh join} leaves behind."""
    path = tmp_path / "state"
    issuer.write_state(node, path, cached=False)
    (path / "authority.json").write_text(json.dumps({"urls": ["http://first.example"]}))
    return path


@pytest.fixture
def another_noise_key() -> NoiseKey:
    return NoiseKey.from_private(bytes(range(32)))
