# SPDX-License-Identifier: MIT
"""A grid of honest relays that every liar is put into; what must hold afterwards is checked at the end."""

from __future__ import annotations

from collections.abc import Iterator

import networkx as nx
import pytest
from routing.oracle import check_databases, check_paths, named

from gmesh.testing.engine_mesh import EngineMesh


@pytest.fixture
def grid() -> Iterator[EngineMesh]:
    """Five by five relays: n0000 in one corner, n0024 in the other, n0012 in the middle."""
    mesh = EngineMesh(seed=9)
    mesh.build(named(nx.grid_2d_graph(5, 5)))
    mesh.run(2)
    yield mesh
    check_paths(mesh)
    check_databases(mesh)
    mesh.stop()
