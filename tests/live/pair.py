# SPDX-License-Identifier: MIT
"""Two real nodes with a link."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gmesh.cli.demo_ports import Ports
from gmesh.testing.processes import ProcessMesh

__all__ = ["two_nodes"]


@contextmanager
def two_nodes(directory: Path) -> Iterator[ProcessMesh]:
    """The anchor pump-07 and the client desk, started, and stopped at the end."""
    mesh = ProcessMesh(directory)
    with Ports() as ports:
        port = ports()
        mesh.add("pump-07", "anchor", arguments=["--listen", f"tcp:{port}:interface=127.0.0.1"])
        mesh.add("desk", "client", arguments=["--peer", f"127.0.0.1:{port}"])
        try:
            for node in mesh.nodes.values():
                node.start()
            mesh.wait(lambda: mesh["desk"].reaches("pump-07"))
            yield mesh
        finally:
            mesh.stop()
