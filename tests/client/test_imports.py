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
