# SPDX-License-Identifier: MIT
"""A state directory made by an issuer in this process."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from gmesh.testing.issuer import Enrolled, Issuer
from gmesh.trust.keys import NoiseKey

START = 1_800_000_000.0


class Wall:
    """A wall clock that stands still until it is set."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


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
