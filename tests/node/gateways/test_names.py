# SPDX-License-Identifier: MIT
"""Names of hosts that are nodes and services; no other leads anywhere."""

from __future__ import annotations

import pytest

from gmesh.errors import RequestRefused
from gmesh.node.gateways.names import read_host


@pytest.mark.parametrize(
    ("host", "port", "found"),
    [
        ("pump-07.gmesh", 80, ("pump-07", "http")),
        ("pump-07.gmesh", 8080, ("pump-07", "tcp-8080")),
        ("pump-07.gmesh.", 443, ("pump-07", "tcp-443")),
        ("PUMP-07.GMesh", 80, ("pump-07", "http")),
        ("web.pump-07.gmesh", 80, ("pump-07", "web")),
        ("web.pump-07.gmesh", 12345, ("pump-07", "web")),
        ("gmesh.gmesh", 80, ("gmesh", "http")),
    ],
)
def test_a_name_of_the_mesh(host: str, port: int, found: tuple[str, str]) -> None:
    """The port says the service, unless the name does."""
    assert read_host(host, port) == found


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "10.0.0.1",
        "127.0.0.1",
        "[::1]",
        "localhost",
        "pump-07",
        "gmesh",
        ".gmesh",
        "",
        "evil.gmesh.example.com",
        "pump-07.gmesh..",
        "a.b.c.gmesh",
        "_echo.pump-07.gmesh",
        "pump 07.gmesh",
        "pump-07gmesh",
        "\x00.gmesh",
        "x" * 300 + ".gmesh",
    ],
)
def test_any_other_name_is_outside(host: str) -> None:
    """Names of the Internet, addresses, this host: a proxy of the mesh is no open proxy."""
    with pytest.raises(RequestRefused) as refused:
        read_host(host, 80)
    assert refused.value.reason == "outside"
    assert "\x00" not in refused.value.detail
