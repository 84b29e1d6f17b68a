# SPDX-License-Identifier: MIT
"""
Fixtures for tests of applications: C{pytest_plugins = ["gmesh.testing.pytest_plugin"]} in C{conftest.py}.

Nothing is loaded into anybody's tests unasked.  After each test every node is stopped, and a timer or a
connection that is left over fails it.
Tests: C{tests/testing/test_examples.py}, C{tests/testing/test_memory_clients.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gmesh.testing.engine_mesh import EngineMesh
from gmesh.testing.mesh import MemoryMesh

__all__ = ["engine_mesh", "gmesh_seed", "joined_mesh", "memory_mesh"]


@pytest.fixture
def gmesh_seed() -> int:
    """The seed of the meshes of a test; override it, or parametrize it, to try others."""
    return 0


@pytest.fixture
def memory_mesh(gmesh_seed: int) -> Iterator[Callable[..., MemoryMesh]]:
    """A function that makes a L{MemoryMesh}: whole nodes with real Noise on one clock."""
    made: list[MemoryMesh] = []

    def make(**options: Any) -> MemoryMesh:
        mesh = MemoryMesh(seed=gmesh_seed, **options)
        made.append(mesh)
        return mesh

    yield make
    for mesh in made:
        mesh.heal()
        mesh.stop()
        assert mesh.clock.getDelayedCalls() == [], "a timer was left over"
        assert mesh.network.open_connections() == [], "a connection was left over"


@pytest.fixture
def joined_mesh(memory_mesh: Callable[..., MemoryMesh]) -> Callable[..., MemoryMesh]:
    """
    A function that makes a L{MemoryMesh} of clients with these names, which reach each other by a relay.

    C{joined_mesh("thermostat", "boiler")["boiler"].client()} is the L{gmesh.client.Mesh} of a program there.
    """

    def make(*names: str, **options: Any) -> MemoryMesh:
        mesh = memory_mesh(**options)
        mesh.add("relay", "relay")
        for name in names:
            mesh.add(name, "client", peers=["relay"])
        mesh.start()
        mesh.run_until(lambda: all(mesh[name].reaches(*names) for name in names))
        return mesh

    return make


@pytest.fixture
def engine_mesh(gmesh_seed: int) -> Iterator[Callable[..., EngineMesh]]:
    """A function that makes an L{EngineMesh}: a thousand nodes of routing without sessions."""
    made: list[EngineMesh] = []

    def make(**options: Any) -> EngineMesh:
        mesh = EngineMesh(seed=gmesh_seed, **options)
        made.append(mesh)
        return mesh

    yield make
    for mesh in made:
        mesh.stop()
