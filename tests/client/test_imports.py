# SPDX-License-Identifier: MIT
"""L{gmesh.client} is light: programs pay for what they use."""

from __future__ import annotations

import subprocess
import sys

import pytest

import gmesh.client


def modules_after(statement: str) -> set[str]:
    """What a statement imports in a new interpreter; Debian's has C{zope} from the start."""
    code = f"import sys\nbefore = set(sys.modules)\n{statement}\nprint(*set(sys.modules) - before)"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout.split()
    )


@pytest.mark.parametrize(
    "statement", ["import gmesh.client", "from gmesh.client import open_socket, SocketRefused"]
)
def test_a_blocking_program_imports_no_twisted(statement: str) -> None:
    assert not {name for name in modules_after(statement) if name.startswith(("twisted", "zope"))}


def test_the_endpoints_import_little_beyond_twisteds() -> None:
    """Nothing of the daemon, no cryptography, no web."""
    ours = modules_after("from gmesh.client import MeshClientEndpoint, MeshServerEndpoint")
    theirs = modules_after("import twisted.internet.endpoints")
    assert {name for name in ours - theirs if name.split(".")[0] not in ("gmesh", "json", "_json")} == set()
    assert {name for name in ours if name.startswith("gmesh.") and name.count(".") == 1} == {
        "gmesh.addresses",
        "gmesh.client",
        "gmesh.errors",
        "gmesh.interfaces",
        "gmesh.stream_errors",
    }


def test_endpoint_strings_cost_every_program_next_to_nothing() -> None:
    """Twisted imports the plugin for any string of any program."""
    ours = modules_after("import twisted.plugins.gmesh_endpoints")
    theirs = modules_after("import twisted.plugin, twisted.internet.interfaces")
    assert {name for name in ours - theirs if not name.startswith("twisted.plugins")} == {
        "gmesh",
        "gmesh.client",
        "gmesh.client.parsers",
    }


def test_every_name_is_there() -> None:
    """And no other."""
    for name in gmesh.client.__all__:
        assert getattr(gmesh.client, name).__name__ == name
    with pytest.raises(AttributeError):
        _ = gmesh.client.mux


def test_the_mesh_costs_little_beyond_the_endpoints_of_twisted() -> None:
    """Two modules of Python and ours: no cryptography, no web, nothing of the daemon."""
    ours = modules_after("from gmesh.client import Mesh")
    theirs = modules_after("import twisted.internet.endpoints")
    assert {name for name in ours - theirs if name.split(".")[0] not in ("gmesh", "json", "_json")} == set()
    assert len(ours - theirs) < 40
    assert not {name for name in ours if name.startswith(("gmesh.node", "gmesh.wire", "gmesh.trust"))}


@pytest.mark.parametrize(
    "statement",
    [
        "from gmesh.client import BlockingMesh, BlockingStream",
        "import gmesh.cli.main, gmesh.cli.messages, gmesh.client.blocking_mesh",
    ],
)
def test_scripts_and_the_commands_of_messages_start_light(statement: str) -> None:
    """No Twisted, no cryptography: what C{gmesh send} and C{receive} import."""
    ours = modules_after(statement)
    heavy = ("twisted", "zope.interface", "cryptography", "nacl", "rich", "gmesh.node", "gmesh.endtoend")
    assert not {name for name in ours if name.startswith(heavy)}
    assert len(ours) < 230
