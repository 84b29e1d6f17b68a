# SPDX-License-Identifier: MIT
"""L{gmesh.client.where}: programs find the socket as the C{gmesh} command does."""

from __future__ import annotations

import pytest

from gmesh.client.where import find_socket


@pytest.mark.parametrize(
    ("given", "environment", "found"),
    [
        (None, {}, "/run/gmesh-node/node.sock"),
        (None, {"GMESH_STATE": "/srv/node"}, "/srv/node/node.sock"),
        (None, {"GMESH_STATE": ""}, "/run/gmesh-node/node.sock"),
        ("/tmp/other", {"GMESH_STATE": "/srv/node"}, "/tmp/other"),
    ],
)
def test_the_socket_is_the_one_given_or_of_the_state_or_of_the_system(
    given: str | None, environment: dict[str, str], found: str
) -> None:
    assert find_socket(given, environment) == found
