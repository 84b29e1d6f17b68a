# SPDX-License-Identifier: MIT
"""The smallest site: links and the authority on one port with one certificate; and a host behind it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from live.node_rig import ask, until
from mesh.sockets_world import Authority

pytestmark = pytest.mark.live


def test_d5_links_and_the_authority_on_one_port(
    gmesh: Callable[..., Any],
    start: Callable[..., Any],
    free_port: Callable[[], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    The anchor takes links; joins, requests and the operator's commands go on to the authority.

    A host that does not trust the authority's certificate joins by the anchor, and lives by it.
    """
    port = free_port()
    files = tmp_path / "tls"
    files.mkdir()
    trusted = Authority(files)
    served, _ = trusted.endpoint("localhost", port=port)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted.file))
    url, local, path = f"https://localhost:{port}", f"http://127.0.0.1:{free_port()}", tmp_path / "web.sock"
    gmesh("init", "net", "--network", "lab", "--authority-url", url, "--anchor", f"b=wss://localhost:{port}/")
    (tmp_path / "net/operator/authority.json").write_text(json.dumps({"urls": [local, url]}))
    authority = start(
        "gmesh-authority", "--state", "net/authority", "--listen", f"haproxy:unix:{path}:mode=600",
        "--listen", f"tcp:{local.rpartition(':')[2]}:interface=127.0.0.1",
    )  # fmt: skip
    authority.wait_for("ready")
    admin = ("admin", "--operator", "net/operator")
    gmesh(
        "join", "-", "--state", "b", stdin=gmesh(*admin, "invite", "--name", "b", "--role", "anchor").stdout
    )
    plain = free_port()
    b = start(
        "gmesh-node", "--state", "b", "--listen", f"ws:{served}", "--behind", f"unix:{path}",
        "--listen", f"tcp:{plain}:interface=127.0.0.1", "--relay-joins",
    )  # fmt: skip
    b.wait_for("listening on")
    (tmp_path / "net/operator/authority.json").write_text(json.dumps({"urls": [url]}))  # as on other hosts
    gmesh(
        "join", "-", "--state", "a", stdin=gmesh(*admin, "invite", "--name", "a", "--role", "client").stdout
    )
    a = start("gmesh-node", "--state", "a", "--tls-strict")
    a.wait_for("local API")
    until(lambda: [peer["over"] for peer in ask(tmp_path / "a", "GET", "/v1/peers")[1]] == ["wss"])
    until(lambda: all(row["numbers"] for row in json.loads(gmesh(*admin, "nodes", "--json").stdout)))
    until(lambda: gmesh("ping", "b", "--state", "a", check=False).returncode == 0)
    assert ask(tmp_path / "a", "GET", "/v1/status")[1]["authority"]["reachable"]
    behind = ("--name", "c", "--role", "client", "--anchor", f"wss://localhost:{port}/")
    invite = gmesh(*admin, "invite", *behind).stdout
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "Enrolled as c" in gmesh("join", "-", "--state", "c", stdin=invite).stdout
    c = start("gmesh-node", "--state", "c", "--peer", f"127.0.0.1:{plain}")
    c.wait_for("local API")
    until(lambda: ask(tmp_path / "c", "POST", "/v1/ping", {"node": "a"})[0] == 200)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted.file))
    gmesh(*admin, "revoke", "c")
    gmesh(*admin, "revoke", "a")
    until(lambda: ask(tmp_path / "b", "GET", "/v1/peers")[1] == [])
    for each in (a, c, b, authority):
        each.stop()
